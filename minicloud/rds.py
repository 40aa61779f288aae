"""The RDS API on real databases: moto keeps the records, and what it records is done to `instance.Instance`s.

Operations here check what AWS would refuse and moto lets pass, let moto record the rest, and start the work on the
engines in the background; the record's status tells how far it is. An operation that is not here is moto's alone: a
record of the control plane. Error codes are those of botocore's RDS model.
"""

import datetime
import json
import re
import secrets
import shutil
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import moto.rds.urls
from moto.core.responses import ActionResult
from moto.rds.exceptions import DBInstanceAlreadyExists, DBParameterGroupNotFoundError, RDSClientError
from moto.rds.models import DBInstance, DBInstanceAutomatedBackup, DBParameterGroup, DBSnapshot, Event, MasterUserSecret
from moto.rds.responses import RDSResponse

from minicloud import endpoint
from minicloud.engine import EngineUnavailable, Server
from minicloud.instance import Host, Instance
from minicloud.mariadb import MariaDB
from minicloud.postgres import Postgres

LOG_SHIPPING_SECONDS = 5  # stands for the 5 minutes between RDS's uploads of transaction logs to S3
MYSQL_VERSION = "8.4.7"  # what the API offers as MySQL; MariaDB answers for it


class Offer(NamedTuple):
    """An engine of the API and the server class that runs it."""

    server: type[Server]
    description: str
    default_port: int
    forced_version: str | None = None

    @property
    def version(self) -> str:
        return self.forced_version or self.server.version()


OFFERS = {
    "postgres": Offer(Postgres, "PostgreSQL", 5432),
    "mariadb": Offer(MariaDB, "MariaDB", 3306),
    "mysql": Offer(MariaDB, "MySQL (here MariaDB answers for it)", 3306, MYSQL_VERSION),
}

# The words of https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html as far as remembered by
# the engines' work; category and message.
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
    "multi-az": ("configuration change", "Applied change to multi-AZ"),
    "restored": ("restoration", "Restored from DB instance"),
    "replica-promoted": ("notification", "Promoted read replica to a standalone DB instance"),
    "snapshot-created": ("creation", "Manual snapshot created"),
}
STATUS_AFTER = {"failover-started": "rebooting", "failover-completed": "available", "recovery-started": "rebooting",
                "recovery-completed": "available", "failed": "failed"}


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
        self.catalogues: dict[type[Server], list[dict]] = {}
        _serve_with(self)
        threading.Thread(target=self._tick, daemon=True, name="rds-ticks").start()

    def _tick(self) -> None:
        pause, count = threading.Event(), 0
        while not pause.wait(1):
            count += 1
            for instance in list(self.instances.values()):
                try:
                    instance.watch()
                    if count % LOG_SHIPPING_SECONDS == 0:
                        instance.ship_log()
                except Exception:
                    self.record_failure()

    def record_failure(self) -> None:
        """Write the current exception to the cloud's log."""
        record_traceback(self.log)

    def add(self, db: DBInstance) -> Instance:
        """Return a new Instance, not created yet, for moto's record `db`."""
        zones = [db.availability_zone, _other_zone(db.availability_zone)]
        instance = Instance(self.host, f"{db.region}/{db.db_instance_identifier}", OFFERS[db.engine].server, zones,
                            tell=lambda event, detail="": self.tell(db, event, detail))
        instance.parameters = _values(db)
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
        db.status = STATUS_AFTER.get(event, db.status)

    def work(self, db: DBInstance, status: str, *steps: Callable[[], Any], then: str = "available") -> None:
        """Do `steps` in the background, with `status` meanwhile and `then` after; a failure is told as an event."""
        db.status = status

        def run():
            try:
                for step in steps:
                    step()
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
            rows.append({"resource": db.db_instance_identifier, "engine": name, "role": role,
                         "zone": instance.zones[0], "endpoint": where, "state": db.status})
            if instance.multi_az:
                state = "in sync" if instance.in_sync else "being built"
                rows.append({"resource": db.db_instance_identifier, "engine": name, "role": "standby",
                             "zone": instance.zones[1], "endpoint": "", "state": state})
        return rows

    def find(self, name: str) -> Instance:
        """Return the instance of that identifier in any Region. Raises LookupError."""
        for db, instance in self.instances.items():
            if db.db_instance_identifier == name:
                return instance
        known = ", ".join(sorted(db.db_instance_identifier for db in self.instances)) or "none"
        raise LookupError(f"There is no DB instance {name!r} here; the ones that run: {known}.")

    def crash(self, name: str) -> None:
        """Kill the primary of instance `name` with SIGKILL."""
        instance = self.find(name)
        if not (instance.primary and instance.primary.is_running):
            raise LookupError(f"DB instance {name!r} is not running, so there is nothing to kill.")
        instance.crash()

    def _link(self, source: str, replica: str | None) -> tuple[Instance, str]:
        if replica is None:
            instance = self.find(source)
            if not instance.standby:
                raise LookupError(f"DB instance {source!r} has no standby; name a replica as well.")
            return instance, instance.standby_link
        instance = self.find(replica)
        if instance.source is not self.find(source):
            raise LookupError(f"{replica!r} is not a read replica of {source!r}.")
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


class Responses(RDSResponse):
    """The operations that reach the engines."""

    plane: Plane

    def create_db_instance(self) -> ActionResult:
        if self.params.get("Engine") not in OFFERS:
            return super().create_db_instance()
        offer = self._check_create(self.params)
        self.params["EngineVersion"] = offer.version
        self.params.setdefault("Port", offer.default_port)
        answer = super().create_db_instance()
        db = answer.result["DBInstance"]
        instance = self._new(db)
        steps = [lambda: instance.create(db.master_username, db._master_user_password, db.db_name)]
        self.plane.work(db, "creating", *steps, *self._finishing(db, instance))
        return answer

    def _new(self, db: DBInstance) -> Instance:
        """Adopt a fresh moto record: give it an identity of its own and an Instance."""
        db.dbi_resource_id = f"db-{threading.get_ident():X}{len(self.plane.instances):04X}".ljust(29, "0")
        db.created = db.instance_create_time = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        db.secondary_availability_zone = _other_zone(db.availability_zone) if db.multi_az else None
        db.pending_modified_values = {}
        db.parameters_pending = False
        db.status_infos = []
        instance = self.plane.add(db)
        if db.backup_retention_period:
            instance.archive = self.plane.host.directory("a")
        return instance

    def _finishing(self, db: DBInstance, instance: Instance) -> list[Callable]:
        """Return the steps that complete a new instance: first backup, standby."""
        def back_up():
            if db.backup_retention_period:
                db.status = "backing-up"
                instance.back_up()
                _record_automated_backup(db)

        def add_standby():
            if db.multi_az:
                db.status = "modifying" if db.status == "backing-up" else db.status
                instance.add_standby()

        return [back_up, add_standby]

    def _check_create(self, params) -> Offer:
        offer = _offer(params["Engine"], params.get("EngineVersion"))
        _check_class(params.get("DBInstanceClass"))
        _check_password(params.get("MasterUserPassword"), bool(params.get("ManageMasterUserPassword")))
        _check_user(params.get("MasterUsername"))
        _check_retention(params.get("BackupRetentionPeriod"))
        _check_storage(params.get("AllocatedStorage"))
        if params.get("MultiAZ") and params.get("AvailabilityZone"):
            _refuse("InvalidParameterCombination",
                    "Requesting a specific availability zone is not valid for Multi-AZ instances.")
        return offer

    def describe_db_engine_versions(self) -> ActionResult:
        engine, version = self.params.get("Engine"), self.params.get("EngineVersion")
        rows = []
        for name, offer in OFFERS.items():
            if engine not in (None, name):
                continue
            try:
                row = _engine_version(name, offer)
            except EngineUnavailable:
                continue
            if version in (None, row["EngineVersion"], row["MajorEngineVersion"]):
                rows.append(row)
        return ActionResult({"DBEngineVersions": rows})

    def modify_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().modify_db_instance()
        self._require_available(db)
        self._check_modify(db, self.params)
        if self.params.get("ApplyImmediately"):
            for name, value in db.pending_modified_values.items():
                self.params.setdefault(name, value)
            db.pending_modified_values = {}
        else:
            db.pending_modified_values |= self._put_off()
        before = (db.backup_retention_period, db.multi_az, db.db_parameter_group_name)
        answer = super().modify_db_instance()
        self.plane.work(db, "modifying", *self._changes(db, instance, *before))
        return answer

    def _check_modify(self, db: DBInstance, params) -> None:
        _check_retention(params.get("BackupRetentionPeriod"))
        if "MasterUserPassword" in params:
            _check_password(params["MasterUserPassword"], False)
        if "DBInstanceClass" in params:
            _check_class(params["DBInstanceClass"])
        if params.get("NewDBInstanceIdentifier"):
            _refuse("NotImplemented", "minicloud does not rename DB instances. Create one with the new identifier.")
        if params.get("AllocatedStorage") and params["AllocatedStorage"] < db.allocated_storage:
            _refuse("InvalidParameterCombination", "You can't reduce the storage: it was "
                    f"{db.allocated_storage} GiB and {params['AllocatedStorage']} GiB was asked for.")
        if params.get("BackupRetentionPeriod") == 0 and db.replicas:
            _refuse("InvalidParameterCombination", "Automated backups can't be turned off: the instance has read replicas.")

    def _put_off(self) -> dict:
        """Take out of the request what waits for the maintenance window, and return it."""
        return {name: self.params.pop(name) for name in _WAITS if self.params.get(name) is not None}

    def _changes(self, db: DBInstance, instance: Instance, retention: int, multi_az: bool, group: str | None):
        password = self.params.get("MasterUserPassword")
        if password:
            yield lambda: instance.primary.set_password(db.master_username, password)
        if db.backup_retention_period and not retention:
            yield instance.enable_backups
            yield lambda: _record_automated_backup(db)
        if retention and not db.backup_retention_period:
            yield instance.disable_backups
        if db.multi_az and not multi_az:
            yield instance.add_standby
            yield lambda: setattr(db, "secondary_availability_zone", instance.zones[1])
            yield lambda: self.plane.tell(db, "multi-az")
        if multi_az and not db.multi_az:
            instance.multi_az, db.secondary_availability_zone = False, None
            yield instance.drop_standby
            yield lambda: self.plane.tell(db, "multi-az")
        if db.db_parameter_group_name != group:
            db.parameters_pending = True
            yield lambda: instance.set_parameters(_values(db))

    def reboot_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().reboot_db_instance()
        self._require_available(db)
        if not self.params.get("ForceFailover"):
            self.plane.work(db, "rebooting", instance.reboot, lambda: setattr(db, "parameters_pending", False))
            return ActionResult({"DBInstance": db})
        if not db.multi_az:
            _refuse("InvalidParameterCombination",
                    "ForceFailover can't be used: the DB instance is not configured for Multi-AZ.")
        if not instance.in_sync:
            _refuse("InvalidDBInstanceState", "The standby is still being built; a failover is possible when it is in sync.")
        self.plane.work(db, "rebooting", lambda: instance.fail_over(planned=True),
                        lambda: setattr(db, "parameters_pending", False))
        return ActionResult({"DBInstance": db})

    def stop_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().stop_db_instance()
        self._require_available(db)
        if instance.source or instance.replicas:
            _refuse("InvalidDBInstanceState", f"Cannot stop {db.db_instance_identifier}: it is a read replica or has one.")
        if self.params.get("DBSnapshotIdentifier"):
            _refuse("NotImplemented", "minicloud takes no snapshot at a stop. Call CreateDBSnapshot first.")
        self.plane.work(db, "stopping", instance.stop, lambda: self.plane.tell(db, "stopped"), then="stopped")
        return ActionResult({"DBInstance": db})

    def start_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().start_db_instance()
        if db.status != "stopped":
            _refuse("InvalidDBInstanceState", f"Instance {db.db_instance_identifier} is {db.status}, not stopped.")
        self.plane.work(db, "starting", instance.start, lambda: self.plane.tell(db, "started"))
        return ActionResult({"DBInstance": db})

    def delete_db_instance(self) -> ActionResult:
        db, instance = self._find()
        final, skip = self.params.get("FinalDBSnapshotIdentifier"), self.params.get("SkipFinalSnapshot")
        if db.deletion_protection:
            return super().delete_db_instance()  # moto refuses in AWS's words
        if not final and not skip and not db.is_replica:
            _refuse("InvalidParameterCombination",
                    "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
        if final and skip:
            _refuse("InvalidParameterCombination",
                    "FinalDBSnapshotIdentifier can not be specified when SkipFinalSnapshot is true.")
        if instance is None:
            return super().delete_db_instance()
        if db.status in ("creating", "deleting"):
            _refuse("InvalidDBInstanceState", f"Instance {db.db_instance_identifier} is currently {db.status}.")
        return self._delete(db, instance, final)

    def _delete(self, db: DBInstance, instance: Instance, final: str | None) -> ActionResult:
        source = next((d for d, i in self.plane.instances.items() if i is instance.source), None)
        snapshot = None
        if final:
            snapshot = self.backend.create_db_snapshot(db.db_instance_identifier, final, snapshot_type="manual")
        elif db.is_replica:
            self.params["SkipFinalSnapshot"] = True
        orphans = [d for d, i in self.plane.instances.items() if i in instance.replicas]

        def gone():
            if source:
                _forget_replica(source, db)
            for automated in [s for s in self.backend.database_snapshots.values()
                              if s.snapshot_type == "automated" and s.db_instance_identifier == db.db_instance_identifier]:
                self.backend.database_snapshots.pop(automated.db_snapshot_identifier)
            self.plane.instances.pop(db)
            self.plane.tell(db, "deleted")
            self.backend.databases.pop(db.db_instance_identifier)

        steps = [lambda: self._fill_snapshot(snapshot, instance)] if snapshot else []
        steps += [lambda orphan=orphan: self._promote(orphan) for orphan in orphans]
        self.plane.work(db, "deleting", *steps, instance.delete, gone, then="deleted")
        return ActionResult({"DBInstance": db})

    # Read replicas

    def create_db_instance_read_replica(self) -> ActionResult:
        source_db = self.backend.find_db_from_id(self.params["SourceDBInstanceIdentifier"])
        source = self.plane.instances.get(source_db)
        if source is None:
            return super().create_db_instance_read_replica()
        self._require_available(source_db)
        identifier = self.params["DBInstanceIdentifier"]
        if identifier in self.backend.databases:
            raise DBInstanceAlreadyExists()
        self.backend._validate_db_identifier(identifier)
        if not source_db.backup_retention_period:
            _refuse("InvalidDBInstanceState", "Automated backups are not enabled for this database instance. To enable "
                    "automated backups, use ModifyDBInstance to set the backup retention period to a non-zero value.")
        multi_az = bool(self.params.get("MultiAZ"))
        if multi_az:
            _refuse("NotImplemented", "minicloud runs no Multi-AZ read replicas. Leave MultiAZ out.")
        answer = super().create_db_instance_read_replica()
        replica_db = answer.result["DBInstance"]
        self._make_its_own(replica_db, source_db)
        replica = self._new(replica_db)
        replica_db.status_infos = [{"StatusType": "read replication", "Normal": True, "Status": "replicating"}]
        self.plane.work(replica_db, "creating", lambda: replica.create_replica(source))
        return answer

    def _make_its_own(self, replica: DBInstance, source: DBInstance) -> None:
        """Undo what moto's shallow copy of the source shares with it."""
        replica.backend = self.backend
        replica.tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in self.params.get("Tags", [])]
        replica.multi_az, replica.backup_retention_period, replica.deletion_protection = False, 0, False
        replica.availability_zone = self.params.get("AvailabilityZone") or f"{self.region}a"
        if source.region == self.region:
            group = self.params.get("DBParameterGroupName")
            replica.db_parameter_group_name = group or source.db_parameter_group_name
            replica.source_db_instance_identifier = source.db_instance_identifier
        else:
            replica.db_parameter_group_name = self.params.get("DBParameterGroupName")  # groups are a Region's own
            replica.source_db_instance_identifier = source.db_instance_arn

    def promote_read_replica(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().promote_read_replica()
        if instance.source is None:
            _refuse("InvalidDBInstanceState", f"DB instance {db.db_instance_identifier} is not a read replica.")
        self._require_available(db)
        _check_retention(self.params.get("BackupRetentionPeriod"))
        db.backup_retention_period = self.params.get("BackupRetentionPeriod", 1)
        steps = [lambda: self._promote(db)]
        if db.backup_retention_period:
            steps += [lambda: setattr(db, "status", "backing-up"), instance.enable_backups,
                      lambda: _record_automated_backup(db)]
        self.plane.work(db, "modifying", *steps)
        return ActionResult({"DBInstance": db})

    def _promote(self, db: DBInstance) -> None:
        instance = self.plane.instances[db]
        source = next(d for d, i in self.plane.instances.items() if i is instance.source)
        instance.promote()
        _forget_replica(source, db)
        db.is_replica, db.source_db_instance_identifier, db.status_infos = False, None, []
        self.plane.tell(db, "replica-promoted")

    # Snapshots and restores

    def create_db_snapshot(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().create_db_snapshot()
        self._require_available(db)
        answer = super().create_db_snapshot()
        snapshot = answer.result["DBSnapshot"]
        snapshot.status, snapshot.percent_progress = "creating", 0
        self.plane.work(db, "backing-up", lambda: self._fill_snapshot(snapshot, instance))
        return answer

    def _fill_snapshot(self, snapshot: DBSnapshot, instance: Instance) -> None:
        path = self.plane.host.directory("b", make=False)
        snapshot.status = "creating"
        instance.snapshot_to(path)
        self.plane.snapshots[snapshot] = path
        snapshot.status, snapshot.percent_progress = "available", 100

    def copy_db_snapshot(self) -> ActionResult:
        source = self._find_snapshot(self.params["SourceDBSnapshotIdentifier"])
        answer = super().copy_db_snapshot()
        files = self._files(source)
        if files:
            copy, path = answer.result["DBSnapshot"], self.plane.host.directory("b", make=False)
            copy.source_db_snapshot_identifier = source.db_snapshot_arn
            copy.source_region = source.region
            copy.status, copy.percent_progress = "creating", 0

            def fill():
                self.plane.host.supervisor.run(["cp", "-a", files, path], log=self.plane.log)
                self.plane.snapshots[copy] = path
                copy.status, copy.percent_progress = "available", 100

            self._in_background(copy, fill)
        return answer

    def _in_background(self, snapshot: DBSnapshot, fill: Callable[[], None]) -> None:
        def run():
            try:
                fill()
            except Exception:
                snapshot.status = "failed"
                self.plane.record_failure()

        threading.Thread(target=run, daemon=True).start()

    def delete_db_snapshot(self) -> ActionResult:
        answer = super().delete_db_snapshot()
        path = self.plane.snapshots.pop(answer.result["DBSnapshot"], None)
        if path:
            shutil.rmtree(path, ignore_errors=True)
        answer.result["DBSnapshot"].status = "deleted"
        return answer

    def restore_db_instance_from_db_snapshot(self) -> ActionResult:
        snapshot = self._find_snapshot(self.params["DBSnapshotIdentifier"])
        files = self._files(snapshot)
        if files is None:
            return super().restore_db_instance_from_db_snapshot()
        if snapshot.status != "available":
            _refuse("InvalidDBSnapshotState", f"The snapshot {snapshot.db_snapshot_identifier} is {snapshot.status}.")
        self._check_restore()
        answer = super().restore_db_instance_from_db_snapshot()
        db = answer.result["DBInstance"]
        self._reset_restored(db)
        instance = self._new(db)
        self.plane.work(db, "creating", lambda: instance.create_from(files), *self._finishing(db, instance))
        return answer

    def restore_db_instance_to_point_in_time(self) -> ActionResult:
        source_db = self.backend.describe_db_instances(self.params.get("SourceDBInstanceIdentifier"))[0]
        source = self.plane.instances.get(source_db)
        if source is None:
            return super().restore_db_instance_to_point_in_time()
        until = self._restore_time(source_db, source)
        self._check_restore("TargetDBInstanceIdentifier")
        answer = super().restore_db_instance_to_point_in_time()
        db = answer.result["DBInstance"]
        self._reset_restored(db)
        instance = self._new(db)
        self.plane.work(db, "creating", lambda: instance.create_at(source, until),
                        lambda: self.plane.tell(db, "restored", source_db.db_instance_identifier),
                        *self._finishing(db, instance))
        return answer

    def _restore_time(self, db: DBInstance, source: Instance) -> datetime.datetime | None:
        """Return the time to restore to (None: as late as possible), or refuse what lies outside the window."""
        if source.base is None:
            _refuse("PointInTimeRestoreNotEnabled", f"Automated backups are not enabled for {db.db_instance_identifier} "
                    "(BackupRetentionPeriod is 0, or it is a read replica), so there is no log to restore from.")
        asked, newest = self.params.get("RestoreTime"), self.params.get("UseLatestRestorableTime")
        if bool(asked) == bool(newest):
            _refuse("InvalidParameterCombination", "Specify either RestoreTime or UseLatestRestorableTime, not both.")
        if newest:
            return None
        asked = _utc(asked)
        if not source.earliest <= asked <= source.latest:
            _refuse("InvalidParameterValue", "The specified instance cannot be restored to a time earlier than "
                    f"{source.earliest:%Y-%m-%dT%H:%M:%SZ} or later than {source.latest:%Y-%m-%dT%H:%M:%SZ}: "
                    f"{asked:%Y-%m-%dT%H:%M:%SZ} lies outside.")
        return None if asked == source.latest and source.primary is None else asked

    def _check_restore(self, name: str = "DBInstanceIdentifier") -> None:
        if self.params[name] in self.backend.databases:
            raise DBInstanceAlreadyExists()
        self.backend._validate_db_identifier(self.params[name])
        if "DBInstanceClass" in self.params:
            _check_class(self.params["DBInstanceClass"])

    def _reset_restored(self, db: DBInstance) -> None:
        """Set what AWS does not take over from the source: a restore is a new, single-AZ, unprotected instance."""
        db.multi_az = bool(self.params.get("MultiAZ"))
        db.deletion_protection = bool(self.params.get("DeletionProtection"))
        db.replicas, db.is_replica, db.source_db_instance_identifier = [], False, None
        db.availability_zone = self.params.get("AvailabilityZone") or f"{self.region}a"

    def _find_snapshot(self, identifier: str) -> DBSnapshot:
        return self.backend.get_db_snapshot(identifier)

    def _files(self, snapshot: DBSnapshot) -> Path | None:
        """Return where a snapshot's data lies; an automated one's is its instance's base backup."""
        if snapshot.snapshot_type == "automated":
            for db, instance in self.plane.instances.items():
                if db.db_instance_identifier == snapshot.db_instance_identifier and db.region == snapshot.region:
                    return instance.base
        return self.plane.snapshots.get(snapshot)

    # Parameter groups

    def describe_db_parameter_groups(self) -> ActionResult:
        self._add_default_groups()
        return super().describe_db_parameter_groups()

    def create_db_parameter_group(self) -> ActionResult:
        families = {_family(name): name for name in OFFERS}
        family = self.params.get("DBParameterGroupFamily")
        if family and re.match(r"(postgres|mysql|mariadb)\d", family) and family not in families:
            _refuse("InvalidParameterValue",
                    f"ParameterGroupFamily {family} is not a valid parameter group family; here are {', '.join(families)}.")
        return super().create_db_parameter_group()

    def _add_default_groups(self) -> None:
        for engine in OFFERS:
            family = _family(engine)
            name = f"default.{family}"
            self.backend.db_parameter_groups.setdefault(name, DBParameterGroup(
                self.backend, name, f"Default parameter group for {family}", family))

    def describe_db_parameters(self) -> ActionResult:
        self._add_default_groups()
        group, engine = self._group()
        if engine is None:
            return super().describe_db_parameters()
        own = group.parameters
        rows = [{**row, **own.get(row["ParameterName"], {}), "Source": "user"} if row["ParameterName"] in own else row
                for row in self.plane.catalogue(engine)]
        wanted = self.params.get("Source")
        return ActionResult({"Parameters": [row for row in rows if wanted in (None, row["Source"])]})

    def modify_db_parameter_group(self) -> ActionResult:
        group, engine = self._group()
        if group.name.startswith("default."):
            _refuse("InvalidDBParameterGroupState", f"The default parameter group {group.name} cannot be modified. "
                    "Create a parameter group of the same family and modify that.")
        if engine:
            known = {row["ParameterName"]: row for row in self.plane.catalogue(engine)}
            for parameter in self.params.get("Parameters", []):
                _check_parameter(known, parameter)
        answer = super().modify_db_parameter_group()
        for db, instance in list(self.plane.instances.items()):
            if db.db_parameter_group_name == group.name and db.region == self.region:
                static = {p["ParameterName"] for p in self.params.get("Parameters", [])
                          if known[p["ParameterName"]]["ApplyType"] == "static" or p.get("ApplyMethod") == "pending-reboot"}
                db.parameters_pending = db.parameters_pending or bool(static)
                instance.set_parameters(_values(db))
        return answer

    def _group(self) -> tuple[DBParameterGroup, str | None]:
        name = self.params["DBParameterGroupName"]
        group = self.backend.db_parameter_groups.get(name)
        if group is None:
            raise DBParameterGroupNotFoundError(name)
        return group, next((engine for engine in OFFERS if _family(engine) == group.family), None)

    # Shared

    def _find(self) -> tuple[DBInstance, Instance | None]:
        db = self.backend.describe_db_instances(self.params["DBInstanceIdentifier"])[0]
        return db, self.plane.instances.get(db)

    def _require_available(self, db: DBInstance) -> None:
        if db.status != "available":
            _refuse("InvalidDBInstanceState",
                    f"Instance {db.db_instance_identifier} is {db.status}; wait until it is available.")


# What waits for the maintenance window unless ApplyImmediately.
_WAITS = ("MultiAZ", "DBInstanceClass", "AllocatedStorage")


def _serve_with(plane: Plane) -> None:
    """Put our operations in the place of moto's, and our facts into its records."""
    Responses.plane = plane
    moto.rds.urls.url_paths = {"{0}/$": Responses.dispatch}
    DBInstance.save_automated_backup = lambda db: None  # the record is made when the backup is: _record_automated_backup

    MasterUserSecret._generate_secret_string = _managed_secret

    def of(db) -> Instance | None:
        return plane.instances.get(db)

    moto_address, moto_endpoint = DBInstance.address, DBInstance.endpoint
    DBInstance.address = property(lambda db: endpoint.HOST if of(db) else moto_address.fget(db))
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


def _managed_secret(secret: MasterUserSecret) -> str:
    """Return the JSON of a managed master secret with a password of its own (moto's is the same for everybody)."""
    secret.resource.master_user_password = password = secrets.token_urlsafe(20)
    return json.dumps({"username": secret.resource.master_username, "password": password})


def _record_automated_backup(db: DBInstance) -> None:
    name = f"rds:{db.db_instance_identifier}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M}"
    db.add_event("DB_INSTANCE_BACKUP_START")
    db.backend.database_snapshots.pop(name, None)
    db.backend.create_auto_snapshot(db.db_instance_identifier, name)
    db.add_event("DB_INSTANCE_BACKUP_FINISH")


def _forget_replica(source: DBInstance, replica: DBInstance) -> None:
    names = (replica.db_instance_identifier, replica.db_instance_arn)
    source.replicas = [name for name in source.replicas if name not in names]


def _values(db: DBInstance) -> dict[str, str]:
    """Return the parameter values that an instance's group sets."""
    group = db.backend.db_parameter_groups.get(db.db_parameter_group_name) if db.db_parameter_group_name else None
    return {name: str(row["ParameterValue"]) for name, row in group.parameters.items()} if group else {}


def _other_zone(zone: str) -> str:
    return zone[:-1] + ("b" if zone[-1] != "b" else "a")


def _family(engine: str) -> str:
    return engine + _major(engine, OFFERS[engine].version)


def _major(engine: str, version: str) -> str:
    parts = version.split(".")
    return parts[0] if engine == "postgres" else ".".join(parts[:2])


def _engine_version(name: str, offer: Offer) -> dict:
    return {"Engine": name, "EngineVersion": offer.version, "MajorEngineVersion": _major(name, offer.version),
            "DBParameterGroupFamily": _family(name), "DBEngineDescription": offer.description,
            "DBEngineVersionDescription": f"{offer.description} {offer.version}", "Status": "available",
            "ValidUpgradeTarget": [], "SupportsReadReplica": True, "SupportsGlobalDatabases": False}


def _utc(time: Any) -> datetime.datetime:
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


# Refusals. AWS's own words where they are known; always what was wrong and what is expected.

def _refuse(code: str, message: str):
    raise RDSClientError(code, message)


def _offer(engine: str, version: str | None) -> Offer:
    offer = OFFERS[engine]
    try:
        known = offer.version
    except EngineUnavailable as error:
        _refuse("InsufficientDBInstanceCapacity", str(error))
    if version not in (None, known, _major(engine, known)):
        _refuse("InvalidParameterCombination", f"Cannot find version {version} for {engine}. Here runs {known}; "
                "DescribeDBEngineVersions lists what can be had.")
    return offer


def _check_class(name: str | None) -> None:
    if not name or not re.fullmatch(r"db\.[a-z]+\d[a-z0-9-]*\.(micro|small|medium|large|\d*xlarge|metal.*)", name):
        _refuse("InvalidParameterValue", f"Invalid DB Instance class: {name}. A class reads like db.t4g.micro.")


def _check_password(password: str | None, managed: bool) -> None:
    if managed:
        return
    if not password or not 8 <= len(password) <= 128:
        _refuse("InvalidParameterValue", "The parameter MasterUserPassword is not a valid password: it needs 8 to 128 "
                "characters (for MySQL and MariaDB at most 41).")
    if re.search(r"[/@\" ]|[^\x21-\x7e]", password):
        _refuse("InvalidParameterValue", "The parameter MasterUserPassword is not a valid password. Only printable ASCII "
                "characters besides '/', '@', '\"', ' ' may be used.")


def _check_user(name: str | None) -> None:
    if not name or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        _refuse("InvalidParameterValue", f"The parameter MasterUsername is not valid: {name!r}. It must begin with a letter "
                "and hold letters, digits and underscores, at most 63.")
    if name.lower() in ("rdsadmin", "root", "postgres", "admin_internal") and name.lower() != "postgres":
        _refuse("InvalidParameterValue", f"MasterUsername {name} cannot be used as it is a reserved word used by the engine")


def _check_retention(days: int | None) -> None:
    if days is not None and not 0 <= days <= 35:
        _refuse("InvalidParameterValue", f"Invalid backup retention period: {days}. Must be between 0 and 35.")


def _check_storage(gib: int | None) -> None:
    if gib is not None and not 20 <= gib <= 65536:
        _refuse("InvalidParameterValue", f"Invalid storage size: {gib} GiB. General Purpose (gp3) storage takes 20 to 65536 GiB.")


def _check_parameter(known: dict[str, dict], parameter: dict) -> None:
    name, value = parameter["ParameterName"], parameter.get("ParameterValue")
    if name not in known:
        _refuse("InvalidParameterValue", f"Could not find parameter with name: {name}")
    row = known[name]
    if not row["IsModifiable"]:
        _refuse("InvalidParameterValue", f"The parameter {name} cannot be modified.")
    if row["ApplyType"] == "static" and parameter.get("ApplyMethod") == "immediate":
        _refuse("InvalidParameterCombination", f"cannot use immediate apply method for static parameter {name}; "
                "use pending-reboot.")
    allowed = row.get("AllowedValues")
    if allowed and row["DataType"] in ("integer", "float"):
        low, high = (float(part) for part in re.fullmatch(r"(-?[\d.e+]+)-(-?[\d.e+]+)", allowed).groups())
        try:
            fits = low <= float(value) <= high
        except (TypeError, ValueError):
            fits = False
        if not fits:
            _refuse("InvalidParameterValue", f"Invalid parameter value: {value} for: {name} allowed values are: {allowed}")
