"""The cloud process: moto's API server, the data planes behind it, and the supervisor of their engines."""

import io
import json
import os
import secrets
import sys
import threading
import warnings
from pathlib import Path

import botocore.loaders
from botocore.credentials import Credentials
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.moto_server.werkzeug_app import (
    BackendRequest,
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from minicloud import certificates, cloudwatch, endpoint, rundir
from minicloud.dynamodb.plane import Plane as DynamoDB
from minicloud.endpoint import Endpoints
from minicloud.rds import aurora, insights, monitoring
from minicloud.rds.instance import Host
from minicloud.rds.network import NOTEBOOK
from minicloud.rds.plane import record_traceback
from minicloud.supervisor import Supervisor

WAITER_SECONDS = 0.25  # between a waiter's looks; on AWS it is 30, and a local database is there in one
MAX_LINE = 65537  # bytes of a request's line or header, one more than http.server allows


class Cloud:
    """The local cloud of one owner: started, it serves until `supervisor.serve()` returns; then `end` it."""

    def __init__(self, kernel: int | None = None, owner_pipe: int | None = None):
        self.supervisor = Supervisor(kernel, owner_pipe)
        self.run = rundir.create(kernel)
        self.log = self.run / "cloud.log"
        self.owner = Credentials("minicloud", secrets.token_urlsafe(24))
        self.ca_bundle = certificates.create_authority(self.run)
        endpoints = Endpoints(self.supervisor, self.run / "endpoint.log", self.run / "server.pem")
        host = Host(self.supervisor, endpoints, self.run, secrets.token_urlsafe(24), self.owner)
        self.dynamodb = DynamoDB(self.supervisor, self.run, self.log)
        self.planes = [*aurora.serve(host, self.log), self.dynamodb]
        self._watch()
        _explain_what_is_missing(self.log)
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.http = make_server(endpoint.HOST, 0, self, threaded=True, request_handler=_QuietHandler)
        threading.Thread(target=self.http.serve_forever, daemon=True, name="http").start()

    def _watch(self) -> None:
        """Begin to measure the servers and to evaluate the alarms."""
        instances, clusters, _ = self.planes
        insights.Responses.monitor = monitoring.Monitor(
            lambda: [*monitoring.of_instances(instances.instances), *monitoring.of_members(clusters.members)],
            instances.record_failure)
        cloudwatch.serve(instances.record_failure)

    @property
    def url(self) -> str:
        """The address of the AWS API."""
        return f"http://{endpoint.HOST}:{self.http.port}"

    def environment(self, region: str) -> dict[str, str]:
        """Return the environment variables that lead every AWS SDK and the AWS CLI here, and nowhere else.

        Version 1 of the CLI overrules AWS_ENDPOINT_URL for RDS in us-east-1: there it needs `--endpoint-url`. Without
        it, it fails at AWS, as these credentials open nothing.
        """
        nowhere = str(self.run / "no-aws-config")
        return {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": region, "AWS_REGION": region,
                "AWS_ACCESS_KEY_ID": self.owner.access_key, "AWS_SECRET_ACCESS_KEY": self.owner.secret_key,
                "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": nowhere,
                "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_DATA_PATH": str(_quick_waiters(self.run / "aws"))}

    def __call__(self, environ, start_response):
        """The WSGI application: `/minicloud/…` is ours, everything else is the AWS API."""
        if environ["PATH_INFO"].startswith("/minicloud/"):
            return self._control(Request(environ))(environ, start_response)
        if "/pi/aws4_request" in environ.get("HTTP_AUTHORIZATION", ""):  # moto has no such service
            request = BackendRequest(environ)
            status, headers, body = insights.Responses.dispatch(request, request.url, request.headers)
            return Response(body, status, headers)(environ, start_response)
        try:
            return self.moto(environ, start_response)
        except Exception:
            return self._no_service(environ)(environ, start_response)

    def _no_service(self, environ: dict) -> Response:
        """Answer, in the form of the called service, that it is not here: moto knows or has installed no such backend."""
        record_traceback(self.log)
        service = self.moto.infer_service_region_host(environ, environ["PATH_INFO"]).split(".")[0]
        answer = BaseResponse(service_name=service)
        request = BackendRequest(environ)
        answer.setup_class(request, request.url, request.headers)
        status, headers, body = answer.serialized(ActionResult(ApiError(
            "NotImplemented", f"minicloud does not have the service {service}: it is as wide as the book's cells. "
                              "On AWS the call works.")))
        return Response(body, status, headers)

    def _control(self, request: Request) -> Response:
        """Answer the notebook's `cloud` object: GET resources; POST crash, cut, heal with the names as JSON."""
        verb = request.path.removeprefix("/minicloud/")
        try:
            if request.method == "GET" and verb == "resources":
                answer = [row for plane in self.planes for row in plane.resources()]
            elif request.method == "POST" and verb in ("crash", "cut", "heal"):
                answer = self._fault(verb, request.get_json())
            else:
                return Response(json.dumps({"error": f"no such order: {request.method} {verb}"}), 404)
        except LookupError as error:
            return Response(json.dumps({"error": error.args[0]}), 400)
        except Exception as error:
            record_traceback(self.log)
            return Response(json.dumps({"error": f"The local cloud failed at {verb}: {error} Its log: {self.log}"}), 500)
        return Response(json.dumps(answer), content_type="application/json")

    def _fault(self, verb: str, names: list[str]) -> None:
        problems = []
        for plane in self.planes:
            try:
                return getattr(plane, verb)(*names)
            except LookupError as error:
                problems.append(error.args[0])
        raise LookupError(" ".join(problems))

    def end(self) -> None:
        """Kill every process and delete the run directory."""
        self.supervisor.kill_everything()
        rundir.remove(self.run)


class ApiError(ServiceException):
    """An error of ours in AWS's form. (moto takes an exception's own module for the service it belongs to.)"""


class _QuietHandler(MotoRequestHandler):
    """Logs no request: the log is for what went wrong. What is DynamoDB's goes to its plane as it came."""

    def log_request(self, *_):
        pass

    def handle_one_request(self):
        self.close_connection = True
        lines = [self.rfile.readline(MAX_LINE)]
        while lines[-1].strip():
            lines.append(self.rfile.readline(MAX_LINE))
        if len(lines) > 1 and self.server.app.dynamodb.answer(self, b"".join(lines)):
            self.close_connection = False
            return
        self.raw_requestline, body = lines[0], self.rfile
        self.rfile = io.BytesIO(b"".join(lines[1:]))
        understood = bool(self.raw_requestline) and self.parse_request()
        self.rfile = body
        if understood:
            self.run_wsgi()


def _quick_waiters(directory: Path) -> Path:
    """Write botocore's RDS waiters with a short delay and the same patience; return the directory for AWS_DATA_PATH."""
    loader = botocore.loaders.Loader()
    version = loader.determine_latest_version("rds", "waiters-2")
    model = loader.load_service_model("rds", "waiters-2", version)
    for waiter in model["waiters"].values():
        waiter["maxAttempts"] = int(waiter["maxAttempts"] * waiter["delay"] / WAITER_SECONDS)
        waiter["delay"] = WAITER_SECONDS
    path = directory / "rds" / version
    path.mkdir(parents=True, exist_ok=True)
    (path / "waiters-2.json").write_text(json.dumps(model))
    return directory


def _explain_what_is_missing(log: Path) -> None:
    """Make moto answer in AWS's form where it has no operation or fails inside: its own answer is an HTML page."""
    warnings.filterwarnings("ignore", message="Exception.ApiError. with code")
    moto_call = BaseResponse.call_action

    def call_action(self):
        name = f"{self.boto3_service_name}.{self._get_action() or 'this call'}"
        try:
            answer = moto_call(self)
        except NotImplementedError:
            answer = None
        except Exception as error:
            record_traceback(log)
            return self.serialized(ActionResult(ApiError(
                "InternalFailure", f"The local cloud failed at {name}: {type(error).__name__}: {error}. Its log: {log}")))
        if answer is None or answer[0] == 404 and not answer[2]:
            return self.serialized(ActionResult(ApiError(
                "NotImplemented", f"minicloud does not have {name}: it is as wide as the book's cells. "
                                  "On AWS the call works.")))
        return answer

    BaseResponse.call_action = call_action


def serve_kernel(kernel: int, region: str) -> None:
    """Serve the notebook kernel of that pid: its end, or that of standard input, ends the cloud.

    The first line on standard output is JSON: {"environment", "run", "ca_bundle", "address"} or {"error": sentence}.
    """
    try:
        cloud = Cloud(kernel, owner_pipe=sys.stdin.fileno())
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    try:
        print(json.dumps({"environment": cloud.environment(region), "run": str(cloud.run),
                          "ca_bundle": str(cloud.ca_bundle), "address": NOTEBOOK}), flush=True)
        log = os.open(cloud.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        cloud.supervisor.serve()
    finally:
        cloud.end()


def serve_foreground(region: str) -> None:
    """Serve until Ctrl-C or SIGTERM; print the `export` lines that lead other programs here."""
    cloud = Cloud()
    try:
        for name, value in cloud.environment(region).items():
            print(f"export {name}={value}")
        print(f"# The local cloud runs at {cloud.url}. Ctrl-C ends it and everything in it.", flush=True)
        cloud.supervisor.serve()
    finally:
        cloud.end()
