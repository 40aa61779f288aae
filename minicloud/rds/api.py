"""The RDS API on real databases: moto keeps the records, and what it records is done to `instance.Instance`s.

Operations here check what AWS would refuse and moto lets pass, let moto record the rest, and start the work on the
engines in the background; the record's status tells how far it is. An operation that is not here is moto's alone: a
record of the control plane. Error codes are those of botocore's RDS model.
"""

import datetime
import re
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moto.rds.urls
from moto.core.responses import ActionResult
from moto.rds.exceptions import DBInstanceAlreadyExists, DBParameterGroupNotFoundError
from moto.rds.models import DBInstance, DBParameterGroup, DBSnapshot
from moto.rds.responses import RDSResponse

from minicloud.rds import windows
from minicloud.rds.blue_green import BlueGreenDeployments
from minicloud.rds.instance import Host, Instance
from minicloud.rds.limits import (
    check_class,
    check_create,
    check_growth,
    check_identifier,
    check_license,
    check_parameter,
    check_password,
    check_port,
    check_quota,
    check_replicas,
    check_retention,
    check_storage,
    refuse,
)
from minicloud.rds.maintenance import WAITS_FOR_WINDOW, Maintenance, interruptions, note_storage
from minicloud.rds.monitoring import MonitoringParameters
from minicloud.rds.offers import (
    OFFERS,
    Offer,
    absent_notice,
    engine_version,
    family,
    major,
    offer_of,
    offered,
    recorded,
)
from minicloud.rds.plane import Plane, group_values, other_zone, record_automated_backup
from minicloud.rds.security import Security


def serve(host: Host, log: Path, responses: type["Responses"]) -> Plane:
    """Put these operations in the place of moto's; return the data plane they work on."""
    responses.plane = Plane(host, log)
    moto.rds.urls.url_paths = {"{0}/$": responses.dispatch}
    return responses.plane


class Responses(BlueGreenDeployments, Maintenance, MonitoringParameters, Security, RDSResponse):
    """The operations that reach the engines."""

    plane: Plane

    def call_action(self):
        if (self._get_action() or "").startswith("Describe"):
            return super().call_action()
        with self.plane.changing:  # what a request has checked must still hold when it acts
            return super().call_action()

    def create_db_instance(self) -> ActionResult:
        if self.params.get("Engine") not in OFFERS:
            return super().create_db_instance()
        offer = self._check_create(self.params)
        self.params["EngineVersion"] = offer.version
        self.params.setdefault("Port", offer.default_port)
        self.params.setdefault("StorageType", "io1" if self.params.get("Iops") else "gp3")
        answer = super().create_db_instance()
        db = answer.result["DBInstance"]
        if offer.server is None:
            self._identify(db)
            self.plane.work(db, "creating", lambda: self.plane.tell(db, "absent", absent_notice(db.engine)))
            return answer
        instance = self._new(db)
        steps = [lambda: instance.create(db.master_username, db._master_user_password, db.db_name)]
        self.plane.work(db, "creating", *steps, *self._finishing(db, instance))
        return answer

    def _new(self, db: DBInstance) -> Instance:
        """Adopt a fresh moto record: give it an identity of its own and an Instance."""
        self._identify(db)
        instance = self.plane.add(db)
        if db.backup_retention_period:
            instance.archive = self.plane.host.directory("a")
        return instance

    def _identify(self, db: DBInstance) -> None:
        """Give a fresh moto record what moto gives to all records alike, or not at all."""
        db.dbi_resource_id = "db-" + uuid.uuid4().hex[:26].upper()
        db.created = db.instance_create_time = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        db.secondary_availability_zone = other_zone(db.availability_zone) if db.multi_az else None
        db.pending_modified_values = {}
        db.parameters_pending = False
        db.status_infos = []
        db.storage_changes, db.is_old_blue = [], False

    def _finishing(self, db: DBInstance, instance: Instance) -> list[Callable]:
        """Return the steps that complete a new instance: first backup, standby."""
        def back_up():
            if db.backup_retention_period:
                db.status = "backing-up"
                instance.back_up()
                record_automated_backup(db)

        def add_standby():
            if db.multi_az:
                db.status = "modifying" if db.status == "backing-up" else db.status
                instance.add_standby()

        return [back_up, add_standby]

    def _check_create(self, params) -> Offer:
        self._check_new_name(params["DBInstanceIdentifier"])
        offer = offer_of(params["Engine"], params.get("EngineVersion"))
        license_model = params.setdefault("LicenseModel", offer.licenses[0])
        check_license(license_model, offer.licenses, params["Engine"])
        check_create(params, offer.version, license_model)
        params["PreferredBackupWindow"], params["PreferredMaintenanceWindow"] = windows.choose(
            self.region, params.get("PreferredBackupWindow"), params.get("PreferredMaintenanceWindow"))
        windows.check(params["PreferredBackupWindow"], params["PreferredMaintenanceWindow"])
        self._check_group(params.get("DBParameterGroupName"), params["Engine"])
        if params.get("MultiAZ") and params.get("AvailabilityZone"):
            refuse("InvalidParameterCombination",
                    "Requesting a specific availability zone is not valid for Multi-AZ instances.")
        return offer

    def _check_new_name(self, name: str, parameter: str = "DBInstanceIdentifier") -> None:
        check_identifier(name, parameter)
        if name.lower() in self.backend.databases:
            raise DBInstanceAlreadyExists()
        check_quota(len(self.backend.databases))

    def _check_group(self, name: str | None, engine: str) -> None:
        if not name:
            return
        self._add_default_groups()
        group = self.backend.db_parameter_groups.get(name)
        if group is None:
            raise DBParameterGroupNotFoundError(name)
        if group.family != family(engine):
            refuse("InvalidParameterCombination", f"The parameter group {name} with family {group.family} can't be used "
                   f"for this instance: its family is {family(engine)}.")

    def describe_db_engine_versions(self) -> ActionResult:
        engine, version = self.params.get("Engine"), self.params.get("EngineVersion")
        rows = [engine_version(name) for name in offered() + recorded() if engine in (None, name)]
        return ActionResult({"DBEngineVersions": [row for row in rows if version in (
            None, row["EngineVersion"], row["MajorEngineVersion"])]})

    def modify_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None and db.engine not in OFFERS:
            return super().modify_db_instance()
        self._require_available(db)
        self._check_modify(db, self.params)
        if self.params.get("ApplyImmediately"):
            for name, value in db.pending_modified_values.items():
                self.params.setdefault(name, value)
            db.pending_modified_values = {}
        else:
            db.pending_modified_values |= self._put_off()
        note_storage(db, self.params)
        before = (db.backup_retention_period, db.db_parameter_group_name, db.db_instance_class, db.multi_az)
        answer = super().modify_db_instance()
        self.plane.work(db, "modifying", *(self._changes(db, instance, *before) if instance else ()))
        return answer

    def _check_modify(self, db: DBInstance, params) -> None:
        check_retention(params.get("BackupRetentionPeriod"))
        if "MasterUserPassword" in params:
            check_password(params["MasterUserPassword"], False, db.engine)
        if "DBInstanceClass" in params:
            check_class(params["DBInstanceClass"], db.engine, db.engine_version, db.license_model)
        if params.get("EngineVersion") not in (None, db.engine_version, major(db.engine, db.engine_version)):
            offer_of(db.engine, params["EngineVersion"])
        if db.is_replica and (params.get("MultiAZ") or params.get("BackupRetentionPeriod")):
            refuse("NotImplemented", "minicloud runs no Multi-AZ read replicas and backs up none. Promote it first.")
        if db.is_replica and params.get("MasterUserPassword"):
            refuse("InvalidDBInstanceState", "The master password of a read replica is its source's: modify that.")
        self._check_group(params.get("DBParameterGroupName"), db.engine)
        if params.get("NewDBInstanceIdentifier"):
            refuse("NotImplemented", "minicloud does not rename DB instances. Create one with the new identifier.")
        if any(params.get(name) for name in ("AllocatedStorage", "StorageType", "Iops", "StorageThroughput")):
            check_storage(db.engine, params.get("AllocatedStorage", db.allocated_storage),
                          params.get("StorageType", db.storage_type), params.get("Iops", db.iops),
                          params.get("StorageThroughput"))
        if params.get("AllocatedStorage"):
            check_growth(db.allocated_storage, params["AllocatedStorage"], db.storage_changes)
        check_port(params.get("DBPortNumber"), db.engine)
        windows.check(params.get("PreferredBackupWindow", db.preferred_backup_window),
                      params.get("PreferredMaintenanceWindow", db.preferred_maintenance_window))
        if params.get("BackupRetentionPeriod") == 0 and db.replicas:
            refuse("InvalidParameterCombination", "Automated backups can't be turned off: the instance has read replicas.")

    def _put_off(self) -> dict:
        """Take out of the request what waits for the maintenance window, and return it."""
        return {name: self.params.pop(name) for name in WAITS_FOR_WINDOW if self.params.get(name) is not None}

    def _changes(self, db: DBInstance, instance: Instance, retention: int, group: str | None, *before):
        password = self.params.get("MasterUserPassword")
        if password:
            yield lambda: instance.primary.set_password(db.master_username, password)
        if db.backup_retention_period and not retention:
            yield instance.enable_backups
            yield lambda: record_automated_backup(db)
        if retention and not db.backup_retention_period:
            yield instance.disable_backups
        if db.db_parameter_group_name != group:
            db.parameters_pending = True
            yield lambda: instance.set_parameters(group_values(db))
        yield from interruptions(self.plane, db, *before)

    def reboot_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().reboot_db_instance()
        self._require_available(db)
        if not self.params.get("ForceFailover"):
            self.plane.work(db, "rebooting", instance.reboot)
            return ActionResult({"DBInstance": db})
        if not db.multi_az:
            refuse("InvalidParameterCombination",
                    "ForceFailover can't be used: the DB instance is not configured for Multi-AZ.")
        if not instance.in_sync:
            refuse("InvalidDBInstanceState", "The standby is still being built; a failover is possible when it is in sync.")
        self.plane.work(db, "rebooting", lambda: instance.fail_over(planned=True),
                        lambda: setattr(db, "parameters_pending", False))
        return ActionResult({"DBInstance": db})

    def stop_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().stop_db_instance()
        self._require_available(db)
        if db.is_replica or db.replicas:
            refuse("InvalidDBInstanceState", f"Cannot stop {db.db_instance_identifier}: it is a read replica or has one.")
        if self.params.get("DBSnapshotIdentifier"):
            refuse("NotImplemented", "minicloud takes no snapshot at a stop. Call CreateDBSnapshot first.")
        self.plane.work(db, "stopping", instance.stop, lambda: self.plane.tell(db, "stopped"), then="stopped")
        return ActionResult({"DBInstance": db})

    def start_db_instance(self) -> ActionResult:
        db, instance = self._find()
        if instance is None:
            return super().start_db_instance()
        if db.status != "stopped":
            refuse("InvalidDBInstanceState", f"Instance {db.db_instance_identifier} is {db.status}, not stopped.")
        self.plane.work(db, "starting", instance.start, lambda: self.plane.tell(db, "started"))
        return ActionResult({"DBInstance": db})

    def delete_db_instance(self) -> ActionResult:
        db, instance = self._find()
        final, skip = self.params.get("FinalDBSnapshotIdentifier"), self.params.get("SkipFinalSnapshot")
        if db.deletion_protection:
            return super().delete_db_instance()  # moto refuses in AWS's words
        if not final and not skip and not db.is_replica:
            refuse("InvalidParameterCombination",
                    "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
        if final and skip:
            refuse("InvalidParameterCombination",
                    "FinalDBSnapshotIdentifier can not be specified when SkipFinalSnapshot is true.")
        if instance is None:
            for orphan in map(self.backend.databases.get, db.replicas):
                if orphan and orphan.source_db_instance_identifier == db.db_instance_identifier:
                    orphan.is_replica, orphan.source_db_instance_identifier = False, None
            return super().delete_db_instance()
        if db.status in ("creating", "deleting"):
            refuse("InvalidDBInstanceState", f"Instance {db.db_instance_identifier} is currently {db.status}.")
        return self._delete(db, instance, final)

    def _delete(self, db: DBInstance, instance: Instance, final: str | None) -> ActionResult:
        instances = list(self.plane.instances.items())
        source = next((d for d, i in instances if i is instance.source), None)
        orphans = [d for d, i in instances if i in instance.replicas]
        if any(d.status != "available" for d in orphans) or len(orphans) < len(db.replicas):
            refuse("InvalidDBInstanceState", f"The read replicas of {db.db_instance_identifier} are promoted when it is "
                   f"deleted, and that needs all of them available: {', '.join(db.replicas)}.")
        if final and db.status not in ("available", "stopped"):
            self._require_available(db)
        snapshot, stopped = None, db.status == "stopped"
        if final:
            snapshot = self.backend.create_db_snapshot(db.db_instance_identifier, final, snapshot_type="manual")
        elif db.is_replica:
            self.params["SkipFinalSnapshot"] = True

        def gone():
            if source:
                _forget_replica(source, db)
            for automated in [s for s in self.backend.database_snapshots.values()
                              if s.snapshot_type == "automated" and s.db_instance_identifier == db.db_instance_identifier]:
                self.backend.database_snapshots.pop(automated.db_snapshot_identifier)
            self.plane.instances.pop(db)
            self.plane.tell(db, "deleted")
            self.backend.databases.pop(db.db_instance_identifier)
            if db.manage_master_user_password:
                db.master_user_secret.delete_secret()

        steps = [instance.start] if snapshot and stopped else []
        steps += [lambda: self._fill_snapshot(snapshot, instance)] if snapshot else []
        steps += [lambda orphan=orphan: self._promote(orphan) for orphan in orphans]
        self.plane.work(db, "deleting", *steps, instance.delete, gone, then="deleted")
        return ActionResult({"DBInstance": db})

    # Read replicas

    def create_db_instance_read_replica(self) -> ActionResult:
        self._require("SourceDBInstanceIdentifier")
        source_db = self.backend.find_db_from_id(self.params["SourceDBInstanceIdentifier"])
        source = self.plane.instances.get(source_db)
        if source is None and source_db.engine not in OFFERS:
            return super().create_db_instance_read_replica()
        self._check_replica(source_db)
        replica_db, answer = self._add_replica(source_db)
        if source:
            self.plane.work(replica_db, "creating", lambda: self.plane.instances[replica_db].create_replica(source))
        return answer

    def _check_replica(self, source_db: DBInstance) -> None:
        self._require_available(source_db)
        self._check_new_name(self.params["DBInstanceIdentifier"])
        check_replicas(source_db.engine, len(source_db.replicas))
        check_port(self.params.get("Port"), source_db.engine)
        if "DBInstanceClass" in self.params:
            check_class(self.params["DBInstanceClass"], source_db.engine, source_db.engine_version, source_db.license_model)
        if not source_db.backup_retention_period:
            refuse("InvalidDBInstanceState", "Automated backups are not enabled for this database instance. To enable "
                    "automated backups, use ModifyDBInstance to set the backup retention period to a non-zero value.")
        if self.params.get("MultiAZ"):
            refuse("NotImplemented", "minicloud runs no Multi-AZ read replicas. Leave MultiAZ out.")

    def _add_replica(self, source_db: DBInstance) -> tuple[DBInstance, ActionResult]:
        """Record a replica; return its record, which has an Instance where the source has one, and moto's answer."""
        answer = super().create_db_instance_read_replica()
        replica_db = answer.result["DBInstance"]
        self._make_its_own(replica_db, source_db)
        (self._new if source_db in self.plane.instances else self._identify)(replica_db)
        replica_db.status_infos = [{"StatusType": "read replication", "Normal": True, "Status": "replicating"}]
        return replica_db, answer

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
            refuse("InvalidDBInstanceState", f"DB instance {db.db_instance_identifier} is not a read replica.")
        self._require_available(db)
        check_retention(self.params.get("BackupRetentionPeriod"))
        db.backup_retention_period = self.params.get("BackupRetentionPeriod", 1)
        steps = [lambda: self._promote(db)]
        if db.backup_retention_period:
            steps += [lambda: setattr(db, "status", "backing-up"), instance.enable_backups,
                      lambda: record_automated_backup(db)]
        self.plane.work(db, "modifying", *steps)
        return ActionResult({"DBInstance": db})

    def _promote(self, db: DBInstance) -> None:
        instance = self.plane.instances[db]
        source = next(d for d, i in list(self.plane.instances.items()) if i is instance.source)
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
        self.plane.work(db, "backing-up", lambda: self._take_snapshot(snapshot, instance))
        return answer

    def _take_snapshot(self, snapshot: DBSnapshot, instance: Instance) -> None:
        """Fill a snapshot; when that fails the snapshot has failed, not the instance."""
        try:
            self._fill_snapshot(snapshot, instance)
        except Exception:
            snapshot.status = "failed"
            self.plane.record_failure()

    def _fill_snapshot(self, snapshot: DBSnapshot, instance: Instance) -> None:
        path = self.plane.host.directory("b", make=False)
        snapshot.status = "creating"
        instance.snapshot_to(path)
        self.plane.snapshots[snapshot] = path
        snapshot.status, snapshot.percent_progress = "available", 100

    def copy_db_snapshot(self) -> ActionResult:
        source = self._find_snapshot(self.params["SourceDBSnapshotIdentifier"])
        self._require_complete(source)
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
        snapshot = self._find_snapshot(self.params["DBSnapshotIdentifier"])
        if snapshot.snapshot_type == "automated":
            refuse("InvalidDBSnapshotState", f"The snapshot {snapshot.db_snapshot_identifier} is automated; "
                   "only manual ones can be deleted. Set BackupRetentionPeriod to 0 to be rid of it.")
        if snapshot.status == "creating":
            self._require_complete(snapshot)
        answer = super().delete_db_snapshot()
        path = self.plane.snapshots.pop(answer.result["DBSnapshot"], None)
        if path:
            shutil.rmtree(path, ignore_errors=True)
        answer.result["DBSnapshot"].status = "deleted"
        return answer

    def restore_db_instance_from_db_snapshot(self) -> ActionResult:
        self._require("DBSnapshotIdentifier")
        snapshot = self._find_snapshot(self.params["DBSnapshotIdentifier"])
        self._require_complete(snapshot)
        files = self._files(snapshot)
        if files is None:
            return super().restore_db_instance_from_db_snapshot()
        self._check_restore(snapshot.engine)
        answer = super().restore_db_instance_from_db_snapshot()
        db = answer.result["DBInstance"]
        self._reset_restored(db)
        instance = self._new(db)
        self.plane.work(db, "creating", lambda: instance.create_from(files), *self._finishing(db, instance))
        return answer

    def restore_db_instance_to_point_in_time(self) -> ActionResult:
        self._require("SourceDBInstanceIdentifier")
        source_db = self.backend.describe_db_instances(self.params.get("SourceDBInstanceIdentifier"))[0]
        source = self.plane.instances.get(source_db)
        if source is None:
            return super().restore_db_instance_to_point_in_time()
        until = self._restore_time(source_db, source)
        self._check_restore(source_db.engine, "TargetDBInstanceIdentifier")
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
            refuse("PointInTimeRestoreNotEnabled", f"Automated backups are not enabled for {db.db_instance_identifier} "
                    "(BackupRetentionPeriod is 0, or it is a read replica), so there is no log to restore from.")
        asked, newest = self.params.get("RestoreTime"), self.params.get("UseLatestRestorableTime")
        if bool(asked) == bool(newest):
            refuse("InvalidParameterCombination", "Specify either RestoreTime or UseLatestRestorableTime, not both.")
        if newest:
            return None
        asked = _utc(asked)
        if not source.earliest <= asked <= source.latest:
            refuse("InvalidParameterValue", "The specified instance cannot be restored to a time earlier than "
                    f"{source.earliest:%Y-%m-%dT%H:%M:%SZ} or later than {source.latest:%Y-%m-%dT%H:%M:%SZ}: "
                    f"{asked:%Y-%m-%dT%H:%M:%SZ} lies outside.")
        return asked

    def _check_restore(self, engine: str, name: str = "DBInstanceIdentifier") -> None:
        self._check_new_name(self.params[name], name)
        check_port(self.params.get("Port"), engine)
        if "DBInstanceClass" in self.params:
            check_class(self.params["DBInstanceClass"], engine)

    def _reset_restored(self, db: DBInstance) -> None:
        """Set what AWS does not take over from the source: a restore is a new, single-AZ, unprotected instance."""
        db.multi_az = bool(self.params.get("MultiAZ"))
        db.deletion_protection = bool(self.params.get("DeletionProtection"))
        db.replicas, db.is_replica, db.source_db_instance_identifier = [], False, None
        db.availability_zone = self.params.get("AvailabilityZone") or f"{self.region}a"
        db.db_parameter_group_name = self.params.get("DBParameterGroupName")

    def _find_snapshot(self, identifier: str) -> DBSnapshot:
        return self.backend.get_db_snapshot(identifier)

    def _require_complete(self, snapshot: DBSnapshot) -> None:
        if snapshot.status != "available":
            refuse("InvalidDBSnapshotState", f"The snapshot {snapshot.db_snapshot_identifier} is {snapshot.status}; "
                   "it can be used when it is available.")

    def _files(self, snapshot: DBSnapshot) -> Path | None:
        """Return where a snapshot's data lies; an automated one's is its instance's base backup."""
        if snapshot.snapshot_type == "automated":
            for db, instance in list(self.plane.instances.items()):
                if db.db_instance_identifier == snapshot.db_instance_identifier and db.region == snapshot.region:
                    return instance.base
        return self.plane.snapshots.get(snapshot)

    # Parameter groups

    def describe_db_parameter_groups(self) -> ActionResult:
        self._add_default_groups()
        return super().describe_db_parameter_groups()

    def create_db_parameter_group(self) -> ActionResult:
        families, asked = [family(engine) for engine in offered()], self.params.get("DBParameterGroupFamily")
        if asked and re.match(r"(postgres|mysql|mariadb)\d", asked) and asked not in families:
            refuse("InvalidParameterValue",
                    f"ParameterGroupFamily {asked} is not a valid parameter group family; here are {', '.join(families)}.")
        return super().create_db_parameter_group()

    def _add_default_groups(self) -> None:
        for engine in offered():
            of_engine = family(engine)
            name = f"default.{of_engine}"
            self.backend.db_parameter_groups.setdefault(name, DBParameterGroup(
                self.backend, name, f"Default parameter group for {of_engine}", of_engine))

    def describe_db_parameters(self) -> ActionResult:
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
            refuse("InvalidDBParameterGroupState", f"The default parameter group {group.name} cannot be modified. "
                    "Create a parameter group of the same family and modify that.")
        if engine:
            known = {row["ParameterName"]: row for row in self.plane.catalogue(engine)}
            for parameter in self.params.get("Parameters", []):
                check_parameter(known, parameter)
        answer = super().modify_db_parameter_group()
        for db, instance in list(self.plane.instances.items()):
            if db.db_parameter_group_name == group.name and db.region == self.region:
                static = {p["ParameterName"] for p in self.params.get("Parameters", [])
                          if known[p["ParameterName"]]["ApplyType"] == "static" or p.get("ApplyMethod") == "pending-reboot"}
                db.parameters_pending = db.parameters_pending or bool(static)
                instance.set_parameters(group_values(db))
        return answer

    def delete_db_parameter_group(self) -> ActionResult:
        name = self.params["DBParameterGroupName"]
        if any(db.db_parameter_group_name == name for db in self.backend.databases.values()):
            refuse("InvalidDBParameterGroupState", "One or more database instances are still members of this parameter "
                   f"group {name}, so the group cannot be deleted.")
        return super().delete_db_parameter_group()

    def _group(self) -> tuple[DBParameterGroup, str | None]:
        self._add_default_groups()
        name = self.params["DBParameterGroupName"]
        group = self.backend.db_parameter_groups.get(name)
        if group is None:
            raise DBParameterGroupNotFoundError(name)
        return group, next((engine for engine in offered() if family(engine) == group.family), None)

    # Shared

    def _find(self) -> tuple[DBInstance, Instance | None]:
        db = self.backend.describe_db_instances(self.params["DBInstanceIdentifier"])[0]
        return db, self.plane.instances.get(db)

    def _require(self, name: str) -> None:
        """Refuse a request without the parameter `name`: AWS has other ways to say it, minicloud has not."""
        if not self.params.get(name):
            refuse("InvalidParameterCombination", f"minicloud needs the parameter {name}.")

    def _require_available(self, db: DBInstance) -> None:
        if db.status != "available":
            refuse("InvalidDBInstanceState",
                    f"Instance {db.db_instance_identifier} is {db.status}; wait until it is available.")


def _forget_replica(source: DBInstance, replica: DBInstance) -> None:
    names = (replica.db_instance_identifier, replica.db_instance_arn)
    source.replicas = [name for name in source.replicas if name not in names]


def _utc(time: Any) -> datetime.datetime:
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
