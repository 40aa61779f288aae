"""The Aurora API on real databases: DB clusters, their instances, snapshots and clones, and global databases.

The operations stand before those of `api.Responses`: what is not Aurora's goes on to them.
"""

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

from moto.core.responses import ActionResult
from moto.rds.exceptions import DBClusterNotFoundError
from moto.rds.models import DBCluster, DBClusterSnapshot, DBInstanceClustered, GlobalCluster, find_cluster

from minicloud.engines.engine import EngineFailed, EngineUnavailable
from minicloud.rds import api
from minicloud.rds.aurora_plane import AURORA, ClusterPlane
from minicloud.rds.cluster import Cluster, Member
from minicloud.rds.instance import until
from minicloud.rds.limits import check_class, check_database, check_identifier, check_password, check_user, refuse

LIKE = {"aurora-postgresql": "postgres", "aurora-mysql": "mysql"}  # whose limits on names, users and passwords hold
READERS = 15
SECONDARIES = 10  # https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-global-database.html, 5 until 2025
SIZES = ("micro", "small", "medium", "large", "xlarge")
ACU_MAX = 256


class Responses(api.Responses):
    """The operations on clusters."""

    aurora: ClusterPlane

    # Clusters

    def create_db_cluster(self) -> ActionResult:
        if self.params.get("Engine") not in AURORA:
            return super().create_db_cluster()
        self._check_create_cluster(self.params)
        primary = self._primary_for(self.params.get("GlobalClusterIdentifier"))
        self.params["EngineVersion"] = AURORA[self.params["Engine"]].version
        answer = super().create_db_cluster()
        record = answer.result["DBCluster"]
        cluster = self.aurora.add(record)
        self._set_capacity(record, cluster)
        if primary:
            record.master_username, record.database_name = primary.master_username, primary.database_name
            record._master_user_password = primary._master_user_password
            cluster.join(self.aurora.clusters[primary])
        self.aurora.work(record, "creating")
        return answer

    def _check_create_cluster(self, params) -> None:
        engine = params["Engine"]
        self._check_new_cluster(params["DBClusterIdentifier"])
        if params.get("EngineMode") == "serverless":
            refuse("InvalidParameterCombination", "EngineMode serverless was Aurora Serverless v1, which has ended. Leave it "
                   "out, set ServerlessV2ScalingConfiguration, and create instances of the class db.serverless.")
        try:
            version = AURORA[engine].version
        except EngineUnavailable as error:
            refuse("InsufficientDBClusterCapacityFault", str(error))
        if params.get("EngineVersion") not in (None, version):
            refuse("InvalidParameterCombination", f"Cannot find version {params['EngineVersion']} for {engine}. Here is "
                   f"{version}; DescribeDBEngineVersions lists what can be had.")
        days = params.get("BackupRetentionPeriod")
        if days is not None and not 1 <= days <= 35:
            refuse("InvalidParameterValue", f"Invalid backup retention period: {days}. Must be between 1 and 35.")
        _check_capacity(params.get("ServerlessV2ScalingConfiguration"))
        if params.get("GlobalClusterIdentifier") and self._has_primary(params["GlobalClusterIdentifier"]):
            if params.get("MasterUsername") or params.get("MasterUserPassword"):
                refuse("InvalidParameterCombination",
                       "Cannot specify user name or password for a secondary cluster: they come from the primary cluster.")
            return
        check_user(params.get("MasterUsername"), LIKE[engine])
        check_password(params.get("MasterUserPassword"), bool(params.get("ManageMasterUserPassword")), LIKE[engine])
        check_database(params.get("DatabaseName"), LIKE[engine])

    def _check_new_cluster(self, name: str) -> None:
        check_identifier(name, "DBClusterIdentifier")
        if name.lower() in self.backend.clusters:
            refuse("DBClusterAlreadyExistsFault", f"DB cluster already exists: {name}")

    def _set_capacity(self, record: DBCluster, cluster: Cluster) -> None:
        """Take over when a cluster's serverless instances pause; AWS's default is after 300 s."""
        wanted = _capacity(record.serverless_v2_scaling_configuration)
        serverless = all(db.db_instance_class == "db.serverless" for db in record._members)
        cluster.pause_after = wanted.get("SecondsUntilAutoPause", 300) if wanted.get("MinCapacity") == 0 and serverless else None

    def modify_db_cluster(self) -> ActionResult:
        record, cluster = self._cluster()
        if cluster is None:
            return super().modify_db_cluster()
        self._require_cluster_available(record)
        if self.params.get("NewDBClusterIdentifier"):
            refuse("NotImplemented", "minicloud does not rename DB clusters. Create one with the new identifier.")
        merged = _capacity(record.serverless_v2_scaling_configuration) | _capacity(
            self.params.get("ServerlessV2ScalingConfiguration"))
        if merged:
            _check_capacity(merged)
            self.params["ServerlessV2ScalingConfiguration"] = merged
        steps, password = [], self.params.get("MasterUserPassword")
        if password:
            check_password(password, False, LIKE[record.engine])
            if cluster.head is None:
                refuse("InvalidDBClusterStateFault", "The password is changed in the database itself, and the cluster "
                       f"{record.db_cluster_identifier} has no instance that could do it. Create one first.")
            steps = [cluster.resume, lambda: cluster.head.server.set_password(record.master_username, password)]
        answer = super().modify_db_cluster()
        self._set_capacity(record, cluster)
        self.aurora.work(record, "modifying", *steps)
        return answer

    def delete_db_cluster(self) -> ActionResult:
        record, cluster = self._cluster()
        final, skip = self.params.get("FinalDBSnapshotIdentifier"), self.params.get("SkipFinalSnapshot")
        if cluster is None or record.deletion_protection:
            return super().delete_db_cluster()
        if bool(final) == bool(skip):
            refuse("InvalidParameterCombination",
                   "Specify either FinalDBSnapshotIdentifier or SkipFinalSnapshot=True, and not both.")
        if record._members:
            refuse("InvalidDBClusterStateFault", "Cluster cannot be deleted, it still contains DB instances in non-deleting "
                   f"state: {', '.join(db.db_instance_identifier for db in record._members)}.")
        if record.global_cluster_identifier:
            refuse("InvalidDBClusterStateFault", f"This cluster is a part of a global cluster, please remove it from "
                   f"{record.global_cluster_identifier.split(':')[-1]} first (RemoveFromGlobalCluster).")
        steps = []
        if final:
            snapshot = self.backend.create_db_cluster_snapshot(record.db_cluster_identifier, final)
            steps = [lambda: self._fill_cluster_snapshot(snapshot, cluster)]

        def gone():
            self.aurora.clusters.pop(record)
            self.backend.clusters.pop(record.db_cluster_identifier)
            if record.manage_master_user_password:
                record.master_user_secret.delete_secret()

        self.aurora.work(record, "deleting", *steps, cluster.delete, gone, then="deleted")
        return ActionResult({"DBCluster": record})

    def failover_db_cluster(self) -> ActionResult:
        record, cluster = self._cluster()
        if cluster is None:
            return super().failover_db_cluster()
        self._require_cluster_available(record)
        target = self.params.get("TargetDBInstanceIdentifier")
        member = next((m for m in cluster.members if m.name == (target or "").lower()), None)
        if target and member is None:
            refuse("InvalidParameterValue", f"Cannot find target instance: {target} is not an instance of this cluster.")
        if cluster.source or cluster.heir() is None or member is cluster.head or member and not member.is_up:
            refuse("InvalidDBClusterStateFault", "A failover needs a running reader to fail over to, in the primary cluster.")
        self.aurora.work(record, "failing-over", lambda: cluster.fail_over(member), failed="available")
        return ActionResult({"DBCluster": record})

    def stop_db_cluster(self) -> ActionResult:
        record, cluster = self._cluster()
        if cluster is None:
            return super().stop_db_cluster()
        self._require_cluster_available(record)
        if cluster.source or cluster.secondaries:
            refuse("InvalidDBClusterStateFault", "A cluster of a global database cannot be stopped.")
        self._set_members(record, "stopping")
        self.aurora.work(record, "stopping", cluster.stop, lambda: self._set_members(record, "stopped"), then="stopped")
        return ActionResult({"DBCluster": record})

    def start_db_cluster(self) -> ActionResult:
        record, cluster = self._cluster()
        if cluster is None:
            return super().start_db_cluster()
        if record.status != "stopped":
            refuse("InvalidDBClusterStateFault", f"DB cluster {record.db_cluster_identifier} is {record.status}, not stopped.")
        self._set_members(record, "starting")
        self.aurora.work(record, "starting", cluster.start, lambda: self._set_members(record, "available"))
        return ActionResult({"DBCluster": record})

    def _set_members(self, record: DBCluster, status: str) -> None:
        for db in record._members:
            db.status = status

    # Instances of a cluster

    def create_db_instance(self) -> ActionResult:
        name, engine = self.params.get("DBClusterIdentifier"), self.params.get("Engine")
        record = self.backend.clusters.get((name or "").lower())
        if engine in AURORA and not name:
            refuse("InvalidParameterCombination", f"An instance of {engine} belongs to a DB cluster: name it in "
                   "DBClusterIdentifier (CreateDBCluster makes one).")
        if record not in self.aurora.clusters:
            return super().create_db_instance()
        cluster = self.aurora.clusters[record]
        self._check_member(record, cluster)
        self.params["DBClusterIdentifier"] = record.db_cluster_identifier
        zones = record.availability_zones
        self.params.setdefault("AvailabilityZone", zones[len(record._members) % len(zones)])
        answer = super(api.Responses, self).create_db_instance()
        db = answer.result["DBInstance"]
        self._identify(db)
        member = Member(db.db_instance_identifier, db.availability_zone, db.promotion_tier, _size(db.db_instance_class))
        self.aurora.members[db] = member
        self._set_capacity(record, cluster)
        self.aurora.work(db, "creating", lambda: _until_created(record), lambda: cluster.add(member, lambda server: server.create_master(
            record.master_username, record._master_user_password, record.database_name)))
        return answer

    def _check_member(self, record: DBCluster, cluster: Cluster) -> None:
        self._check_new_name(self.params["DBInstanceIdentifier"])
        self._refuse_when_stopped(record)
        if self.params["Engine"] != record.engine:
            refuse("InvalidParameterCombination", f"The engine {self.params['Engine']} is not the cluster's: {record.engine}.")
        for name in ("MasterUsername", "MasterUserPassword", "DBName", "AllocatedStorage", "BackupRetentionPeriod", "MultiAZ"):
            if self.params.get(name):
                refuse("InvalidParameterCombination", f"The requested DB Instance will be a member of a DB Cluster. Set {name} "
                       "for the DB Cluster.")
        if self.params.get("DBParameterGroupName"):
            refuse("NotImplemented", "minicloud applies no parameter groups to the instances of Aurora clusters.")
        tier = self.params.get("PromotionTier", 1)
        if not 0 <= tier <= 15:
            refuse("InvalidParameterValue", f"Invalid promotion tier: {tier}. Must be between 0 and 15.")
        self._check_member_class(record)
        if len(record._members) > READERS:
            refuse("InvalidDBClusterStateFault", f"The cluster has a writer and {READERS} readers already; more cannot be had.")

    def _check_member_class(self, record: DBCluster) -> None:
        name = self.params.get("DBInstanceClass")
        if name != "db.serverless":
            return check_class(name, record.engine)
        if not _capacity(record.serverless_v2_scaling_configuration):
            refuse("InvalidDBClusterStateFault", "Set the Serverless v2 scaling configuration on the parent DB cluster before "
                   "creating a Serverless v2 DB instance.")

    def modify_db_instance(self) -> ActionResult:
        db, cluster, member = self._member()
        if member is None:
            return super().modify_db_instance()
        others = {name for name, value in self.params.original_dict().items() if value is not None} - {
            "DBInstanceIdentifier", "PromotionTier", "DBInstanceClass", "ApplyImmediately"}
        if others:
            refuse("NotImplemented", f"minicloud modifies PromotionTier and DBInstanceClass of a cluster's instance, not "
                   f"{', '.join(sorted(others))}.")
        if "DBInstanceClass" in self.params:
            self._check_member_class(db.cluster)
            db.db_instance_class = self.params["DBInstanceClass"]
            self._set_capacity(db.cluster, cluster)
        db.promotion_tier = self.params.get("PromotionTier", db.promotion_tier)
        member.tier, member.size = db.promotion_tier, _size(db.db_instance_class)
        return ActionResult({"DBInstance": db})

    def reboot_db_instance(self) -> ActionResult:
        db, cluster, member = self._member()
        if member is None:
            return super().reboot_db_instance()
        self._require_available(db)
        self.aurora.work(db, "rebooting", lambda: cluster.reboot(member))
        return ActionResult({"DBInstance": db})

    def delete_db_instance(self) -> ActionResult:
        db, cluster, member = self._member()
        if member is None or db.deletion_protection:
            return super().delete_db_instance()
        if self.params.get("FinalDBSnapshotIdentifier"):
            refuse("InvalidParameterCombination", "FinalDBSnapshotIdentifier can not be specified when deleting a cluster "
                   "instance: the data is the cluster's.")
        if db.status in ("creating", "deleting"):
            refuse("InvalidDBInstanceState", f"Instance {db.db_instance_identifier} is currently {db.status}.")
        self._refuse_when_stopped(db.cluster)

        def gone():
            self.backend.databases.pop(db.db_instance_identifier)
            self.aurora.members.pop(db)

        self.aurora.work(db, "deleting", lambda: cluster.remove(member), gone, then="deleted")
        return ActionResult({"DBInstance": db})

    def _refuse_when_stopped(self, record: DBCluster) -> None:
        if record.status in ("stopping", "stopped", "starting", "deleting", "failed"):
            refuse("InvalidDBClusterStateFault", f"DB cluster {record.db_cluster_identifier} is {record.status}; its "
                   "instances can be changed when it runs.")

    def _refuse_for_member(self, instead: str) -> None:
        """Refuse what RDS does to an instance and Aurora to its cluster."""
        name = self.params.get("DBInstanceIdentifier") or self.params.get("SourceDBInstanceIdentifier") or ""
        if self.backend.databases.get(name.lower()) in self.aurora.members:
            refuse("InvalidParameterCombination", f"{name} is an instance of an Aurora cluster. {instead}")

    def stop_db_instance(self) -> ActionResult:
        self._refuse_for_member("Stop the cluster: StopDBCluster.")
        return super().stop_db_instance()

    def create_db_snapshot(self) -> ActionResult:
        self._refuse_for_member("Take a snapshot of the cluster: CreateDBClusterSnapshot.")
        return super().create_db_snapshot()

    def create_db_instance_read_replica(self) -> ActionResult:
        self._refuse_for_member("Add a reader to the cluster: CreateDBInstance with DBClusterIdentifier.")
        return super().create_db_instance_read_replica()

    # Snapshots and clones

    def create_db_cluster_snapshot(self) -> ActionResult:
        record, cluster = self._cluster()
        if cluster is None:
            return super().create_db_cluster_snapshot()
        self._require_cluster_available(record)
        answer = super().create_db_cluster_snapshot()
        snapshot = answer.result["DBClusterSnapshot"]
        self.aurora.work(snapshot, "creating", lambda: self._fill_cluster_snapshot(snapshot, cluster))
        return answer

    def _fill_cluster_snapshot(self, snapshot: DBClusterSnapshot, cluster: Cluster) -> None:
        path = self.aurora.host.directory("b", make=False)
        cluster.copy_to(path)
        self.aurora.snapshots[snapshot] = path

    def delete_db_cluster_snapshot(self) -> ActionResult:
        answer = super().delete_db_cluster_snapshot()
        path = self.aurora.snapshots.pop(answer.result["DBClusterSnapshot"], None)
        if path:
            shutil.rmtree(path, ignore_errors=True)
        return answer

    def restore_db_cluster_from_snapshot(self) -> ActionResult:
        snapshot = self.backend.describe_db_cluster_snapshots(
            db_cluster_identifier=None, db_snapshot_identifier=self.params["SnapshotIdentifier"])[0]
        if snapshot not in self.aurora.snapshots:
            return super().restore_db_cluster_from_snapshot()
        if snapshot.status != "available":
            refuse("InvalidDBClusterSnapshotStateFault", f"The snapshot is {snapshot.status}; wait until it is available.")
        return self._restored(snapshot.cluster, lambda cluster: setattr(cluster, "volume", self.aurora.snapshots[snapshot]))

    def restore_db_cluster_to_point_in_time(self) -> ActionResult:
        record = self.backend.describe_db_clusters(self.params["SourceDBClusterIdentifier"])[0]
        cluster = self.aurora.clusters.get(record)
        if cluster is None:
            return super().restore_db_cluster_to_point_in_time()
        self._require_cluster_available(record)
        if self.params.get("RestoreType", "full-copy") not in ("full-copy", "copy-on-write"):
            refuse("InvalidParameterValue", f"RestoreType {self.params['RestoreType']} is neither full-copy nor copy-on-write.")
        if self.params.get("RestoreToTime") or not self.params.get("UseLatestRestorableTime"):
            refuse("NotImplemented", "minicloud restores an Aurora cluster as it is now: UseLatestRestorableTime=True. "
                   "(Restores to a second are shown on RDS.)")

        def copy(clone: Cluster) -> None:
            path = self.aurora.host.directory("b", make=False)
            cluster.copy_to(path)
            clone.keep(path)

        return self._restored(record, copy)

    def _restored(self, source: DBCluster, fill: Callable[[Cluster], None]) -> ActionResult:
        """Create a cluster like `source`, and `fill` its volume; its instances are for the caller to create, as on AWS."""
        self._check_new_cluster(self.params["DBClusterIdentifier"])
        record = self.backend.create_db_cluster({
            "db_cluster_identifier": self.params["DBClusterIdentifier"].lower(), "engine": source.engine,
            "engine_version": source.engine_version, "master_username": source.master_username,
            "master_user_password": source._master_user_password, "database_name": source.database_name,
            "serverless_v2_scaling_configuration": self.params.get("ServerlessV2ScalingConfiguration"),
            "storage_encrypted": source.storage_encrypted, "kms_key_id": self.params.get("KmsKeyId") or source.kms_key_id,
            "tags": self.params.get("Tags"), "vpc_security_group_ids": self.params.get("VpcSecurityGroupIds")})
        cluster = self.aurora.add(record)
        self._set_capacity(record, cluster)
        self.aurora.work(record, "creating", lambda: fill(cluster))
        return ActionResult({"DBCluster": record})

    # Global databases

    def create_global_cluster(self) -> ActionResult:
        name, source = self.params.get("GlobalClusterIdentifier"), self.params.get("SourceDBClusterIdentifier")
        if name in self.global_backend.global_clusters:
            refuse("GlobalClusterAlreadyExistsFault", f"Global cluster already exists: {name}")
        primary = find_cluster(source) if source else None
        if primary not in self.aurora.clusters:
            return super().create_global_cluster()
        self._require_cluster_available(primary)
        if primary.global_cluster_identifier:
            refuse("InvalidDBClusterStateFault", f"{primary.db_cluster_identifier} is part of a global cluster already.")
        record = self.global_backend.create_global_cluster(name, None, primary.engine, primary.engine_version,
                                                           primary.storage_encrypted, self.params.get("DeletionProtection"))
        record.members.append(primary)
        record.tags = self.params.get("Tags", [])
        primary.global_cluster_identifier, primary.is_writer = name, True
        return ActionResult({"GlobalCluster": record})

    def describe_global_clusters(self) -> ActionResult:
        name = self.params.get("GlobalClusterIdentifier")
        return ActionResult({"GlobalClusters": [self._global(name)] if name else
                             self.global_backend.describe_global_clusters()})

    def delete_global_cluster(self) -> ActionResult:
        self._global(self.params["GlobalClusterIdentifier"])
        return super().delete_global_cluster()

    def remove_from_global_cluster(self) -> ActionResult:
        record = self._global(self.params["GlobalClusterIdentifier"])
        member = self._global_member(record, self.params["DbClusterIdentifier"])
        if member.is_writer and len(record.members) > 1:
            refuse("InvalidGlobalClusterStateFault", "Remove the secondary clusters first, then the primary cluster.")
        cluster = self.aurora.clusters[member]
        record.members.remove(member)
        member.global_cluster_identifier, member.is_writer = None, False
        self.aurora.work(member, "promoting", *([cluster.leave_source] if cluster.source else []))
        return ActionResult({"GlobalCluster": record})

    def switchover_global_cluster(self) -> ActionResult:
        return self._move_global("switching-over", Cluster.switch_over, loses=False)

    def failover_global_cluster(self) -> ActionResult:
        if self.params.get("AllowDataLoss") and self.params.get("Switchover"):
            refuse("InvalidParameterCombination", "Specify either AllowDataLoss or Switchover, not both.")
        if self.params.get("Switchover"):
            return self.switchover_global_cluster()
        if not self.params.get("AllowDataLoss"):
            refuse("InvalidParameterCombination", "A failover can lose what had not arrived yet: say AllowDataLoss=True, or "
                   "use SwitchoverGlobalCluster, which loses nothing and needs a healthy primary Region.")
        return self._move_global("failing-over", Cluster.fail_over_from, loses=True)

    def _move_global(self, status: str, move: Callable[[Cluster, Cluster], None], loses: bool) -> ActionResult:
        """Let a secondary cluster take the writes from the primary one; then the others follow it."""
        record = self._global(self.params["GlobalClusterIdentifier"])
        new = self._global_member(record, self.params["TargetDbClusterIdentifier"])
        old = self.aurora.of_global(record)
        if new is old:
            refuse("InvalidParameterValue", f"{new.db_cluster_identifier} is the primary cluster already.")
        if not self.aurora.clusters[new].head:
            refuse("InvalidDBClusterStateFault", f"{new.db_cluster_identifier} has no instance that could take the writes.")
        self._require_cluster_available(new)
        record.failover_state = {"Status": status, "FromDbClusterArn": old.arn, "ToDbClusterArn": new.arn,
                                 "IsDataLossAllowed": loses}
        to = self.aurora.clusters[new]

        def settle():
            old.is_writer, new.is_writer, record.failover_state, record.status = False, True, None, "available"
            for other in record.members:
                if other is not new:
                    saved = self._unsent(other) if loses and other is old else None
                    self.aurora.work(other, status, lambda other=other, saved=saved:
                                     self.aurora.clusters[other].rejoin(to, saved))

        def attempt():
            try:
                move(to, self.aurora.clusters[old])
            except Exception:  # the writes are where they were
                old.status, record.status, record.failover_state = "available", "available", None
                raise

        old.status = record.status = status
        self.aurora.work(new, status, attempt, settle, failed="available")
        return ActionResult({"GlobalCluster": record})

    def _unsent(self, old: DBCluster) -> Path:
        """Record the snapshot that keeps what a lost primary cluster had not sent; return where its data is to go.

        https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-global-database-disaster-recovery.html
        """
        name = f"rds:unplanned-global-failover-{old.db_cluster_identifier}-{datetime.datetime.now():%Y-%m-%d-%H-%M-%S}"
        snapshot = old.backend.create_db_cluster_snapshot(old.db_cluster_identifier, name, snapshot_type="automated")
        self.aurora.snapshots[snapshot] = self.aurora.host.directory("b", make=False)
        return self.aurora.snapshots[snapshot]

    def _global(self, name: str) -> GlobalCluster:
        record = self.global_backend.global_clusters.get(name.lower())
        if record is None:
            refuse("GlobalClusterNotFoundFault", f"Global cluster {name} not found.")
        return record

    def _global_member(self, record: GlobalCluster, arn: str) -> DBCluster:
        for member in record.members:
            if arn in (member.arn, member.db_cluster_identifier):
                return member
        refuse("DBClusterNotFoundFault", f"{arn} is not a cluster of {record.global_cluster_identifier}; its clusters: "
               f"{', '.join(member.arn for member in record.members)}.")

    def _has_primary(self, name: str) -> bool:
        return self.aurora.of_global(self._global(name)) is not None

    def _primary_for(self, name: str | None) -> DBCluster | None:
        """Return the primary cluster of the global database that a new cluster is to join, None when it is not to."""
        if not name:
            return None
        record = self._global(name)
        primary = self.aurora.of_global(record)
        if primary is None:
            return None
        if any(member.region == self.region for member in record.members):
            refuse("InvalidParameterValue", f"Region {self.region} already has a cluster of the global cluster {name}.")
        if len(record.members) > SECONDARIES:
            refuse("GlobalClusterQuotaExceededFault", f"A global cluster has at most {SECONDARIES} secondary clusters.")
        self._require_cluster_available(primary)
        return primary

    # Shared

    def describe_db_engine_versions(self) -> ActionResult:
        answer = super().describe_db_engine_versions()
        engine, version = self.params.get("Engine"), self.params.get("EngineVersion")
        answer.result["DBEngineVersions"] += [row for name in AURORA if engine in (None, name)
                                              for row in _versions(name) if version in (None, row["EngineVersion"])]
        return answer

    def _cluster(self) -> tuple[DBCluster, Cluster | None]:
        name = self.params["DBClusterIdentifier"]
        record = self.backend.clusters.get(name.split(":")[-1].lower())
        if record is None:
            raise DBClusterNotFoundError(name)
        return record, self.aurora.clusters.get(record)

    def _member(self) -> tuple[DBInstanceClustered | None, Cluster | None, Member | None]:
        db = self.backend.databases.get(self.params["DBInstanceIdentifier"].split(":")[-1].lower())
        member = self.aurora.members.get(db)
        return db, member and self.aurora.clusters[db.cluster], member

    def _require_cluster_available(self, record: DBCluster) -> None:
        if record.status != "available":
            refuse("InvalidDBClusterStateFault",
                   f"DB cluster {record.db_cluster_identifier} is {record.status}; wait until it is available.")


def serve(host, log: Path) -> list:
    """Put the operations of RDS and Aurora in the place of moto's; return their data planes."""
    Responses.aurora = ClusterPlane(host, log)
    return [api.serve(host, log, Responses), Responses.aurora]


def _until_created(record: DBCluster) -> None:
    """Wait until a cluster has its data: scripts create the instance of a restored cluster right after it."""
    until(lambda: record.status != "creating", f"the cluster {record.db_cluster_identifier} to be created", seconds=600)
    if record.status == "failed":
        raise EngineFailed(f"The cluster {record.db_cluster_identifier} could not be created.")


def _versions(name: str) -> list[dict]:
    try:
        version = AURORA[name].version
    except EngineUnavailable:
        return []
    major = AURORA[name].forced_major or version.split(".")[0]
    return [{"Engine": name, "EngineVersion": version, "MajorEngineVersion": major, "Status": "available",
             "DBParameterGroupFamily": f"{name}{major}", "DBEngineDescription": AURORA[name].description,
             "DBEngineVersionDescription": f"{AURORA[name].description} {version}", "ValidUpgradeTarget": [],
             "SupportsReadReplica": True, "SupportsGlobalDatabases": True}]


def _capacity(configuration) -> dict[str, float]:
    """Return a ServerlessV2ScalingConfiguration as a dictionary of what is set."""
    names = ("MinCapacity", "MaxCapacity", "SecondsUntilAutoPause")
    return {name: configuration[name] for name in names if configuration and configuration.get(name) is not None}


def _check_capacity(configuration) -> None:
    """Refuse a scaling configuration outside 0 to 256 ACUs in half steps, or a pause where there is none."""
    wanted = _capacity(configuration)
    if not wanted:
        return
    low, high, pause = (wanted.get(name) for name in ("MinCapacity", "MaxCapacity", "SecondsUntilAutoPause"))
    if low is None or high is None or not 0 <= low <= high or not 1 <= high <= ACU_MAX or low * 2 % 1 or high * 2 % 1:
        refuse("InvalidParameterValue", f"Serverless v2 capacity: a minimum of {low} and a maximum of {high} ACUs were asked "
               f"for. Both are needed, in steps of 0.5: the minimum from 0 to the maximum, the maximum from 1 to {ACU_MAX}.")
    if pause is not None and (low != 0 or not 300 <= pause <= 86400):
        refuse("InvalidParameterValue", f"SecondsUntilAutoPause={pause}: it takes 300 to 86400 seconds, and only together "
               "with a MinCapacity of 0.")


def _size(name: str) -> int:
    """Return a number that grows with a DB instance class: the larger one of a promotion tier is promoted first."""
    size = name.rsplit(".")[-1]
    return SIZES.index(size) if size in SIZES else len(SIZES) + int("".join(filter(str.isdigit, size)) or 0)
