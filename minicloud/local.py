"""The notebook's side of the local cloud: start it, see it, break it, end it."""

import contextlib
import gc
import html
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

START_SECONDS = 60
END_SECONDS = 60  # it takes less than one; a busy disk can make the deletion of some thousand files slow


class CloudError(RuntimeError):
    """The local cloud could not do what was asked; the message says why and what to do."""


class Cloud:
    """The local cloud of this kernel. In a notebook, `cloud` alone on a line shows what runs in it."""

    minute = 1  # seconds from one data point of a service's metrics to the next; on AWS it is 60

    def __init__(self, region: str = "us-east-1"):
        self.region = region
        self.pid = os.getpid()
        self._process = _start(region)
        hello = _first_line(self._process)
        self.url = hello["environment"]["AWS_ENDPOINT_URL"]
        self.run = hello["run"]  # its directory, with the logs
        self.ca_bundle = hello["ca_bundle"]  # file of the authorities that sign the databases' certificates
        self.address = hello["address"]  # of this notebook, as security groups see it
        self._before = _set_environment(hello["environment"])

    @property
    def is_running(self) -> bool:
        """Whether the cloud process is there."""
        return self._process.poll() is None

    def resources(self) -> list[dict]:
        """Return a row for each engine process: resource, engine, role, zone, endpoint, state."""
        return self._ask("resources")

    def crash(self, name: str) -> None:
        """Kill the primary of DB instance `name` with SIGKILL, as if its host were lost. Raises CloudError."""
        self._ask("crash", name)

    def cut(self, source: str, replica: str | None = None) -> None:
        """Cut the link between an instance and its read replica (or its standby): packets vanish, nothing is closed."""
        self._ask("cut", *filter(None, (source, replica)))

    def heal(self, source: str, replica: str | None = None) -> None:
        """Mend a link that was cut."""
        self._ask("heal", *filter(None, (source, replica)))

    def close(self) -> None:
        """End the cloud and everything in it, and restore the environment; calling it twice is fine."""
        if self.is_running:
            self._process.stdin.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}
        _forget_boto3_session()

    def _ask(self, verb: str, *names: str):
        if not self.is_running:
            raise CloudError("This local cloud has ended. Run `cloud = connect()` again to start a new one.")
        body = json.dumps(names).encode() if verb != "resources" else None
        request = urllib.request.Request(f"{self.url}/minicloud/{verb}", data=body,
                                         headers={"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise CloudError(json.load(error)["error"]) from None

    def __repr__(self) -> str:
        if not self.is_running:
            return "The local cloud has ended."
        rows = self.resources()
        if not rows:
            return f"The local cloud runs at {self.url} (Region {self.region}); nothing has been created in it yet."
        return "\n".join("  ".join(str(value).ljust(18) for value in row) for row in [rows[0].keys(), *map(dict.values, rows)])

    def _repr_html_(self) -> str:
        rows = self.resources() if self.is_running else []
        if not rows:
            return f"<p>{html.escape(repr(self))}</p>"
        head = "".join(f'<th scope="col">{name}</th>' for name in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row.values()) + "</tr>"
                       for row in rows)
        return (f'<table class="minicloud"><caption>What runs in the local cloud</caption>'
                f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


_cloud: Cloud | None = None


def connect(region: str = "us-east-1") -> Cloud:
    """Start the local cloud for this kernel, or return the one that runs, and lead every AWS SDK to it.

    Raises CloudError when it cannot start, or when boto3 clients exist already: those would go to the real AWS.
    """
    global _cloud
    if _cloud and _cloud.is_running and _cloud.pid == os.getpid():
        return _cloud
    _refuse_older_clients()
    _cloud = Cloud(region)
    _forget_boto3_session()
    return _cloud


def _start(region: str) -> subprocess.Popen:
    # The cloud has nothing to do with the reader's own AWS settings.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.Popen([sys.executable, "-m", "minicloud", "--region", region, "kernel", str(os.getpid())],
                            start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment)


def _first_line(process: subprocess.Popen) -> dict:
    line = process.stdout.readline()
    if not line:
        process.wait(START_SECONDS)
        last = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        raise CloudError(f"The local cloud did not start: {' '.join(last) or 'it said nothing'}")
    hello = json.loads(line)
    if "error" in hello:
        raise CloudError(hello["error"])
    process.stdout.close()
    process.stderr.close()
    return hello


def _set_environment(environment: dict[str, str]) -> dict[str, str | None]:
    """Set the variables, take away those that would lead elsewhere, and return what was there before."""
    wanted = {name: None for name in os.environ if name.startswith("AWS_")} | environment
    for name in ("NO_PROXY", "no_proxy"):
        wanted[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    return before


def _forget_boto3_session() -> None:
    """Make boto3 read the environment anew at its next call."""
    if "boto3" in sys.modules:
        sys.modules["boto3"].DEFAULT_SESSION = None


def _refuse_older_clients() -> None:
    """Raise CloudError when there are boto3 clients that lead to the real AWS; those of an ended local cloud do not."""
    if "botocore.client" not in sys.modules:
        return
    from botocore.client import BaseClient

    old = set()
    for thing in gc.get_objects():
        with contextlib.suppress(Exception):
            if isinstance(thing, BaseClient) and not thing.meta.endpoint_url.startswith("http://127.0.0.1:"):
                old.add(thing.meta.service_model.service_name)
    if old:
        raise CloudError(f"There are boto3 clients already ({', '.join(sorted(old))}); they were made before connect() and "
                         "would talk to the real AWS. Restart the kernel and run connect() before making clients.")
