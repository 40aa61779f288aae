"""A database server of any engine: the promises that `postgres.py` and `mariadb.py` keep.

A `Server` is one engine process over one node directory. It listens on a Unix socket in that directory and nowhere
else; clients and other servers reach it through an endpoint (`endpoint.py`). The instance logic (`rds/instance.py`)
composes servers into Multi-AZ pairs, replicas and restores without knowing the engine.
"""

import datetime
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from minicloud import platforms
from minicloud.supervisor import Process, Supervisor, tail


class EngineUnavailable(RuntimeError):
    """The engine's programs are not on this machine; the message says what to install."""


class EngineFailed(RuntimeError):
    """A server did not do what it was told; the message holds its last log lines."""


@dataclass(frozen=True)
class Link:
    """How a standby reaches its source: an endpoint of ours, that stays when the source's role moves."""

    host: str
    port: int
    name: str  # the standby's name, as the source's statistics show it


@dataclass(frozen=True)
class Statistics:
    """What a server says of itself. Counts and times (seconds) are those since its start."""

    connections: int  # of clients; the cloud's own are not counted
    reads: int  # calls to the operating system for data, which may have it in memory; so for writes
    writes: int
    read_seconds: float | None  # None: the engine does not measure it
    write_seconds: float | None
    lag: float | None  # of a standby: how old its data are, in seconds; -1: it is not replicating; None: no standby
    sessions: list[tuple[str, str, str, str]]  # at work now: wait type and wait (both "CPU": none), user, statement
    processes: list[int]  # the process ids of the server


@dataclass
class Server:
    """One database server process.

    `start` and everything that talks to the server raise EngineFailed; the methods may be called from any thread, one
    at a time for each server.
    """

    supervisor: Supervisor
    node: Path  # this server's own directory: data, socket, log
    secret: str  # password of the administrator that only the cloud knows, the same in all copies of the data
    archive_to: Path | None = None  # where log segments are shipped, None when automated backups are off
    on_exit: Any = None  # called with the server when it ends without being told to
    process: Process | None = field(default=None, init=False)

    ADMIN: ClassVar[str] = "rdsadmin"
    READY_SECONDS: ClassVar[float] = 60
    READ_ONLY: ClassVar[dict[str, str]]  # the parameters that make new sessions read-only, the administrator's excepted
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __post_init__(self):
        if not self.node.exists():
            self.node.mkdir(mode=0o700, parents=True)
            platforms.give_to_engine(self.node)

    # What every engine provides

    @classmethod
    def version(cls) -> str:
        """Return the engine's version, such as "18.6". Raises EngineUnavailable."""
        raise NotImplementedError

    @property
    def socket(self) -> Path:
        """The Unix socket the server listens on."""
        raise NotImplementedError

    def create(self) -> None:
        """Make a fresh data directory (from a template that the first call makes)."""
        raise NotImplementedError

    def command(self) -> list:
        """Return the argv that runs the server in the foreground."""
        raise NotImplementedError

    def connect(self, **options):
        """Return a DB-API connection of the administrator, in autocommit mode."""
        raise NotImplementedError

    def create_master(self, user: str, password: str, database: str | None) -> None:
        """Create the master user, with the rights RDS gives it (no superuser), and the first database."""
        raise NotImplementedError

    def set_password(self, user: str, password: str) -> None:
        """Change a user's password."""
        raise NotImplementedError

    def parameters(self) -> list[dict]:
        """Return the engine's parameters in DescribeDBParameters' shape: ParameterName, ParameterValue, Description,
        ApplyType ("static", "dynamic"), DataType, AllowedValues, IsModifiable."""
        raise NotImplementedError

    def write_parameters(self, values: dict[str, str]) -> None:
        """Write the parameter group's settings to the server's configuration; they hold from the next start."""
        raise NotImplementedError

    def reload(self) -> None:
        """Make the running server take over the written values of dynamic parameters."""
        raise NotImplementedError

    def backup_to(self, directory: Path) -> None:
        """Copy the running server's data, consistently, into the new `directory`."""
        raise NotImplementedError

    def use_copy(self, directory: Path) -> None:
        """Take a backup (which stays as it is) as this stopped server's data."""
        raise NotImplementedError

    def clone(self, source: "Server") -> None:
        """Take a fresh copy of the running `source` as this stopped server's data."""
        copy = self.node / "copy"
        source.backup_to(copy)
        self.use_copy(copy)
        shutil.rmtree(copy)

    def follow(self, link: Link, *, synchronous: bool) -> None:
        """Make this stopped server, holding a copy of the source, a standby of it from the next start on."""
        raise NotImplementedError

    def wait_for(self, standby: str | None) -> None:
        """From now on answer a commit only when the standby of that name has it; None: answer at once."""
        raise NotImplementedError

    def is_in_sync(self, standby: "Server", name: str) -> bool:
        """Say whether every commit this server has answered, and will answer, is on the standby."""
        raise NotImplementedError

    def promote(self) -> None:
        """Make this running standby a primary that takes writes; it has applied all the log it received."""
        raise NotImplementedError

    def take_rest(self, lost: "Server") -> None:
        """Let this standby have what its source `lost`, which is down, logged and did not send: its files are there."""
        raise NotImplementedError

    def sessions(self) -> int:
        """Return the number of sessions besides the administrator's and replication's."""
        raise NotImplementedError

    def end_sessions(self) -> None:
        """End the sessions of all clients; return when none of them can commit any more."""
        raise NotImplementedError

    def position(self) -> Any:
        """Return how far this server's log goes (a primary) or is applied (a standby); comparable, engine's own unit."""
        raise NotImplementedError

    def is_following(self) -> bool:
        """Say whether this standby's replication is running now."""
        raise NotImplementedError

    def statistics(self) -> Statistics:
        """Return what the server says of itself now, by a connection of its own: it may be called beside any other
        method, by one thread, and waits as long as the server does not answer."""
        raise NotImplementedError

    def ship_log(self) -> datetime.datetime:
        """Ship the log written so far to the archive; return the time (UTC) up to which a restore is now possible."""
        raise NotImplementedError

    def end_log(self) -> None:
        """See that the next `ship_log` makes every time until then a possible `until` of a restore."""

    def restore(self, base: Path, archive: Path, until: datetime.datetime | None) -> None:
        """Make this new server's data from a base backup plus the archived log up to `until` (None: all of it), by
        real log replay. It is then stopped, and a primary at its next start."""
        raise NotImplementedError

    # The same for every engine

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.node / "log"

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.status is None

    def answers(self) -> bool:
        """Say whether the server answers a query: one that hangs is running, and does not."""
        try:
            self.position()
        except EngineFailed:
            return False
        return True

    def start(self) -> None:
        """Start the server; return when it answers SQL."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        self.process = process = self.supervisor.spawn(self.command(), log=self.log, cwd=self.node,
                                                       death_signal=self.death_signal)
        deadline = time.monotonic() + self.READY_SECONDS
        while True:
            try:
                self.connect().close()
                break
            except Exception as error:
                if not self.is_running or time.monotonic() > deadline:
                    self.kill()
                    raise EngineFailed(f"{type(self).__name__} did not start: {tail(self.log, begin)}") from error
            process.wait(0.01)
        if self.on_exit:
            process.notify(lambda _: self.on_exit(self))

    def stop(self, seconds: float = 20) -> None:
        """Shut the server down cleanly (by force after `seconds`); nothing happens when it is not running."""
        if self.process is None:
            return
        self.process.notify(None)
        self.process.signal(self.stop_signal)
        if not self.process.wait(seconds):
            self.kill()
        self.process = None

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def kill(self) -> None:
        """Kill the server and its children with SIGKILL and clear away what that leaves."""
        if self.process is not None:
            self.process.notify(None)
            self.process.kill_tree()
            self.process = None
        self.after_kill()

    def crash(self) -> None:
        """Kill the server as a lost host would, and let the supervisor find out."""
        self.process.kill_tree()

    def after_kill(self) -> None:
        """Clear away what a killed server leaves behind: children that have not noticed yet, shared memory."""
        self.supervisor.kill_strays(self.node)

    def remove(self) -> None:
        """Kill the server and delete its directory."""
        self.kill()
        shutil.rmtree(self.node, ignore_errors=True)


def write_whole(path: Path, text: str) -> Path:
    """Write a file that a server reads, whole or not at all, for the engines' account only; return its path."""
    part = path.with_name(path.name + ".new")
    part.touch(mode=0o600)
    part.write_text(text)
    platforms.give_to_engine(part)
    return part.rename(path)
