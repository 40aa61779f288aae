"""The RDS API keeps its promises on real engines, also when they are killed."""

import contextlib
import datetime
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
from botocore.exceptions import ClientError
from conftest import PASSWORD, available, create, delete, in_sync, instance, sql, until

from minicloud.load import WriteLoad

ENGINES = ["postgres", "mysql", "mariadb"]
BOTH = ["postgres", "mysql"]  # where the two server programs are meant, not the API's names
VERSION = {"postgres": "PostgreSQL 18", "mysql": "MariaDB", "mariadb": "MariaDB"}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_endpoint_of_unmodified_boto3_is_a_real_database(rds, engine):
    """CreateDBInstance, a waiter and DescribeDBInstances lead to a database of that engine that keeps data."""
    with instance(rds, "real", engine) as db:
        select = "SELECT version()" if engine == "postgres" else "SELECT concat(version(), '')"
        assert VERSION[engine] in sql(db, select)[0][0]
        sql(db, "CREATE TABLE cheese (name varchar(20))")
        sql(db, "INSERT INTO cheese VALUES ('Wensleydale')")
        assert sql(db, "SELECT name FROM cheese")[0][0] == "Wensleydale"
        with pytest.raises(Exception, match="(?i)password|denied"):
            sql(db, "SELECT 1", password="wrong-" + PASSWORD)


def test_the_status_changes_while_the_engine_is_built(rds):
    """A new instance is `creating`, then `backing-up`, then `available`; it has an endpoint when it can be used."""
    rds.create_db_instance(DBInstanceIdentifier="slow", Engine="postgres", DBInstanceClass="db.t4g.micro", DBName="shop",
                           AllocatedStorage=20, MasterUsername="shopadmin", MasterUserPassword=PASSWORD)
    seen = []
    while "available" not in seen:
        db = rds.describe_db_instances(DBInstanceIdentifier="slow")["DBInstances"][0]
        seen += [db["DBInstanceStatus"]] if db["DBInstanceStatus"] not in seen else []
        assert "Endpoint" in db or db["DBInstanceStatus"] == "creating"
    assert seen[0] == "creating" and set(seen) <= {"creating", "backing-up", "available"}
    delete(rds, "slow")


def test_another_process_reaches_the_same_cloud(cloud, rds):
    """The AWS CLI and another Python see the instance and its endpoint through the environment.

    Version 1 of the CLI overrules AWS_ENDPOINT_URL for some services in us-east-1, RDS among them, but not an option.
    """
    with instance(rds, "shared", "postgres") as db:
        cli = [Path(sys.executable).with_name("aws"), "--endpoint-url", cloud.url, "rds",
               "describe-db-instances", "--db-instance-identifier", "shared"]
        seen = json.loads(subprocess.run(cli, capture_output=True, text=True, check=True).stdout)
        assert seen["DBInstances"][0]["Endpoint"]["Port"] == db["Endpoint"]["Port"]
        other = "import boto3; print(boto3.client('rds').describe_db_instances()['DBInstances'][0]['DBInstanceStatus'])"
        out = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=True).stdout
        assert out.strip() == "available"


@pytest.mark.parametrize("engine", BOTH)
def test_a_failover_loses_no_acknowledged_row(cloud, rds, engine):
    """With Multi-AZ, a primary killed under a write load costs no acknowledged row, and the endpoint stays the same."""
    with instance(rds, "ha", engine, MultiAZ=True) as db:
        for _ in range(3):
            in_sync(cloud, "ha")
            fail_over_under_load(cloud, rds, db)


def fail_over_under_load(cloud, rds, db, forced: bool = False) -> float:
    """Kill the primary (or force a failover) under load, check the promise, return the outage in seconds."""
    identifier = db["DBInstanceIdentifier"]
    before = available(rds, identifier)
    with WriteLoad(lambda: sql(db), writers=3) as load:
        until(lambda: len(load.answers) > 100, "the load is running")
        if forced:
            rds.reboot_db_instance(DBInstanceIdentifier=identifier, ForceFailover=True)
        else:
            cloud.crash(identifier)
        acknowledged = len(load.answers)
        until(lambda: load.errors and len(load.answers) > acknowledged + 100, "writes go on after the failover")
    after = available(rds, identifier)
    assert load.lost(sql(db)) == set()
    assert after["Endpoint"] == before["Endpoint"]
    assert (after["AvailabilityZone"], after["SecondaryAvailabilityZone"]) == (
        before["SecondaryAvailabilityZone"], before["AvailabilityZone"])
    return load.longest_gap()


def test_a_forced_failover_is_told_in_the_events(cloud, rds):
    """RebootDBInstance(ForceFailover) swaps the zones, loses nothing and leaves both events; without Multi-AZ it is refused."""
    with instance(rds, "forced", "postgres", MultiAZ=True) as db:
        fail_over_under_load(cloud, rds, db, forced=True)
        events = rds.describe_events(SourceType="db-instance", SourceIdentifier="forced")["Events"]
        told = [event["Message"] for event in events if "failover" in event["EventCategories"]]
        assert [message.split()[-1].strip(".") for message in told] == ["started", "completed"]
    with instance(rds, "alone", "postgres"), pytest.raises(ClientError, match="not configured for Multi-AZ"):
        rds.reboot_db_instance(DBInstanceIdentifier="alone", ForceFailover=True)


@pytest.mark.parametrize("engine", BOTH)
def test_a_lost_standby_is_replaced(cloud, rds, engine):
    """Commits wait while the link to the standby is cut; when it stays cut the standby is replaced and they go on."""
    with instance(rds, "cut", engine, MultiAZ=True) as db:
        sql(db, "CREATE TABLE t (i int)")
        cloud.cut("cut")
        begin = time.monotonic()
        sql(db, "INSERT INTO t VALUES (1)")  # answered only when the standby has been given up
        assert time.monotonic() - begin > 3
        in_sync(cloud, "cut")
        assert sql(db, "SELECT count(*) FROM t")[0][0] == 1


@pytest.mark.parametrize("engine", BOTH)
def test_a_single_instance_recovers_by_itself(cloud, rds, engine):
    """Without a standby a killed instance comes back on its own data: crash recovery, at the same endpoint."""
    with instance(rds, "single", engine) as db:
        sql(db, "CREATE TABLE t (i int)")
        sql(db, "INSERT INTO t VALUES (7)")
        cloud.crash("single")
        until(lambda: answers(db), "the instance is back")
        assert sql(db, "SELECT i FROM t")[0][0] == 7


def answers(db) -> bool:
    with contextlib.suppress(Exception):
        return bool(sql(db, "SELECT 1"))
    return False


def servers(cloud, standby: bool) -> list[psutil.Process]:
    """Return the PostgreSQL servers of the cloud that follow another one, or those that do not."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if "-D" in arguments and arguments[arguments.index("-D") + 1].startswith(cloud.run):
            data = Path(arguments[arguments.index("-D") + 1])
            found += [process] if (data / "standby.signal").exists() == standby else []
    return found


def test_a_hung_primary_is_failed_over(cloud, rds):
    """A primary that is there and answers nobody is replaced by its standby; no acknowledged row is lost."""
    with instance(rds, "hung", "postgres", MultiAZ=True) as db:
        sql(db, "CREATE TABLE t (i int)")
        sql(db, "INSERT INTO t VALUES (1)")
        primary, = servers(cloud, standby=False)
        for process in [primary, *primary.children(recursive=True)]:
            process.suspend()
        until(lambda: answers(db), "the standby has taken over")
        assert sql(db, "SELECT i FROM t")[0][0] == 1 and not primary.is_running()
        assert available(rds, "hung")["AvailabilityZone"] == db["SecondaryAvailabilityZone"]


def test_what_is_lost_in_pairs_comes_back(cloud, rds):
    """Primary and standby killed together, then the endpoints' forwarder: the data and the endpoint are there again."""
    with instance(rds, "pair", "postgres", MultiAZ=True) as db:
        sql(db, "CREATE TABLE t (i int)")
        for server in servers(cloud, standby=True) + servers(cloud, standby=False):
            server.kill()
        until(lambda: count(db, "t") == 0, "the primary has recovered on its own data")
        in_sync(cloud, "pair")
        forwarder, = (p for p in psutil.Process(cloud._process.pid).children() if "minicloud.endpoint" in p.cmdline())
        forwarder.kill()
        until(lambda: count(db, "t") == 0, "the endpoint is back at its port")


@pytest.mark.parametrize("engine", BOTH)
def test_a_read_replica_follows_and_can_be_promoted(cloud, rds, engine):
    """A replica in another Region follows asynchronously, refuses writes, catches up after a cut link, and is promoted."""
    europe = boto3.client("rds", region_name="eu-west-1")
    with instance(rds, "source", engine) as db:
        sql(db, "CREATE TABLE t (i int)")
        europe.create_db_instance_read_replica(DBInstanceIdentifier="copy", SourceDBInstanceIdentifier=db["DBInstanceArn"])
        replica = available(europe, "copy")
        with pytest.raises(Exception, match="(?i)read.only"):
            sql(replica, "INSERT INTO t VALUES (0)")
        cloud.cut("source", "copy")
        sql(db, "INSERT INTO t VALUES (1)")
        assert sql(replica, "SELECT count(*) FROM t")[0][0] == 0
        cloud.heal("source", "copy")
        until(lambda: sql(replica, "SELECT count(*) FROM t")[0][0] == 1, "the replica catches up")
        europe.promote_read_replica(DBInstanceIdentifier="copy")
        promoted = available(europe, "copy")
        sql(promoted, "INSERT INTO t VALUES (2)")
        assert "ReadReplicaSourceDBInstanceIdentifier" not in promoted
        assert rds.describe_db_instances(DBInstanceIdentifier="source")["DBInstances"][0][
            "ReadReplicaDBInstanceIdentifiers"] == []
        assert sql(db, "SELECT count(*) FROM t")[0][0] == 1
        delete(europe, "copy")


@pytest.mark.parametrize("engine", BOTH)
def test_a_replica_follows_the_new_primary_after_a_failover(cloud, rds, engine):
    """A replica of a Multi-AZ instance goes on replicating when the standby has taken over."""
    with instance(rds, "led", engine, MultiAZ=True) as db:
        rds.create_db_instance_read_replica(DBInstanceIdentifier="follower", SourceDBInstanceIdentifier="led")
        replica = available(rds, "follower")
        fail_over_under_load(cloud, rds, db)
        sql(db, "CREATE TABLE after_failover (i int)")
        until(lambda: count(replica, "after_failover") == 0, "the replica has what the new primary wrote")
        delete(rds, "follower")


def count(db, table: str) -> int | None:
    with contextlib.suppress(Exception):
        return sql(db, f"SELECT count(*) FROM {table}")[0][0]
    return None


@pytest.mark.parametrize("engine", BOTH)
def test_snapshots_outlive_their_instance_and_travel(rds, engine):
    """A manual and a final snapshot are kept when the instance is deleted; a copy restores in another Region."""
    europe = boto3.client("rds", region_name="eu-west-1")
    db = create(rds, "kept", engine)
    sql(db, "CREATE TABLE t (i int)")
    sql(db, "INSERT INTO t VALUES (1)")
    rds.create_db_snapshot(DBInstanceIdentifier="kept", DBSnapshotIdentifier=f"before-{engine}")
    rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier=f"before-{engine}")
    available(rds, "kept")
    sql(db, "INSERT INTO t VALUES (2)")
    rds.delete_db_instance(DBInstanceIdentifier="kept", FinalDBSnapshotIdentifier=f"final-{engine}")
    rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier="kept")
    snapshots = {s["DBSnapshotIdentifier"]: s for s in rds.describe_db_snapshots()["DBSnapshots"]}
    assert not any(s["SnapshotType"] == "automated" and s["DBInstanceIdentifier"] == "kept" for s in snapshots.values())
    for name, rows in ((f"before-{engine}", 1), (f"final-{engine}", 2)):
        europe.copy_db_snapshot(SourceDBSnapshotIdentifier=snapshots[name]["DBSnapshotArn"], SourceRegion="us-east-1",
                                TargetDBSnapshotIdentifier=name)
        europe.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier=name)
        europe.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="again", DBSnapshotIdentifier=name)
        assert sql(available(europe, "again"), "SELECT count(*) FROM t")[0][0] == rows
        delete(europe, "again")


def test_a_snapshot_can_be_used_when_it_is_complete(rds):
    """While a snapshot is being created it is neither restored nor copied nor deleted; an automated one is not deleted."""
    with instance(rds, "shot", "postgres"):
        rds.create_db_snapshot(DBInstanceIdentifier="shot", DBSnapshotIdentifier="early")
        automated, = rds.describe_db_snapshots(DBInstanceIdentifier="shot", SnapshotType="automated")["DBSnapshots"]
        for call in (lambda: rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="x", DBSnapshotIdentifier="early"),
                     lambda: rds.copy_db_snapshot(SourceDBSnapshotIdentifier="early", TargetDBSnapshotIdentifier="x"),
                     lambda: rds.delete_db_snapshot(DBSnapshotIdentifier="early"),
                     lambda: rds.delete_db_snapshot(DBSnapshotIdentifier=automated["DBSnapshotIdentifier"])):
            with pytest.raises(ClientError, match="InvalidDBSnapshotState"):
                call()


def test_an_idle_instance_can_be_restored_to_its_latest_time(rds):
    """Where nothing was written for a while, and after a stop, LatestRestorableTime is a time that can be restored."""
    with instance(rds, "idle", "postgres") as db:
        sql(db, "CREATE TABLE t (i int)")
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=6)  # longer than from shipping to shipping
        until(lambda: available(rds, "idle")["LatestRestorableTime"] > end, "the log is shipped")
        assert restored_to_latest(rds, "idle") == 0
        rds.stop_db_instance(DBInstanceIdentifier="idle")
        until(lambda: rds.describe_db_instances(DBInstanceIdentifier="idle")["DBInstances"][0]["DBInstanceStatus"]
              == "stopped", "the instance is stopped")
        assert restored_to_latest(rds, "idle") == 0


def restored_to_latest(rds, identifier: str) -> int | None:
    """Restore an instance to its LatestRestorableTime; return how many rows its table `t` has then."""
    latest = rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]["LatestRestorableTime"]
    rds.restore_db_instance_to_point_in_time(SourceDBInstanceIdentifier=identifier, RestoreTime=latest,
                                             TargetDBInstanceIdentifier="restored")
    rows = count(available(rds, "restored"), "t")
    delete(rds, "restored")
    return rows


@pytest.mark.parametrize("engine", BOTH)
def test_a_restore_brings_back_exactly_what_was_acknowledged_by_then(rds, engine):
    """At random seconds under a write load: every row answered before the second is there, none sent after it."""
    with instance(rds, "past", engine) as db:
        check_restores(rds, db, number=3, seconds=8)


def check_restores(rds, db, number: int, seconds: float) -> None:
    """Write for some seconds, then restore to that many random whole seconds in between, and compare."""
    identifier = db["DBInstanceIdentifier"]
    begin = datetime.datetime.now(datetime.UTC)
    with WriteLoad(lambda: sql(db), writers=3, pause=0.003) as load:
        time.sleep(seconds)
    sql(db, f"DROP TABLE {load.table}")
    end = datetime.datetime.now(datetime.UTC)
    until(lambda: available(rds, identifier)["LatestRestorableTime"] > end, "the log is shipped")
    for _ in range(number):
        moment = (begin + datetime.timedelta(seconds=random.uniform(2, seconds))).replace(microsecond=0)
        rds.restore_db_instance_to_point_in_time(SourceDBInstanceIdentifier=identifier, RestoreTime=moment,
                                                 TargetDBInstanceIdentifier="restored")
        there = load.rows(sql(available(rds, "restored")))
        delete(rds, "restored")
        must = {(a.writer, a.n) for a in load.answers if a.answered < moment.timestamp()}
        may = {(a.writer, a.n) for a in load.answers if a.sent < moment.timestamp()}
        assert must and must <= there <= may, f"restored to {moment}"


def test_the_restore_window_is_enforced(rds):
    """A time outside the window is refused with the window's bounds; so is any time when backups are off."""
    with instance(rds, "window", "postgres") as db:
        for moment in (db["InstanceCreateTime"] - datetime.timedelta(days=1),
                       datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)):
            with pytest.raises(ClientError, match="earlier than .* or later than"):
                rds.restore_db_instance_to_point_in_time(SourceDBInstanceIdentifier="window", RestoreTime=moment,
                                                         TargetDBInstanceIdentifier="never")
        rds.modify_db_instance(DBInstanceIdentifier="window", BackupRetentionPeriod=0, ApplyImmediately=True)
        assert "LatestRestorableTime" not in available(rds, "window")
        with pytest.raises(ClientError, match="PointInTimeRestoreNotEnabled"):
            rds.restore_db_instance_to_point_in_time(SourceDBInstanceIdentifier="window", UseLatestRestorableTime=True,
                                                     TargetDBInstanceIdentifier="never")
        with pytest.raises(ClientError, match="Automated backups are not enabled"):
            rds.create_db_instance_read_replica(DBInstanceIdentifier="never", SourceDBInstanceIdentifier="window")


PARAMETERS = {"postgres": ("work_mem", "8192", "max_connections", "57", "SHOW {}"),
              "mysql": ("long_query_time", "7", "max_connections", "57", "SELECT @@{}")}


@pytest.mark.parametrize("engine", BOTH)
def test_a_parameter_group_reaches_the_engine(rds, engine):
    """A dynamic parameter holds at once, a static one after the reboot; a group in use stays, a default one as it is."""
    version = rds.describe_db_engine_versions(Engine=engine)["DBEngineVersions"][0]
    dynamic, value, other, count, show = PARAMETERS[engine]
    group = f"own-{engine}"
    rds.create_db_parameter_group(DBParameterGroupName=group, Description="test",
                                  DBParameterGroupFamily=version["DBParameterGroupFamily"])
    with instance(rds, "tuned", engine, DBParameterGroupName=group) as db:
        rds.modify_db_parameter_group(DBParameterGroupName=group, Parameters=[
            {"ParameterName": dynamic, "ParameterValue": value, "ApplyMethod": "immediate"},
            {"ParameterName": other, "ParameterValue": count, "ApplyMethod": "pending-reboot"}])
        until(lambda: str(sql(db, show.format(dynamic))[0][0]).split(".")[0] in (value, "8MB"), f"{dynamic} holds")
        pending = available(rds, "tuned")["DBParameterGroups"][0]["ParameterApplyStatus"]
        assert pending == "pending-reboot"
        rds.reboot_db_instance(DBInstanceIdentifier="tuned")
        db = available(rds, "tuned")
        assert str(sql(db, show.format(other))[0][0]) == count
        assert db["DBParameterGroups"][0]["ParameterApplyStatus"] == "in-sync"
        with pytest.raises(ClientError, match="still members of this parameter group"):
            rds.delete_db_parameter_group(DBParameterGroupName=group)
    with pytest.raises(ClientError, match="cannot be modified"):
        rds.modify_db_parameter_group(DBParameterGroupName=f"default.{version['DBParameterGroupFamily']}", Parameters=[
            {"ParameterName": dynamic, "ParameterValue": value, "ApplyMethod": "immediate"}])


def test_a_static_parameter_reaches_the_standby(cloud, rds):
    """With Multi-AZ a static parameter holds after a reboot, and after every failover that follows."""
    rds.create_db_parameter_group(DBParameterGroupName="static", DBParameterGroupFamily="postgres18", Description="test")
    with instance(rds, "both", "postgres", MultiAZ=True, DBParameterGroupName="static") as db:
        for limit, options in (("150", {}), ("57", {"ForceFailover": True})):
            rds.modify_db_parameter_group(DBParameterGroupName="static", Parameters=[
                {"ParameterName": "max_connections", "ParameterValue": limit, "ApplyMethod": "pending-reboot"}])
            in_sync(cloud, "both")
            rds.reboot_db_instance(DBInstanceIdentifier="both", **options)
            available(rds, "both")
            assert sql(db, "SHOW max_connections")[0][0] == limit
            in_sync(cloud, "both")
            cloud.crash("both")
            until(lambda: answers(db), "the standby has taken over")
            assert sql(db, "SHOW max_connections")[0][0] == limit


def test_a_parameter_value_the_engine_cannot_read_is_refused(rds):
    """It would stop the server at its next start: a wrong word, a wrong number, a group of another engine."""
    rds.create_db_parameter_group(DBParameterGroupName="words", DBParameterGroupFamily="postgres18", Description="test")
    for name, value in (("wal_compression", "banana"), ("autovacuum", "maybe"), ("max_connections", "many")):
        with pytest.raises(ClientError, match=f"{value} for: {name} allowed values are"):
            rds.modify_db_parameter_group(DBParameterGroupName="words", Parameters=[
                {"ParameterName": name, "ParameterValue": value, "ApplyMethod": "pending-reboot"}])
    with pytest.raises(ClientError, match="family postgres18 can't be used"):
        rds.create_db_instance(DBInstanceIdentifier="never", Engine="mariadb", DBInstanceClass="db.t4g.micro",
                               AllocatedStorage=20, MasterUsername="shopadmin", MasterUserPassword=PASSWORD,
                               DBParameterGroupName="words")


def test_one_of_two_requests_for_a_name_wins(rds):
    """Clients that ask for the same identifier at once get one instance between them."""
    request = {"DBInstanceIdentifier": "once", "Engine": "postgres", "DBInstanceClass": "db.t4g.micro",
               "AllocatedStorage": 20, "MasterUsername": "shopadmin", "MasterUserPassword": PASSWORD}
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(rds.create_db_instance, **request) for _ in range(8)]
    assert [type(call.exception()).__name__ for call in asked].count("DBInstanceAlreadyExistsFault") == 7
    delete(rds, "once")


@pytest.mark.parametrize("engine", BOTH)
def test_an_instance_can_be_modified_stopped_and_started(cloud, rds, engine):
    """A new password holds, Multi-AZ can be added and taken away, data and endpoint survive a stop and start."""
    with instance(rds, "daily", engine) as db:
        sql(db, "CREATE TABLE t (i int)")
        rds.modify_db_instance(DBInstanceIdentifier="daily", MasterUserPassword=PASSWORD + "2", MultiAZ=True,
                               ApplyImmediately=True)
        assert available(rds, "daily")["MultiAZ"]
        assert [row["role"] for row in cloud.resources() if row["resource"] == "daily"] == ["primary", "standby"]
        assert sql(db, "SELECT count(*) FROM t", password=PASSWORD + "2")[0][0] == 0
        rds.stop_db_instance(DBInstanceIdentifier="daily")
        until(lambda: rds.describe_db_instances(DBInstanceIdentifier="daily")["DBInstances"][0]["DBInstanceStatus"]
              == "stopped", "the instance is stopped")
        assert not answers(db)
        rds.start_db_instance(DBInstanceIdentifier="daily")
        assert available(rds, "daily")["Endpoint"] == db["Endpoint"]
        assert sql(db, "SELECT count(*) FROM t", password=PASSWORD + "2")[0][0] == 0
        rds.modify_db_instance(DBInstanceIdentifier="daily", MultiAZ=False)
        waiting = available(rds, "daily")
        assert waiting["MultiAZ"] and waiting["PendingModifiedValues"] == {"MultiAZ": False}
        rds.modify_db_instance(DBInstanceIdentifier="daily", ApplyImmediately=True)
        assert not available(rds, "daily")["MultiAZ"]


def test_an_instance_is_not_deleted_by_mistake(rds):
    """DeleteDBInstance needs a decision about the final snapshot, and respects deletion protection."""
    with instance(rds, "safe", "postgres", DeletionProtection=True):
        with pytest.raises(ClientError, match="protect"):
            rds.delete_db_instance(DBInstanceIdentifier="safe", SkipFinalSnapshot=True)
        rds.modify_db_instance(DBInstanceIdentifier="safe", DeletionProtection=False, ApplyImmediately=True)
        available(rds, "safe")
        with pytest.raises(ClientError, match="FinalDBSnapshotIdentifier is required"):
            rds.delete_db_instance(DBInstanceIdentifier="safe")


def test_what_is_not_here_says_so_in_aws_form(cloud):
    """An operation or service that minicloud lacks answers with an error code and a sentence, in its own protocol."""
    calls = [("rds", "switchover_read_replica", {"DBInstanceIdentifier": "i"}),
             ("pi", "get_dimension_key_details", {"ServiceType": "RDS", "Identifier": "i", "Group": "g", "GroupIdentifier": "x"}),
             ("dax", "describe_events", {}), ("cloudwatch", "describe_anomaly_detectors", {})]
    for service, operation, arguments in calls:
        with pytest.raises(ClientError) as refused:
            getattr(boto3.client(service), operation)(**arguments)
        assert refused.value.response["Error"]["Code"] == "NotImplemented"
        assert "minicloud does not have" in refused.value.response["Error"]["Message"]


def test_the_master_password_can_be_left_to_secrets_manager(rds):
    """ManageMasterUserPassword makes a secret whose password opens the database."""
    rds.create_db_instance(DBInstanceIdentifier="managed", Engine="postgres", DBInstanceClass="db.t4g.micro", DBName="shop",
                           AllocatedStorage=20, MasterUsername="shopadmin", ManageMasterUserPassword=True)
    db = available(rds, "managed")
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=db["MasterUserSecret"]["SecretArn"])
    password = json.loads(secret["SecretString"])["password"]
    assert sql(db, "SELECT 1", password=password)[0][0] == 1
    with pytest.raises(psycopg.OperationalError):
        sql(db, "SELECT 1")
    delete(rds, "managed")
