"""Blue/green deployments: a copy of an instance that follows it, is changed and tried, and then takes its place.

Green follows by the engine's own replication: physical (streaming) on PostgreSQL, as on RDS where the major version stays;
the binary log on MariaDB. The steps of a switchover are those of the user guide as of 2026-11-24:
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/blue-green-deployments-switching.html
"""

import datetime
import re
import secrets
import string
from dataclasses import dataclass, field

from moto.core.responses import ActionResult
from moto.rds.models import DBInstance

from minicloud.rds.limits import check_class, refuse
from minicloud.rds.offers import offer_of
from minicloud.rds.plane import group_values, record_automated_backup

TASKS = ("CREATING_READ_REPLICA_OF_SOURCE", "CONFIGURE_BACKUPS")
TIMEOUTS = range(30, 3601)  # seconds
CANNOT_CHANGE = ("TargetIops", "TargetStorageType", "TargetAllocatedStorage", "TargetStorageThroughput",
                 "TargetDBClusterParameterGroupName", "TargetResourceConfigurations", "UpgradeTargetStorageConfig")


@dataclass(eq=False)
class Deployment:
    """The record of a deployment; its attributes are named as moto's serialiser and filters want them."""

    blue_green_deployment_name: str
    blue: DBInstance
    green: DBInstance
    tag_list: list[dict]
    blue_green_deployment_identifier: str = field(default_factory=lambda: f"bgd-{_random(16)}")
    create_time: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).replace(tzinfo=None))
    delete_time: datetime.datetime | None = None
    status: str = "PROVISIONING"
    status_details: str | None = None

    @property
    def source(self) -> str:
        return self.blue.db_instance_arn

    @property
    def target(self) -> str:
        return self.green.db_instance_arn

    @property
    def tasks(self) -> list[dict]:
        state = {"PROVISIONING": "IN_PROGRESS", "INVALID_CONFIGURATION": "FAILED"}.get(self.status, "COMPLETED")
        return [{"Name": name, "Status": state} for name in TASKS]

    @property
    def switchover_details(self) -> list[dict]:
        return [{"SourceMember": self.source, "TargetMember": self.target, "Status": self.status}]


class BlueGreenDeployments:
    """The operations; a mixin of `api.Responses`."""

    def create_blue_green_deployment(self) -> ActionResult:
        params, blue_db = self.params, self.backend.find_db_from_id(self.params["Source"])
        name = params["BlueGreenDeploymentName"]
        if name in {other.blue_green_deployment_name for other in self.backend.blue_green_deployments.values()}:
            refuse("BlueGreenDeploymentAlreadyExistsFault", f"A Blue Green Deployment with the name '{name}' already exists")
        self._check_blue(blue_db)
        self.params = type(params)({
            "DBInstanceIdentifier": f"{blue_db.db_instance_identifier[:50]}-green-{_random(6)}",
            "SourceDBInstanceIdentifier": blue_db.db_instance_identifier,
            "DBInstanceClass": params.get("TargetDBInstanceClass") or blue_db.db_instance_class,
            "DBParameterGroupName": params.get("TargetDBParameterGroupName") or blue_db.db_parameter_group_name})
        self._check_replica(blue_db)
        green_db, _ = self._add_replica(blue_db)
        green_db.tags = [dict(tag) for tag in blue_db.tags]
        deployment = Deployment(name, blue_db, green_db, params.get("Tags", []))
        self.backend.blue_green_deployments[deployment.blue_green_deployment_identifier] = deployment
        self.plane.instances[green_db].archive = self.plane.host.directory("a")  # it backs up as soon as it is on its own
        self.plane.work(green_db, "creating", lambda: self._make_green(deployment))
        return ActionResult({"BlueGreenDeployment": deployment})

    def _check_blue(self, db: DBInstance) -> None:
        params, instance = self.params, self.plane.instances.get(db)
        if instance is None:
            refuse("SourceDatabaseNotSupportedFault", f"Blue/green deployments are not supported for engine {db.engine}: "
                   "RDS has them for MariaDB, MySQL and PostgreSQL.")
        if db.manage_master_user_password:
            refuse("SourceDatabaseNotSupportedFault", "Blue/green deployments don't support managing master user passwords "
                   "with AWS Secrets Manager.")
        if db.replicas or instance.source:
            refuse("NotImplemented", "minicloud makes no green copies of read replicas. Use a source without any.")
        others = [name for name in CANNOT_CHANGE if params.get(name) is not None]
        if others:
            refuse("NotImplemented", f"minicloud does not have {others[0]}: a green instance has its own parameter group and "
                   "class. On AWS the call works.")
        offer_of(db.engine, params.get("TargetEngineVersion"))
        self._check_group(params.get("TargetDBParameterGroupName"), db.engine)
        if params.get("TargetDBInstanceClass"):
            check_class(params["TargetDBInstanceClass"], db.engine, db.engine_version, db.license_model)

    def _make_green(self, deployment: Deployment) -> None:
        try:
            self.plane.instances[deployment.green].create_replica(self.plane.instances[deployment.blue])
            deployment.status = "AVAILABLE"
        except Exception as error:
            deployment.status, deployment.status_details = "INVALID_CONFIGURATION", str(error)
            raise

    def switchover_blue_green_deployment(self) -> ActionResult:
        deployment = self._find_deployment()
        seconds = self.params.get("SwitchoverTimeout", 300)
        if seconds not in TIMEOUTS:
            refuse("InvalidParameterValue", f"Invalid SwitchoverTimeout: {seconds}. Must be between 30 and 3600 seconds.")
        blue, green = (self.plane.instances.get(db) for db in (deployment.blue, deployment.green))
        if deployment.status in ("AVAILABLE", "SWITCHOVER_FAILED") and (not green or not blue or green.source is not blue):
            deployment.status = "INVALID_CONFIGURATION"
            deployment.status_details = "Green does not follow blue any more: it was promoted, or one of them was deleted."
        if deployment.status not in ("AVAILABLE", "SWITCHOVER_FAILED"):
            refuse("InvalidBlueGreenDeploymentStateFault", f"The blue/green deployment is {deployment.status}; it can be "
                   "switched over when it is AVAILABLE.")
        for db in (deployment.blue, deployment.green):
            if db.status != "available":
                refuse("InvalidBlueGreenDeploymentStateFault",
                       f"DB instance {db.db_instance_identifier} is not in available state")
        deployment.status, deployment.status_details, deployment.blue.status = "SWITCHOVER_IN_PROGRESS", None, "modifying"
        self.plane.work(deployment.green, "modifying", lambda: self._switch_over(deployment, seconds))
        return ActionResult({"BlueGreenDeployment": deployment})

    def _switch_over(self, deployment: Deployment, seconds: int) -> None:
        blue_db, green_db = deployment.blue, deployment.green
        blue, green = self.plane.instances[blue_db], self.plane.instances[green_db]
        had_standby, old_name = blue.multi_az, self._old_name(blue_db)
        self.plane.tell(blue_db, "switchover-started")
        try:
            blue.switch_over(green, f"{blue_db.region}/{old_name}", seconds)
        except Exception as error:
            self.plane.record_failure()
            self.plane.tell(blue_db, "switchover-canceled", str(error))
            deployment.status, deployment.status_details, blue_db.status = "SWITCHOVER_FAILED", str(error), "available"
            return
        self._swap_records(blue_db, green_db, old_name)
        deployment.status, deployment.status_details = "SWITCHOVER_COMPLETED", "Switchover completed"
        blue_db.status = "available"
        self.plane.tell(green_db, "switchover-completed")
        green.back_up()
        record_automated_backup(green_db)
        if had_standby:
            green.add_standby()
            green_db.multi_az, green_db.secondary_availability_zone = True, green.zones[1]

    def _old_name(self, db: DBInstance) -> str:
        """Return the first free name of NAME-old1, NAME-old2, …"""
        n = 1
        while f"{db.db_instance_identifier[:58]}-old{n}" in self.backend.databases:
            n += 1
        return f"{db.db_instance_identifier[:58]}-old{n}"

    def _swap_records(self, blue_db: DBInstance, green_db: DBInstance, old_name: str) -> None:
        """Do to the records what `Instance.switch_over` has done to the servers."""
        backend, name = self.backend, blue_db.db_instance_identifier
        with self.plane.changing:
            backend.databases.pop(green_db.db_instance_identifier)
            green_db.db_instance_identifier, blue_db.db_instance_identifier = name, old_name
            backend.databases[name], backend.databases[old_name] = green_db, blue_db
            for snapshot in [s for s in backend.database_snapshots.values()
                             if s.snapshot_type == "automated" and s.db_instance_identifier == name]:
                backend.database_snapshots.pop(snapshot.db_snapshot_identifier)  # they are blue's
                snapshot.db_instance_identifier = old_name
                snapshot.db_snapshot_identifier = re.sub(f"^rds:{name}", f"rds:{old_name}", snapshot.db_snapshot_identifier)
                backend.database_snapshots[snapshot.db_snapshot_identifier] = snapshot
        blue_db.replicas, green_db.is_replica, green_db.source_db_instance_identifier = [], False, None
        green_db.status_infos, green_db.deletion_protection = [], blue_db.deletion_protection
        green_db.backup_retention_period = blue_db.backup_retention_period
        blue_db.multi_az, blue_db.secondary_availability_zone, blue_db.is_old_blue = False, None, True

    def delete_blue_green_deployment(self) -> ActionResult:
        deployment = self._find_deployment()
        if deployment.status in ("PROVISIONING", "SWITCHOVER_IN_PROGRESS"):
            refuse("InvalidBlueGreenDeploymentStateFault",
                   f"The blue/green deployment is {deployment.status}; it can be deleted when that is over.")
        completed, delete_green = deployment.status == "SWITCHOVER_COMPLETED", self.params.get("DeleteTarget")
        if completed and delete_green:
            refuse("InvalidBlueGreenDeploymentStateFault", "You can't specify DeleteTarget: the deployment is "
                   "SWITCHOVER_COMPLETED, and its target is the production database.")
        if delete_green and deployment.green in self.plane.instances:
            self.params = type(self.params)({"DBInstanceIdentifier": deployment.green.db_instance_identifier,
                                             "SkipFinalSnapshot": True})
            self.delete_db_instance()
        blue = self.plane.instances.get(deployment.blue)
        if completed and blue:  # which takes writes again from now on
            deployment.blue.is_old_blue = False
            self.plane.work(deployment.blue, "modifying", lambda: blue.set_parameters(group_values(deployment.blue)))
        self.backend.blue_green_deployments.pop(deployment.blue_green_deployment_identifier)
        deployment.status = "DELETING"
        deployment.delete_time = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        return ActionResult({"BlueGreenDeployment": deployment})

    def _find_deployment(self) -> Deployment:
        identifier = self.params["BlueGreenDeploymentIdentifier"].lower()
        deployment = self.backend.blue_green_deployments.get(identifier)
        if deployment is None:
            refuse("BlueGreenDeploymentNotFoundFault",
                   f"BlueGreenDeploymentIdentifier {identifier} doesn't refer to an existing blue/green deployment.")
        return deployment


def _random(letters: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(letters))
