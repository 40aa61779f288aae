"""The data plane of Aurora: which DB cluster of the API runs on which servers, and what those add to its record."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.rds.models import DBCluster, DBClusterSnapshot, DBInstanceClustered, Event, GlobalCluster

from minicloud import endpoint, platforms
from minicloud.engines.engine import Server
from minicloud.engines.mariadb import MariaDB
from minicloud.engines.postgres import Postgres
from minicloud.rds.cluster import Cluster, Member
from minicloud.rds.guard import Guard
from minicloud.rds.instance import Host
from minicloud.rds.offers import Offer
from minicloud.rds.plane import record_traceback

# What the API offers as Aurora; a PostgreSQL and a MariaDB server answer for it.
AURORA = {
    "aurora-postgresql": Offer(Postgres, "Aurora PostgreSQL (here PostgreSQL answers for it)", 5432, ("postgresql-license",)),
    "aurora-mysql": Offer(MariaDB, "Aurora MySQL (here MariaDB answers for it)", 3306, ("general-public-license",),
                          "8.0.mysql_aurora.3.10.0", "8.0"),
}

# Category and message, after https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/USER_Events.Messages.html
EVENTS = {
    "failover-started": ("failover", "Started failover to DB instance: {member}"),
    "failover-completed": ("failover", "Completed failover to DB instance: {member}"),
    "global-failover-started": ("global failover", "Global failover to DB cluster {cluster} in Region {region} started."),
    "global-failover-completed": ("global failover", "DB cluster {cluster} in Region {region} is the primary cluster now."),
    "recovery-started": ("failover", "Recovery of the DB instance {member} has started."),
    "recovery-completed": ("failover", "Recovery of the DB instance {member} is complete."),
    "paused": ("notification", "The DB instances are paused: nobody was connected."),
    "resuming": ("notification", "Somebody connected: the DB instances resume."),
    "resumed": ("notification", "The DB instances have resumed."),
    "failed": ("failure", "The DB instance {member} has failed. {detail}"),
}
STATUS_AFTER = {"failover-started": "failing-over", "failover-completed": "available"}


class ClusterPlane:
    """The clusters of one cloud, in all its Regions."""

    def __init__(self, host: Host, log: Path):
        self.host, self.log = host, log
        self.clusters: dict[DBCluster, Cluster] = {}
        self.members: dict[DBInstanceClustered, Member] = {}
        self.snapshots: dict[DBClusterSnapshot, Path] = {}
        _fill_records(self)
        threading.Thread(target=self._tick, daemon=True, name="aurora-ticks").start()

    def _tick(self) -> None:
        pause = threading.Event()
        while not pause.wait(1):
            for cluster in list(self.clusters.values()):
                try:
                    cluster.watch()
                except Exception:
                    record_traceback(self.log)

    def add(self, record: DBCluster) -> Cluster:
        """Return a new Cluster, without instances, for moto's record."""
        cluster = Cluster(self.host, f"{record.region}/{record.db_cluster_identifier}", AURORA[record.engine].server,
                          guard=Guard(record, dict, self.host.owner, self.log),
                          tell=lambda *event: self.tell(record, *event))
        record.port = cluster.port
        record.event_source_type = "db-cluster"
        self.clusters[record] = cluster
        return cluster

    def tell(self, record: DBCluster, event: str, member: Member | None = None, detail: str = "") -> None:
        """Add an event to the record, and the status that goes with it."""
        category, message = EVENTS[event]
        entry = Event("DB_INSTANCE_CREATE", record)
        entry.event_categories = [category]
        entry.message = message.format(member=member and member.name, cluster=record.db_cluster_identifier,
                                       region=record.region, detail=detail).strip()
        record.backend.events.append(entry)
        if record.status in ("available", "failing-over"):
            record.status = STATUS_AFTER.get(event, record.status)
        if event == "failed":
            for db in [db for db, m in self.members.items() if m is member]:
                db.status = "failed"

    def work(self, record: Any, status: str, *steps: Callable[[], Any], then: str = "available",
             failed: str = "failed") -> None:
        """Do `steps` in the background, with `status` on the record meanwhile and `then`, or `failed`, after."""
        record.status = status

        def run():
            try:
                for step in steps:
                    step()
                record.status = then
            except Exception:
                record.status = failed
                record_traceback(self.log)

        threading.Thread(target=run, daemon=True, name=f"{status} {record.arn}").start()

    def of_global(self, record: GlobalCluster) -> DBCluster | None:
        """Return the primary cluster of a global database."""
        return next((cluster for cluster in record.members if cluster.is_writer), None)

    # What the notebook's `cloud` shows and does

    def resources(self) -> list[dict]:
        """Return a row for each endpoint by role and for each server: resource, engine, role, zone, endpoint, state."""
        rows = []
        for record, cluster in list(self.clusters.items()):
            state = "paused" if cluster.paused else record.status
            for role, host in (("cluster endpoint", endpoint.HOST), ("reader endpoint", platforms.READER_HOST)):
                rows.append(_row(record.db_cluster_identifier, cluster.engine, role, record.region,
                                 f"{host}:{cluster.port}", state))
            for db, member in [(db, m) for db, m in list(self.members.items()) if m in cluster.members]:
                role = "writer" if db.is_cluster_writer else "reader"
                rows.append(_row(member.name, cluster.engine, role, member.zone, f"{endpoint.HOST}:{member.port}",
                                 "paused" if cluster.paused else db.status))
        return rows

    def _find(self, name: str) -> tuple[Cluster, Member | None]:
        for record, cluster in list(self.clusters.items()):
            if record.db_cluster_identifier == name.lower():
                return cluster, cluster.head
            for member in cluster.members:
                if member.name == name.lower():
                    return cluster, member
        known = ", ".join(sorted(record.db_cluster_identifier for record in self.clusters)) or "none"
        raise LookupError(f"There is no DB cluster, and no instance of one, named {name!r}; the clusters here: {known}.")

    def crash(self, name: str) -> None:
        """Kill an instance of a cluster with SIGKILL: the one named, or the named cluster's writer."""
        cluster, member = self._find(name)
        if not (member and member.is_up):
            raise LookupError(f"{name!r} has no instance that runs, so there is nothing to kill.")
        cluster.crash(member)

    def cut(self, primary: str, secondary: str | None = None) -> None:
        """Cut the link between the clusters of a global database in two Regions."""
        cluster = self._secondary(primary, secondary)
        cluster.is_cut = True
        self.host.endpoints.cut(cluster.far_link)

    def heal(self, primary: str, secondary: str | None = None) -> None:
        """Mend a link that was cut."""
        cluster = self._secondary(primary, secondary)
        self.host.endpoints.heal(cluster.far_link)
        cluster.is_cut = False

    def _secondary(self, primary: str, secondary: str | None) -> Cluster:
        source, _ = self._find(primary)
        if secondary is None:
            raise LookupError(f"Name the secondary cluster as well: which link of {primary!r} is meant?")
        cluster, head = self._find(secondary)
        if cluster.source is not source or head is None or not self.host.endpoints.is_open(cluster.far_link):
            raise LookupError(f"{secondary!r} is not a secondary cluster of {primary!r} with an available instance.")
        return cluster


def _row(name: str, engine: type[Server], role: str, zone: str, address: str, state: str) -> dict:
    label = f"{engine.__name__.replace('Postgres', 'PostgreSQL')} {engine.version()}"
    return {"resource": name, "engine": label, "role": role, "zone": zone, "endpoint": address, "state": state}


def _fill_records(plane: ClusterPlane) -> None:
    """Put facts of the servers in the place of what moto makes up for its records."""
    def patch(owner, name, ours):
        """Make an attribute answer with `ours(record)` where the record's cluster runs here, else as moto does."""
        moto = getattr(owner, name)
        setattr(owner, name, property(lambda record: ours(record) if _here(record) else moto.fget(record), moto.fset))

    def _here(record) -> bool:
        return record in plane.clusters or record in plane.members

    patch(DBCluster, "status", lambda record: record._status)
    patch(DBCluster, "endpoint", lambda record: endpoint.HOST)
    patch(DBCluster, "reader_endpoint", lambda record: platforms.READER_HOST)
    patch(DBInstanceClustered, "address", lambda db: endpoint.HOST)
    patch(DBInstanceClustered, "endpoint", lambda db: {"Address": endpoint.HOST, "Port": plane.members[db].port}
          if plane.members[db].port else None)
    DBCluster.save_automated_backup = lambda record: None
    GlobalCluster.endpoint = None

    def is_writer(db) -> bool:
        cluster = plane.clusters.get(db.cluster)
        if cluster is None:
            return db.__dict__.get("moto_writer", False)
        return cluster.head is not None and cluster.head is plane.members.get(db) and not cluster.source

    def status(db) -> str:
        """A server that is gone is being replaced, whatever was last recorded."""
        member, said = plane.members.get(db), db.__dict__.get("_status")
        gone = member and not member.is_up and not plane.clusters[db.cluster].stopped
        return "rebooting" if gone and said == "available" else said

    DBInstanceClustered.status = property(status, lambda db, value: db.__dict__.update(_status=value))
    DBInstanceClustered.is_cluster_writer = property(is_writer, lambda db, value: db.__dict__.update(moto_writer=value))
