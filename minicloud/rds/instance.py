"""A DB instance: servers composed into what RDS promises (Multi-AZ, read replicas, log archive, snapshots, restores).

Nothing here knows the API or the engine: `api.py` speaks AWS's words, `postgres.py` and `mariadb.py` the engines'.

The rule that makes a failover lose nothing: `in_sync` is true only while every commit that the primary has answered is
on the standby. It is set after the primary began to wait for the standby, and cleared before it stops waiting.
"""

import contextlib
import datetime
import itertools
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from botocore.credentials import Credentials

from minicloud import endpoint, platforms
from minicloud.endpoint import Endpoints
from minicloud.engines.engine import EngineFailed, Link, Server
from minicloud.supervisor import ProgramFailed, Supervisor

PATIENCE_SECONDS = 10  # a standby or replica out of touch for longer is replaced


@dataclass
class Host:
    """What instances are built from: processes, endpoints, directories and the administrator's password."""

    supervisor: Supervisor
    endpoints: Endpoints
    run: Path
    secret: str
    owner: Credentials  # those that the cloud gave the notebook

    def __post_init__(self):
        self._numbers = itertools.count(1)

    def directory(self, kind: str, *, make: bool = True) -> Path:
        """Return a new directory for a node ("n"), an archive ("a") or a backup ("b"); short, for its socket's sake."""
        path = self.run / f"{kind}{next(self._numbers)}"
        if make:
            path.mkdir(mode=0o700)
            platforms.give_to_engine(path)
        return path


class Instance:
    """One DB instance. Its methods block until the thing is done; callers give them a thread."""

    def __init__(self, host: Host, name: str, engine: type[Server], zones: list[str], *,
                 tell: Callable[..., None] = lambda event, detail="": None):
        self.host, self.name, self.engine, self.zones = host, name, engine, zones
        self.guard = None  # of its endpoint: see `guard.Guard`
        self.tell = tell  # called with the name of an event (see plane.EVENTS), and a detail
        self.lock = threading.RLock()
        self.primary: Server | None = None
        self.standby: Server | None = None
        self.in_sync = False
        self.multi_az = False
        self.port: int | None = None
        self.source: Instance | None = None
        self.replicas: list[Instance] = []
        self.cut_links: set[str] = set()
        self.archive: Path | None = None
        self.base: Path | None = None
        self.earliest: datetime.datetime | None = None
        self.latest: datetime.datetime | None = None
        self.parameters: dict[str, str] = {}  # the group's
        self._in_force: dict[str, str] = {}  # those of the primary's last start: static ones change with the next
        self._troubled_since: float | None = None

    # Coming into being

    def create(self, user: str, password: str, database: str | None) -> None:
        """Make a fresh database with its master user, and open the endpoint."""
        with self.lock:
            self.primary = self._server()
            self.primary.create()
            self._start_primary()
            self.primary.create_master(user, password, database)
            self._open()

    def create_from(self, backup: Path) -> None:
        """Make the database from a snapshot's files."""
        with self.lock:
            self.primary = self._server()
            self.primary.use_copy(backup)
            self._start_primary()
            self._open()

    def create_at(self, source: "Instance", until: datetime.datetime | None) -> None:
        """Make the database as `source` was at `until` (None: as late as its log goes), by replaying its log."""
        with self.lock:
            self.primary = self._server()
            if until:
                source.end_log()
            self.primary.restore(source.base, source.archive, until)
            self._start_primary()
            self._open()

    def create_replica(self, source: "Instance") -> None:
        """Make the database a read replica of `source`: a copy of it that follows its log, asynchronously."""
        with self.lock, source.lock:
            self.source = source
            source.replicas.append(self)
            self._follow_source()
            self._open()

    def _server(self) -> Server:
        return self.engine(self.host.supervisor, self.host.directory("n"), self.host.secret,
                           archive_to=self.archive, on_exit=self._on_exit)

    def _start_primary(self) -> None:
        self.primary.write_parameters(self.parameters)
        self.primary.start()
        self._in_force = self.parameters

    def _open(self) -> None:
        if self.port is None:
            self.port = self.host.endpoints.open(self.name, self.primary.socket, guard=self.guard)
        else:
            self.host.endpoints.point(self.name, self.primary.socket)
            self.host.endpoints.guard(self.name, self.guard)  # it may have been another instance's endpoint

    def _follow_source(self) -> None:
        fresh = self._server()
        try:
            fresh.clone(self.source.primary)
        except Exception:
            fresh.remove()  # what the replica has, if anything, is better than nothing
            raise
        if self.primary:
            self.primary.remove()
        self.primary = fresh
        self.primary.follow(self._link(self.source, self._source_link), synchronous=False)
        self._start_primary()

    def _link(self, source: "Instance", name: str) -> Link:
        """Return the way to `source`'s primary: an endpoint, so that it can be cut and can follow a failover."""
        self.host.endpoints.close(name)
        port = self.host.endpoints.open(name, source.primary.socket)
        return Link(endpoint.HOST, port, name.replace(">", "-to-").replace("/", "-")[-63:])  # PostgreSQL keeps no more

    # Multi-AZ

    @property
    def standby_link(self) -> str:
        """The name of the link between primary and standby."""
        return f"{self.name}>standby"

    def add_standby(self) -> None:
        """Build a standby in the other zone; return when the primary waits for it at every commit."""
        with self.lock:
            self.multi_az = True
            link = self._link(self, self.standby_link)
            standby = self.standby = self._server()
            standby.clone(self.primary)
            standby.follow(link, synchronous=True)
            standby.write_parameters(self._in_force)
            standby.start()
            standby.write_parameters(self.parameters)
            standby.reload()
            until(standby.is_following, "the standby to follow")
            self.primary.wait_for(link.name)
            until(lambda: self.primary.is_in_sync(standby, link.name), "the standby to catch up")
            self.in_sync, self._troubled_since = True, None

    def drop_standby(self) -> None:
        """Go on without a standby."""
        with self.lock:
            self.in_sync = False
            if self.primary and self.primary.is_running and self.source is None:
                self.primary.wait_for(None)
            standby, self.standby = self.standby, None
            if standby:
                standby.remove()
            self.host.endpoints.close(self.standby_link)
            self.cut_links.discard(self.standby_link)

    def fail_over(self, *, planned: bool) -> None:
        """Make the standby the primary behind the same endpoint, then build a new standby where the old primary was.

        Planned: the old primary is shut down first. Otherwise it is lost, and killed to be sure.
        """
        with self.lock:
            self.tell("failover-started")
            lost, self.in_sync = self.primary, False
            self.host.endpoints.point(self.name, None)  # from here on nobody gets an answer from the old primary
            if planned:
                lost.stop(seconds=5)
            lost.kill()
            self.standby.promote()
            self.primary, self.standby = self.standby, None
            self.zones.reverse()
            if planned and self._in_force != self.parameters:
                self.primary.stop()  # a reboot: settings that wait for a restart take hold
                self._start_primary()
            self._open()
            self._lead_replicas()
            self.tell("failover-completed")
            lost.remove()
            self._again(self.add_standby)

    def _lead_replicas(self) -> None:
        for replica in self.replicas:
            if replica.primary:  # else it is still being copied, and has no link yet
                self.host.endpoints.point(f"{self.name}>{replica.name}", self.primary.socket)

    # Faults

    def crash(self) -> None:
        """Kill the primary's processes with SIGKILL. What happens then is up to `_on_exit`, as on a lost host."""
        self.primary.crash()

    def _on_exit(self, server: Server) -> None:
        with self.lock:
            if server.process is None or server.is_running:
                return  # while this waited for the lock, the server was stopped, or started again, on purpose
            try:
                if server is self.standby:
                    self._again(self._replace_standby)
                elif server is self.primary:
                    self._take_over()
            except Exception as error:
                self.tell("failed", str(error))

    def _take_over(self) -> None:
        """Fail over to the standby; without one, or when it is lost as well, recover the primary on its own data."""
        if self.in_sync and self.standby.is_running:
            try:
                return self.fail_over(planned=False)
            except EngineFailed:
                if self.standby is None:  # it is the primary already
                    raise
        self._recover()

    def _replace_standby(self) -> None:
        self.drop_standby()
        self.add_standby()

    def _recover(self) -> None:
        """Start the lost primary again on its own data: crash recovery, without a standby to take over."""
        self.tell("recovery-started")
        self.host.endpoints.point(self.name, None)
        self.drop_standby()
        self.primary.kill()
        self._start_primary()
        if self.source is None:
            self.primary.wait_for(None)
        self._open()
        self._lead_replicas()
        self.tell("recovery-completed")
        if self.multi_az:
            self._again(self.add_standby)

    def _again(self, action: Callable[[], None]) -> None:
        """Do `action`; when a server is lost in the middle of it, its own exit is handled next, or the watch tries."""
        with contextlib.suppress(EngineFailed, ProgramFailed, TimeoutError):
            action()

    def watch(self) -> None:
        """Replace a standby or a replica that has been out of touch for too long. To be called every second or so."""
        if not self.lock.acquire(blocking=False):
            return  # something is being done already
        try:
            if not self._is_troubled():
                self._troubled_since = None
            elif self._troubled_since is None:
                self._troubled_since = time.monotonic()
            elif time.monotonic() - self._troubled_since > PATIENCE_SECONDS:
                self._troubled_since = None
                self._again(self._mend)
        finally:
            self.lock.release()

    def _is_troubled(self) -> bool:
        if self.primary is None or not self.primary.is_running:
            return bool(self.source and self.port)  # its last copy failed: nobody else tries again
        with contextlib.suppress(Exception):
            if self.source:
                return not self.cut_links & {self._source_link} and not self.primary.is_following()
            if self.multi_az:
                return not (self.standby and self.standby.is_running and self.standby.is_following())
        return self.multi_az

    def _mend(self) -> None:
        if self.source:
            with self.source.lock:
                if self.source.primary.answers():
                    self._follow_source()
                    self._open()
        elif self.in_sync and self.standby.is_running and not self.primary.answers():
            self._take_over()  # a hung host: the standby has all that was acknowledged
        else:
            self._replace_standby()

    @property
    def _source_link(self) -> str:
        return f"{self.source.name}>{self.name}"

    # Everyday life

    def stop(self) -> None:
        """Stop the servers, keeping their data and the endpoint's port."""
        with self.lock:
            self.host.endpoints.point(self.name, None)
            self.drop_standby()
            self.end_log()
            self.primary.stop()

    def start(self) -> None:
        """Start again what `stop` stopped."""
        with self.lock:
            self._start_primary()
            self._open()
            if self.multi_az:
                self.add_standby()

    def reboot(self) -> None:
        """Restart the primary in its place; settings that wait for a restart take hold.

        The standby is built anew: PostgreSQL stops replaying on a standby whose max_connections is below the primary's.
        """
        with self.lock:
            self.host.endpoints.point(self.name, None)
            self.drop_standby()
            self.primary.stop()
            self._start_primary()
            self._open()
            self._lead_replicas()
            self.tell("restarted")
            if self.multi_az:
                self._again(self.add_standby)

    def set_parameters(self, values: dict[str, str]) -> None:
        """Write the parameter group's values; dynamic ones hold at once, static ones from the next restart."""
        with self.lock:
            self.parameters = values
            for server in filter(None, (self.primary, self.standby)):
                server.write_parameters(values)
                if server.is_running:
                    server.reload()

    def promote(self) -> None:
        """Make this read replica an instance of its own."""
        with self.lock:
            self.primary.promote()
            self.leave_source()

    def switch_over(self, green: "Instance", old_name: str, seconds: float) -> None:
        """Give this instance's name, endpoint and writes to `green`, a replica of it, and go on read-only as `old_name`.

        Writes stop, green catches up and is promoted: what was acknowledged is on it. When that takes longer than
        `seconds`, or fails, all is as before, and the error is raised.
        """
        with green.lock, self.lock:
            before = self.parameters
            try:
                for instance in (self, green):
                    self.host.endpoints.point(instance.name, None)
                self.set_parameters(before | self.engine.READ_ONLY)
                self.primary.end_sessions()
                end = self.primary.position()
                until(lambda: green.has_caught_up(end), "green to catch up with blue", seconds)
                green.promote()
            except Exception:
                try:
                    self.set_parameters(before)
                finally:
                    self._open()
                    green._open()
                raise
            self.host.endpoints.close(green.name)
            green.name, green.port = self.name, self.port
            green._open()
            self.drop_standby()
            self.multi_az, self.name, self.port = False, old_name, None
            self._open()

    def has_caught_up(self, position) -> bool:
        """Say whether this replica has applied the log up to a position of its source. Raises EngineFailed when it never
        will, as it does not follow any more."""
        if self.primary.position() >= position:
            return True
        if not self.primary.is_following():
            raise EngineFailed("The replication from blue to green is broken.")
        return False

    def leave_source(self) -> None:
        """Cut the ties to the source."""
        self.host.endpoints.close(self._source_link)
        with self.source.lock:
            self.source.replicas.remove(self)
        self.source = None

    def delete(self) -> None:
        """Remove the instance with all it has: servers, endpoint, archive, automated backup."""
        with self.lock:
            self.multi_az = False
            self.host.endpoints.close(self.name)
            if self.source:
                self.leave_source()
            self.drop_standby()
            if self.primary:
                self.primary.remove()
            self.disable_backups()

    # Backups

    def enable_backups(self) -> None:
        """Take the automated backup and start to ship the log: from here on every second can be restored."""
        with self.lock:
            self.archive = self.host.directory("a")
            for server in filter(None, (self.primary, self.standby)):
                server.archive_to = self.archive
                server.stop()
                server.start()
            self.back_up()

    def back_up(self) -> None:
        """Take a new base backup; the restore window begins with it."""
        base = self.host.directory("b", make=False)
        self.primary.backup_to(base)
        old, self.base = self.base, base
        self.earliest = self.latest = datetime.datetime.now(datetime.UTC)
        if old:
            shutil.rmtree(old)

    def disable_backups(self) -> None:
        """Delete the automated backup and the shipped log."""
        for path in filter(None, (self.archive, self.base)):
            shutil.rmtree(path, ignore_errors=True)
        self.archive = self.base = self.earliest = self.latest = None

    def ship_log(self) -> None:
        """Ship the log; `latest` moves to the last second that can be restored."""
        if self.base and self.primary and self.primary.is_running and self.lock.acquire(blocking=False):
            try:
                self.latest = max(self.primary.ship_log(), self.latest)
            finally:
                self.lock.release()

    def end_log(self) -> None:
        """Ship the log so that its end, up to now, can be restored."""
        with self.lock:
            if self.base and self.primary.is_running:
                self.primary.end_log()
                self.latest = max(self.primary.ship_log(), self.latest)

    def snapshot_to(self, directory: Path) -> None:
        """Copy the database to `directory`; from the standby where there is one, as RDS does."""
        with self.lock:
            (self.standby if self.in_sync else self.primary).backup_to(directory)


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until `done()`. Raises TimeoutError that says `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited more than {seconds:.0f} s for {what}")
        time.sleep(0.02)
