"""An Aurora cluster: servers composed into what Aurora promises (a writer, readers, endpoints by role, failover, Regions).

On Aurora the instances of a cluster share one volume: a failover loses nothing that was committed, whoever takes over.
Here every server has files of its own and follows the writer's log, without the writer waiting for it. What stands for
the shared volume is the lost writer's log on the disk: whoever takes over first takes the rest of it
(`Server.take_rest`). Between Regions there is no shared volume, on Aurora neither: what is not yet there is lost.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minicloud import endpoint, platforms
from minicloud.engines.engine import EngineFailed, Link, Server
from minicloud.rds.instance import PATIENCE_SECONDS, Host, until
from minicloud.supervisor import ProgramFailed

# A model: what a packet takes between two Regions, one way. https://www.cloudping.co shows round trips of 60 to 80 ms
# between us-east-1 and us-west-2.
DISTANCE_SECONDS = 0.035
SWITCHOVER_SECONDS = 20  # a switchover that takes longer is given up, and the writes stay where they were
PAUSE_SCALE = 60  # a second here stands for a minute there: an instance pauses after 5 s instead of 300


@dataclass(eq=False)
class Member:
    """A DB instance of a cluster: its promotion tier, its size (a number that grows with the class), its server."""

    name: str
    zone: str
    tier: int = 1
    size: int = 0
    server: Server | None = None
    port: int | None = None
    lost_touch: float | None = None  # since when it has not been following

    @property
    def is_up(self) -> bool:
        """Whether its server process is there."""
        return self.server is not None and self.server.is_running


class Cluster:
    """One cluster in one Region. Its methods block until the thing is done; callers give them a thread.

    `head` is the member the others follow: the writer, or, in a secondary Region of a global database, the one that
    follows the primary Region's.
    """

    def __init__(self, host: Host, name: str, engine: type[Server], *, guard=None,
                 tell: Callable[..., None] = lambda event, member=None, detail="": None):
        self.host, self.name, self.engine = host, name, engine
        self.volume: Path | None = None  # what the first instance finds: data of a snapshot, a clone, the last instance
        self.owns_volume = False  # a snapshot's is the snapshot's
        self.guard = guard  # of its endpoints: a `guard.Guard`; without one they take the administrator only
        self.tell = tell  # called with the name of an event (see aurora_plane.EVENTS), a member, and a detail
        self.lock = threading.RLock()
        self.members: list[Member] = []
        self.head: Member | None = None
        self.source: Cluster | None = None  # the primary Region's
        self.is_cut = False  # the link to it
        self.fenced = False  # the writes have gone to another Region, or are about to: nobody may write here
        self.secondaries: list[Cluster] = []
        self.pause_after: float | None = None  # seconds without a connection (AWS's, not ours); None: never
        self.paused = self.stopped = False
        self._awake_since = time.monotonic()
        self.port = self._open()

    def _open(self) -> int:
        """Open the cluster endpoint and the reader endpoint: two addresses, one port, as on AWS."""
        for _ in range(20):
            port = self.host.endpoints.open(self.writer_endpoint, guard=self.guard)
            try:
                return self.host.endpoints.open(self.reader_endpoint, None, platforms.READER_HOST, port, self.guard)
            except ProgramFailed:  # taken at the other address
                self.host.endpoints.close(self.writer_endpoint)
        raise ProgramFailed(f"No port was found that is free at {endpoint.HOST} and at {platforms.READER_HOST}.")

    @property
    def writer_endpoint(self) -> str:
        return f"{self.name}.cluster"

    @property
    def reader_endpoint(self) -> str:
        return f"{self.name}.cluster-ro"

    @property
    def readers(self) -> list[Member]:
        """The members that serve reads only."""
        return [member for member in self.members if member is not self.head or self.source]

    # Members

    def add(self, member: Member, create: Callable[[Server], None]) -> None:
        """Start an instance: the first on the volume (`create` is called with a server on an empty one), or a reader."""
        with self.lock:
            self.resume()
            if self.head is None and self.source is None:
                self._start_first(member, create)
            else:
                self._attach(member)
            self.head = self.head or member
            self.members.append(member)
            self._route()

    def _start_first(self, member: Member, create: Callable[[Server], None]) -> None:
        member.server = self._server()
        if self.volume:
            member.server.use_copy(self.volume)
        else:
            member.server.create()
        member.server.start()
        if not self.volume:
            create(member.server)
        self._open_member(member)

    def _server(self) -> Server:
        return self.engine(self.host.supervisor, self.host.directory("n"), self.host.secret, on_exit=self._on_exit)

    def _attach(self, member: Member) -> None:
        """Give a member a fresh copy of the data and let it follow the head's log (the head: the primary Region's)."""
        far = self.head in (None, member)
        upstream = (self.source.head if far else self.head).server
        fresh, link = self._server(), self._link(member)
        try:
            fresh.clone(upstream)
            self.host.endpoints.close(link)
            port = self.host.endpoints.open(link, upstream.socket)
            if far:
                self.host.endpoints.delay(link, DISTANCE_SECONDS)
            fresh.follow(Link(endpoint.HOST, port, link.replace(">", "-to-").replace("/", "-")[-63:]), synchronous=False)
            fresh.start()
            until(fresh.is_following, f"{member.name} to follow")
        except Exception:
            fresh.remove()
            raise
        old, member.server, member.lost_touch = member.server, fresh, None
        self._open_member(member)
        if old:
            old.remove()

    def _link(self, member: Member) -> str:
        return f"{self.name}>{member.name}"

    def _open_member(self, member: Member) -> None:
        name = f"{self.name}.{member.name}"
        if self.fenced and member is self.head:
            return
        if member.port is None:
            member.port = self.host.endpoints.open(name, member.server.socket, guard=self.guard)
        else:
            self.host.endpoints.point(name, member.server.socket)

    def remove(self, member: Member) -> None:
        """Delete an instance. A writer's readers take over; the last one's data stays as the cluster's volume."""
        with self.lock:
            self.resume()
            if member is self.head and len(self.members) > 1:
                self._mend()
                if not self.heir():
                    raise EngineFailed(f"No other instance of {self.name} runs that could take over from {member.name}.")
                self._replace_head()
            if self.members == [member]:
                if not self.source:
                    volume = self.host.directory("b", make=False)
                    member.server.backup_to(volume)  # before anything is forgotten: it can fail
                    self.keep(volume)
                self.head = None
            self.members.remove(member)
            self._route()
            for name in (f"{self.name}.{member.name}", self._link(member)):
                self.host.endpoints.close(name)
            member.server.remove()

    def keep(self, volume: Path | None) -> None:
        """Take a directory as the cluster's own volume in the place of the one it had."""
        if self.volume and self.owns_volume:
            shutil.rmtree(self.volume, ignore_errors=True)
        self.volume, self.owns_volume = volume, True

    def delete(self) -> None:
        """Remove the cluster, which has no instances any more."""
        with self.lock:
            self.keep(None)
            if self.source:
                self.leave_source()
            for name in (self.writer_endpoint, self.reader_endpoint):
                self.host.endpoints.close(name)

    def _route(self) -> None:
        """Point the endpoints by role. The reader endpoint leads to the writer when there is nobody else."""
        writes_here = self.head and self.head.is_up and not self.source and not self.fenced
        writer = self.head.server if writes_here else None
        readers = [member.server for member in self.readers if member.is_up]
        self.host.endpoints.point(self.writer_endpoint, writer and writer.socket)
        self.host.endpoints.point(self.reader_endpoint, [s.socket for s in readers or filter(None, [writer])])

    # Failover within the Region

    def fail_over(self, to: Member | None = None) -> None:
        """Make a reader the writer: the one asked for, or the best by tier, then by size. The old writer becomes a reader."""
        with self.lock:
            self.resume()
            lost, heir = self.head, to or self.heir()
            self.tell("failover-started", heir)
            self._fence(lost)
            lost.server.kill()
            heir.server.take_rest(lost.server)
            heir.server.promote()
            self._lead(heir)
            self.tell("failover-completed", heir)
            self._mend()

    def heir(self) -> Member | None:
        """Return the running reader that a failover promotes: of the lowest tier, of these the largest; None: there is none."""
        candidates = [member for member in self.members if member is not self.head and member.is_up]
        return min(candidates, key=lambda member: (member.tier, -member.size), default=None)

    def _fence(self, lost: Member) -> None:
        """From here on nobody gets an answer from a writer that is about to be replaced."""
        self.host.endpoints.point(self.writer_endpoint, None)
        self.host.endpoints.point(f"{self.name}.{lost.name}", None)

    def _lead(self, head: Member) -> None:
        """Make a member the one that the others, and the other Regions, follow."""
        self.head = head
        self.host.endpoints.close(self._link(head))
        for link in [self._link(m) for m in self.members if m is not head] + [c.far_link for c in self.secondaries if c.head]:
            with contextlib.suppress(KeyError):  # the old head, and one that is being attached, has no link yet
                self.host.endpoints.point(link, head.server.socket)
        self._open_member(head)
        self._route()

    @property
    def far_link(self) -> str:
        """The name of a secondary cluster's link to the primary Region."""
        return self._link(self.head)

    def _replace_head(self) -> None:
        """Let somebody else lead: by a failover, or, in a secondary Region, by following the primary Region itself."""
        if not self.source:
            return self.fail_over()
        self.head = self.heir()
        self._attach(self.head)
        for member in self.members:
            if member is not self.head and member.is_up:
                self._again(lambda member=member: self._attach(member))
        self._route()

    # Faults

    def crash(self, member: Member) -> None:
        """Kill an instance's processes with SIGKILL, as on a lost host; `_on_exit` sees to it."""
        member.server.crash()

    def _on_exit(self, server: Server) -> None:
        with self.lock:
            member = next((m for m in self.members if m.server is server), None)
            if member is None or server.process is None or server.is_running:
                return  # while this waited for the lock, it was replaced, stopped or started again on purpose
            try:
                self._route()
                if member is self.head:
                    self._take_over()
                self._mend()
            except Exception as error:
                self.tell("failed", member, str(error))

    def _take_over(self) -> None:
        """Let somebody else lead in the place of a head that is lost; without anybody else it comes back on its own data."""
        if self.heir():
            self._replace_head()
        elif not self.source:
            self._recover(self.head)

    def _mend(self) -> None:
        """Attach again the members whose servers are gone."""
        for member in self.members:
            if not member.is_up and (member is not self.head or self.source):
                self._again(lambda member=member: self._attach(member))
        self._route()

    def _recover(self, member: Member) -> None:
        """Start a lost writer again on its own data: there is no reader to take over."""
        self.tell("recovery-started", member)
        member.server.kill()
        member.server.start()
        self._lead(member)
        self.tell("recovery-completed", member)

    def _again(self, action: Callable[[], None]) -> None:
        """Do `action`; when that fails because a server is lost in the middle of it, the watch tries again."""
        with contextlib.suppress(EngineFailed, ProgramFailed, TimeoutError):
            action()

    def watch(self) -> None:
        """See to what is down or has been out of touch for too long; pause what is idle. To be called every second or so."""
        if not self.lock.acquire(blocking=False):
            return  # something is being done already
        try:
            if self.stopped:
                return
            if self.head and not self.head.is_up:
                self._again(self._take_over)
            for member in self.members:
                if self._in_touch(member):
                    member.lost_touch = None
                elif member.lost_touch is None:
                    member.lost_touch = time.monotonic()
                elif time.monotonic() - member.lost_touch > PATIENCE_SECONDS:
                    member.lost_touch = None
                    self._again(lambda member=member: self._reconnect(member))
                    self._route()
            self._pause_when_idle()
        finally:
            self.lock.release()

    def _reconnect(self, member: Member) -> None:
        """Attach a member that is out of touch again; when it is the writer that does not answer, replace the writer."""
        if member is not self.head and not self.head.server.answers():
            self._take_over()
        else:
            self._attach(member)

    def _in_touch(self, member: Member) -> bool:
        if member is self.head and (self.is_cut or not self.source):
            return True  # cut on purpose, or nobody's follower
        with contextlib.suppress(Exception):
            return member.is_up and member.server.is_following()
        return False

    # Serverless: pausing at zero capacity

    def _endpoints(self) -> list[str]:
        return [self.writer_endpoint, self.reader_endpoint, *(f"{self.name}.{m.name}" for m in self.members)]

    def _pause_when_idle(self) -> None:
        if self.pause_after is None or not self.members or self.source or self.secondaries:
            self._awake_since = time.monotonic()
            return
        idle = min(time.monotonic() - self._awake_since, *map(self.host.endpoints.idle, self._endpoints()))
        if idle < self.pause_after / PAUSE_SCALE:
            return
        if all([self.host.endpoints.sleep(name, self.resume) for name in self._endpoints()]):
            self._stop_servers()
            self.paused = True
            self.tell("paused", self.head)
        else:  # somebody has come since it was asked
            self._open_all()

    def resume(self) -> None:
        """Start a paused cluster again; those who connected meanwhile are served."""
        with self.lock:
            if self.paused:
                self.tell("resuming", self.head)
                self.start()
                self.tell("resumed", self.head)

    def stop(self) -> None:
        """Stop the servers, keeping their data and the endpoints' ports."""
        with self.lock:
            for name in self._endpoints():
                self.host.endpoints.point(name, None)
            self._stop_servers()

    def _stop_servers(self) -> None:
        self.stopped = True
        for member in sorted(self.members, key=lambda member: member is not self.head):
            member.server.stop()

    def start(self) -> None:
        """Start again what `stop` stopped."""
        with self.lock:
            self.paused = self.stopped = False
            self._awake_since = time.monotonic()
            for member in sorted(self.members, key=lambda member: member is not self.head):
                member.server.start()
            self._open_all()

    def _open_all(self) -> None:
        for member in self.members:
            self._open_member(member)
        self._route()

    def reboot(self, member: Member) -> None:
        """Restart one instance in its place."""
        with self.lock:
            self.resume()
            self.host.endpoints.point(f"{self.name}.{member.name}", None)
            member.server.stop()
            member.server.start()
            self._open_member(member)
            self._route()

    # Copies

    def copy_to(self, directory: Path) -> None:
        """Copy the cluster's data, as it is now, to the new `directory`."""
        with self.lock:
            self.resume()
            if self.head:
                self.head.server.backup_to(directory)
            elif self.volume:
                self.host.supervisor.run(["cp", "-a", self.volume, directory], log=self.host.run / "cloud.log")
            else:
                raise EngineFailed(f"The cluster {self.name} has never had an instance: there is nothing to copy.")

    # Regions

    def join(self, source: "Cluster") -> None:
        """Become a secondary cluster of `source`: its instances will follow the primary Region's writer."""
        self.source = source
        source.secondaries.append(self)

    def leave_source(self) -> None:
        """Be a cluster of its own: a writer on the data that had arrived."""
        with self.lock:
            source, self.source = self.source, None
            source.secondaries.remove(self)
            self.is_cut = False
            if self.head:
                self.host.endpoints.close(self.far_link)
                self.head.server.promote()
                self._lead(self.head)

    def switch_over(self, old: "Cluster") -> None:
        """Make this secondary cluster the primary one of a healthy global database; nothing is lost.

        Like `fail_over_from`, it returns when the writes are here; `rejoin` then makes the old primary a secondary cluster.
        """
        with old.lock, self.lock:
            old.fenced = True
            old._fence(old.head)
            try:
                until(lambda: not old.head.server.sessions(), "the primary cluster's sessions to end", SWITCHOVER_SECONDS)
                last = old.head.server.position()
                until(lambda: self.head.server.position() >= last, f"{self.name} to receive all of the log",
                      SWITCHOVER_SECONDS)
            except Exception:
                old.fenced = False
                old._open_all()
                raise
            self.leave_source()
            self.tell("global-failover-completed", self.head)

    def fail_over_from(self, old: "Cluster") -> None:
        """Make this secondary cluster the primary one although the primary Region is lost, with what had arrived."""
        with self.lock:
            self.tell("global-failover-started", self.head)
            self.host.endpoints.cut(self.far_link)
            old.fenced = True  # also against its own recovery, which may be under way
            old._fence(old.head)
            self.leave_source()
            self.tell("global-failover-completed", self.head)

    def rejoin(self, primary: "Cluster", save: Path | None = None) -> None:
        """Follow `primary` from now on, which was a secondary cluster until now.

        With `save`, the data as it is here, with what `primary` has never received, is copied to that directory before.
        """
        with self.lock:
            if save:
                self.head.server.kill()
                self.head.server.start()  # recovers what was committed here, for the copy only
                self.head.server.backup_to(save)
            if self.source:
                self.source.secondaries.remove(self)
            self.join(primary)
            self.fenced = False
            for member in sorted(self.members, key=lambda member: member is not self.head):
                self._again(lambda member=member: self._attach(member))
            self._route()
