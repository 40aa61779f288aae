"""The data plane of RDS: which DB instance of the API runs on which servers, and what those add to its record."""

import datetime
import json
import secrets
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moto.rds.models
from moto.rds.models import DBInstance, DBInstanceAutomatedBackup, DBSnapshot, Event, MasterUserSecret
from moto.rds.utils import DbInstanceEngine

from minicloud import endpoint
from minicloud.engines.engine import Server
from minicloud.rds import maintenance, security
from minicloud.rds.encryption import heed_key_states
from minicloud.rds.guard import Guard
from minicloud.rds.instance import Host, Instance
from minicloud.rds.network import open_default_groups
from minicloud.rds.offers import OFFERS, absent_address, family, recorded

LOG_SHIPPING_SECONDS = 5  # stands for the 5 minutes between RDS's uploads of transaction logs to S3

# Category and message, after https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html
EVENTS = {
    "failover-started": ("failover", "Multi-AZ instance failover started."),
    "failover-completed": ("failover", "Multi-AZ instance failover completed"),
    "recovery-started": ("recovery", "Recovery of the DB instance has started. Recovery time will vary with the amount "
                                     "of data to be recovered."),
    "recovery-completed": ("recovery", "Recovery of the DB instance is complete."),
    "restarted": ("availability", "DB instance restarted"),
    "stopped": ("notification", "DB instance stopped"),
    "started": ("notification", "DB instance started"),
    "deleted": ("deletion", "DB instance deleted"),
    "failed": ("failure", "The DB instance has failed."),
    "class": ("configuration change", "Finished applying modification to DB instance class."),
    "multi-az": ("configuration change", "Applied change to multi-AZ"),
    "restored": ("restoration", "Restored from DB instance"),
    "replica-promoted": ("notification", "Promoted read replica to a standalone DB instance"),
    "absent": ("notification", ""),
    "switchover-started": ("notification", "Switchover from blue to green was started."),
    "switchover-completed": ("notification", "Switchover completed on blue/green deployment."),
    "switchover-canceled": ("failure", "Switchover canceled on blue/green deployment."),
    "snapshot-created": ("creation", "Manual snapshot created"),
}
STATUS_AFTER = {"failover-started": "rebooting", "failover-completed": "available", "recovery-started": "rebooting",
                "recovery-completed": "available", "failed": "failed"}


def group_values(db: DBInstance) -> dict[str, str]:
    """Return the parameter values that an instance's group sets, and those that keep an old blue instance read-only."""
    group = db.backend.db_parameter_groups.get(db.db_parameter_group_name) if db.db_parameter_group_name else None
    values = {name: str(row["ParameterValue"]) for name, row in group.parameters.items()} if group else {}
    return values | (OFFERS[db.engine].server.READ_ONLY if db.is_old_blue else {})


def other_zone(zone: str) -> str:
    """Return the zone that a standby of a primary in `zone` gets."""
    return zone[:-1] + ("b" if zone[-1] != "b" else "a")


def record_traceback(path: Path) -> None:
    """Append the current exception to a log."""
    with open(path, "a") as log:
        traceback.print_exc(file=log)


class Plane:
    """The data plane of RDS: which instance of the API runs on which servers, and where its backups lie."""

    def __init__(self, host: Host, log: Path):
        self.host, self.log = host, log
        self.instances: dict[DBInstance, Instance] = {}
        self.snapshots: dict[DBSnapshot, Path] = {}
        self.failures: dict[DBInstance, str] = {}  # why an instance is `failed`
        self.catalogues: dict[type[Server], list[dict]] = {}
        self.changing = threading.Lock()  # one request at a time changes anything
        _fill_records(self)
        threading.Thread(target=self._tick, daemon=True, name="rds-ticks").start()

    def _tick(self) -> None:
        pause, count = threading.Event(), 0
        while not pause.wait(1):
            count += 1
            for db, instance in list(self.instances.items()):
                try:
                    instance.watch()
                    maintenance.open_window(self, db)
                    if count % LOG_SHIPPING_SECONDS == 0:
                        instance.ship_log()
                except Exception:
                    self.record_failure()

    def record_failure(self) -> None:
        """Write the current exception to the cloud's log."""
        record_traceback(self.log)

    def add(self, db: DBInstance) -> Instance:
        """Return a new Instance, not created yet, for moto's record `db`."""
        zones = [db.availability_zone, other_zone(db.availability_zone)]
        instance = Instance(self.host, f"{db.region}/{db.db_instance_identifier}", OFFERS[db.engine].server, zones,
                            tell=lambda event, detail="": self.tell(db, event, detail))
        instance.parameters = group_values(db)
        instance.guard = Guard(db, lambda: group_values(db), self.host.owner, self.log)
        self.instances[db] = instance
        return instance

    def tell(self, db: DBInstance, event: str, detail: str = "") -> None:
        """Add an event to the record, and the status that goes with it."""
        category, message = EVENTS[event]
        entry = Event("DB_INSTANCE_CREATE", db)
        entry.event_categories, entry.message = [category], f"{message} {detail}".strip()
        db.backend.events.append(entry)
        if event == "failover-completed":
            db.availability_zone, db.secondary_availability_zone = self.instances[db].zones
        if event in ("restarted", "recovery-completed"):
            db.parameters_pending = False
        if event == "failed":
            self.failures[db] = detail
        if db.status != "deleting" or event == "failed":
            db.status = STATUS_AFTER.get(event, db.status)

    def work(self, db: DBInstance, status: str, *steps: Callable[[], Any], then: str = "available") -> None:
        """Do `steps` in the background, with `status` meanwhile and `then` after; a failure is told as an event."""
        db.status = status

        def run():
            try:
                for step in steps:
                    step()
                if db.status != "deleting" or then == "deleted":
                    db.status = then
            except Exception as error:
                self.record_failure()
                self.tell(db, "failed", str(error))

        threading.Thread(target=run, daemon=True, name=f"{status} {db.db_instance_identifier}").start()

    def catalogue(self, engine: str) -> list[dict]:
        """Return an engine's own parameters with their defaults, asked of a running server or of one for the purpose."""
        server_class = OFFERS[engine].server
        if server_class not in self.catalogues:
            server = server_class(self.host.supervisor, self.host.directory("n"), self.host.secret)
            server.create()
            server.start()
            self.catalogues[server_class] = server.parameters()
            server.remove()
        return self.catalogues[server_class]

    # What the notebook's `cloud` shows and does

    def resources(self) -> list[dict]:
        """Return a row for each server: resource, engine, role, zone, endpoint, state."""
        rows = []
        for db, instance in list(self.instances.items()):
            name = f"{instance.engine.__name__.replace('Postgres', 'PostgreSQL')} {instance.engine.version()}"
            where = f"{endpoint.HOST}:{instance.port}" if instance.port else ""
            role = "read replica" if instance.source else "primary"
            state = f"failed: {self.failures[db]}" if db.status == "failed" else db.status
            rows.append({"resource": db.db_instance_identifier, "engine": name, "role": role,
                         "zone": instance.zones[0], "endpoint": where, "state": state})
            if instance.multi_az:
                state = "in sync" if instance.in_sync else "being built"
                rows.append({"resource": db.db_instance_identifier, "engine": name, "role": "standby",
                             "zone": instance.zones[1], "endpoint": "", "state": state})
        return rows

    def find(self, name: str) -> Instance:
        """Return the instance of that identifier in any Region. Raises LookupError."""
        for db, instance in list(self.instances.items()):
            if db.db_instance_identifier == name.lower():
                return instance
        known = ", ".join(sorted(db.db_instance_identifier for db in self.instances)) or "none"
        raise LookupError(f"There is no DB instance {name!r} here; the ones that run: {known}.")

    def crash(self, name: str) -> None:
        """Kill the primary of instance `name` with SIGKILL."""
        instance = self.find(name)
        if not (instance.port and instance.primary.is_running):
            raise LookupError(f"DB instance {name!r} is not running, so there is nothing to kill.")
        instance.crash()

    def _link(self, source: str, replica: str | None) -> tuple[Instance, str]:
        if replica is None:
            instance = self.find(source)
            if not instance.standby:
                raise LookupError(f"DB instance {source!r} has no standby; name a replica as well.")
            return instance, instance.standby_link
        instance = self.find(replica)
        if instance.source is not self.find(source) or not instance.port:
            raise LookupError(f"{replica!r} is not a running read replica of {source!r}.")
        return instance, f"{instance.source.name}>{instance.name}"

    def cut(self, source: str, replica: str | None = None) -> None:
        """Cut the link from an instance to its read replica, or to its standby."""
        instance, link = self._link(source, replica)
        instance.cut_links.add(link)
        self.host.endpoints.cut(link)

    def heal(self, source: str, replica: str | None = None) -> None:
        """Mend a link that was cut."""
        instance, link = self._link(source, replica)
        self.host.endpoints.heal(link)
        instance.cut_links.discard(link)


def _fill_records(plane: Plane) -> None:
    """Put facts of the engines in the place of what moto makes up for its records."""
    open_default_groups()
    heed_key_states()
    DBInstance.save_automated_backup = lambda db: None  # the record is made when the backup is: record_automated_backup
    MasterUserSecret._generate_secret_string = _managed_secret
    MasterUserSecret.rotate_secret = security.rotate

    def of(db) -> Instance | None:
        return plane.instances.get(db)

    moto_address, moto_endpoint = DBInstance.address, DBInstance.endpoint
    DBInstance.address = property(lambda db: endpoint.HOST if of(db) else absent_address(db.engine)
                                  if db.engine in recorded() else moto_address.fget(db))
    DBInstance.endpoint = property(lambda db: moto_endpoint.fget(db) if of(db) is None else
                                   {"Address": endpoint.HOST, "Port": of(db).port} if of(db).port else None)
    DBInstance.latest_restorable_time = property(lambda db: of(db) and of(db).latest)
    DBInstance.db_parameter_group_status_list = property(lambda db: [
        {"DBParameterGroupName": group.name,
         "ParameterApplyStatus": "pending-reboot" if getattr(db, "parameters_pending", False) else "in-sync"}
        for group in db.db_parameter_groups()])

    def restore_window(backup):
        instance = of(backup.backend.databases.get(backup.db_instance_identifier))
        return instance and instance.earliest and {"EarliestTime": instance.earliest, "LatestTime": instance.latest}

    DBInstanceAutomatedBackup.restore_window = property(restore_window)
    _widen_moto()


def _widen_moto() -> None:
    """Let moto record what it refuses (Db2, a window over midnight on Sunday), and name the parameter groups as RDS does."""
    engines = sorted({*DbInstanceEngine.valid_db_instance_engine(), *OFFERS})
    DbInstanceEngine.valid_db_instance_engine = classmethod(lambda cls: engines)
    moto.rds.models.valid_preferred_maintenance_window = lambda maintenance, backup: None  # windows.check does it
    moto_group = DBInstance.default_db_parameter_group_details
    DBInstance.default_db_parameter_group_details = lambda db: (
        (family(db.engine), f"default.{family(db.engine)}") if db.engine in OFFERS else moto_group(db))


def _managed_secret(secret: MasterUserSecret) -> str:
    """Return the JSON of a managed master secret with a password of its own (moto's is the same for everybody)."""
    secret.resource.master_user_password = password = secrets.token_urlsafe(20)
    return json.dumps({"username": secret.resource.master_username, "password": password})


def record_automated_backup(db: DBInstance) -> None:
    """Add the automated snapshot that was taken to the records, and its two events."""
    name = f"rds:{db.db_instance_identifier}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M}"
    db.add_event("DB_INSTANCE_BACKUP_START")
    db.backend.database_snapshots.pop(name, None)
    db.backend.create_auto_snapshot(db.db_instance_identifier, name)
    db.add_event("DB_INSTANCE_BACKUP_FINISH")
