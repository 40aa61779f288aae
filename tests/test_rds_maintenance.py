"""RDS maintenance: what waits for its window, and blue/green deployments that lose nothing."""

import contextlib
import datetime

import pytest
from botocore.exceptions import ClientError
from conftest import available, delete, in_sync, instance, sql, until

from minicloud.load import WriteLoad
from minicloud.rds import windows

BACKUP, WEEKLY = "PreferredBackupWindow", "PreferredMaintenanceWindow"


def test_windows_that_nobody_named_are_apart_and_in_the_regions_night():
    """RDS chooses half an hour in the Region's eight hours for each window; they never overlap, whatever the other one is."""
    for n in range(300):
        region, first = ("us-east-1", 3) if n % 2 else ("us-west-2", 6)
        daily, weekly = windows.choose(region, None, None)
        windows.check(daily, weekly)
        assert not windows.is_open(weekly)
        for begin, length in (windows.backup(daily), windows.maintenance(weekly)):
            assert length == 30 and first * 60 <= begin % windows.DAY <= (first + 8) * 60 - 30
    windows.check(*windows.choose("us-east-1", None, "sun:03:00-sun:10:30"))
    windows.check(*windows.choose("us-east-1", "03:00-10:30", None))


def test_a_change_waits_for_the_window_and_is_made_when_it_opens(cloud, rds):
    """Without ApplyImmediately a standby and a class wait in PendingModifiedValues; a window that is open now brings them."""
    with instance(rds, "waiting", "postgres"):
        rds.modify_db_instance(DBInstanceIdentifier="waiting", MultiAZ=True, DBInstanceClass="db.t4g.small")
        db = available(rds, "waiting")
        assert db["PendingModifiedValues"] == {"MultiAZ": True, "DBInstanceClass": "db.t4g.small"} and not db["MultiAZ"]
        assert rds.describe_pending_maintenance_actions(ResourceIdentifier=db["DBInstanceArn"])[
            "PendingMaintenanceActions"] == []
        rds.modify_db_instance(DBInstanceIdentifier="waiting", **open_now())
        until(lambda: not available(rds, "waiting")["PendingModifiedValues"], "the window has opened")
        db = available(rds, "waiting")
        assert db["MultiAZ"] and db["DBInstanceClass"] == "db.t4g.small"
        assert [row["role"] for row in cloud.resources()] == ["primary", "standby"]


@pytest.mark.parametrize("multi_az", [False, True])
def test_a_new_class_interrupts_and_a_standby_makes_it_a_failover(cloud, rds, multi_az):
    """A change of class restarts the server, static parameters with it; with a standby the zones are swapped instead."""
    with instance(rds, "resized", "postgres", MultiAZ=multi_az) as db:
        if multi_az:
            in_sync(cloud, "resized")
        begun = sql(db, "SELECT pg_postmaster_start_time()")
        with WriteLoad(lambda: sql(db), writers=2) as load:
            until(lambda: len(load.answers) > 50, "the load is running")
            rds.modify_db_instance(DBInstanceIdentifier="resized", DBInstanceClass="db.t4g.small", ApplyImmediately=True)
            after = available(rds, "resized")
            until(lambda: load.errors and load.answers[-1].sent > load.errors[-1][0] + 0.2, "writes go on")
        assert load.lost(sql(db)) == set() and sql(db, "SELECT pg_postmaster_start_time()") != begun
        assert after["DBInstanceClass"] == "db.t4g.small" and after["Endpoint"] == db["Endpoint"]
        assert (after["AvailabilityZone"] != db["AvailabilityZone"]) == multi_az


def test_a_rebooted_replica_goes_on_following(rds):
    """A replica that was restarted, by a reboot or for a new class, has the source's next row within a second or two."""
    with instance(rds, "source", "postgres") as db:
        rds.create_db_instance_read_replica(DBInstanceIdentifier="replica", SourceDBInstanceIdentifier="source")
        available(rds, "replica")
        rds.modify_db_instance(DBInstanceIdentifier="replica", DBInstanceClass="db.t4g.small", ApplyImmediately=True)
        replica = available(rds, "replica")
        sql(db, "CREATE TABLE t (i int)")
        until(lambda: sql(replica, "SELECT to_regclass('t') IS NOT NULL")[0][0], "the replica has the table", seconds=5)
        delete(rds, "replica")


def open_now() -> dict[str, str]:
    """Return windows of which the maintenance one is open: it began ten minutes ago and lasts for an hour."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end, later = (now + datetime.timedelta(minutes=m) for m in (-10, 50, 120))
    return {WEEKLY: f"{begin:%a:%H:%M}-{end:%a:%H:%M}".lower(),
            BACKUP: f"{later:%H:%M}-{later + datetime.timedelta(minutes=30):%H:%M}"}


GROUPS = {"postgres": ("work_mem", "8192", "8MB"), "mysql": ("max_connections", "57", 57)}


@contextlib.contextmanager
def deployment(rds, db: dict, **options):
    """A blue/green deployment of `db`, available; at the end it is deleted, and so are all instances but `db`'s name."""
    name, identifier = db["DBInstanceIdentifier"], None
    try:
        made = rds.create_blue_green_deployment(BlueGreenDeploymentName="change", Source=db["DBInstanceArn"], **options)
        identifier = made["BlueGreenDeployment"]["BlueGreenDeploymentIdentifier"]
        assert made["BlueGreenDeployment"]["Status"] == "PROVISIONING"
        until(lambda: describe(rds, identifier)["Status"] == "AVAILABLE", "green is there")
        available(rds, green_of(rds, identifier))
        yield identifier
    finally:
        with contextlib.suppress(rds.exceptions.BlueGreenDeploymentNotFoundFault):
            rds.delete_blue_green_deployment(BlueGreenDeploymentIdentifier=identifier)
        for other in rds.describe_db_instances()["DBInstances"]:
            if other["DBInstanceIdentifier"] != name:
                delete(rds, other["DBInstanceIdentifier"])


def describe(rds, identifier: str) -> dict:
    """Return what RDS says of a deployment."""
    return rds.describe_blue_green_deployments(BlueGreenDeploymentIdentifier=identifier)["BlueGreenDeployments"][0]


def green_of(rds, identifier: str) -> str:
    """Return the name of a deployment's green instance."""
    return describe(rds, identifier)["Target"].split(":")[-1]


def switch_over(rds, identifier: str) -> str:
    """Switch a deployment over and return how that ended."""
    rds.switchover_blue_green_deployment(BlueGreenDeploymentIdentifier=identifier)
    return until(lambda: (status := describe(rds, identifier)["Status"]) != "SWITCHOVER_IN_PROGRESS" and status, "it ended")


@pytest.mark.parametrize("engine, multi_az", [("postgres", False), ("mysql", False), ("postgres", True)])
def test_green_takes_over_name_endpoint_and_every_acknowledged_row(cloud, rds, engine, multi_az):
    """Under a write load green, with parameters and a class of its own, replaces blue; blue stays, read-only, as -old1."""
    parameter, value, shown = GROUPS[engine]
    group = f"green-{engine}-{multi_az}".lower()
    family = rds.describe_db_engine_versions(Engine=engine)["DBEngineVersions"][0]["DBParameterGroupFamily"]
    rds.create_db_parameter_group(DBParameterGroupName=group, DBParameterGroupFamily=family, Description="test")
    rds.modify_db_parameter_group(DBParameterGroupName=group, Parameters=[
        {"ParameterName": parameter, "ParameterValue": value, "ApplyMethod": "pending-reboot"}])
    with instance(rds, "blue", engine, MultiAZ=multi_az) as blue, deployment(
            rds, blue, TargetDBParameterGroupName=group, TargetDBInstanceClass="db.t4g.small") as identifier:
        green = available(rds, green_of(rds, identifier))
        assert show(green, parameter) == shown != show(blue, parameter)
        with pytest.raises(Exception, match="(?i)read.only"):
            sql(green, "CREATE TABLE t (i int)")
        with WriteLoad(lambda: sql(blue), writers=3) as load:
            until(lambda: len(load.answers) > 100, "the load is running")
            assert switch_over(rds, identifier) == "SWITCHOVER_COMPLETED"
            after = len(load.answers)
            until(lambda: len(load.answers) > after + 100, "writes go on at the same endpoint")
        new, old = available(rds, "blue"), available(rds, "blue-old1")
        assert load.errors and load.lost(sql(new)) == set()
        assert new["Endpoint"] == blue["Endpoint"] != old["Endpoint"]
        assert (new["DbiResourceId"], old["DbiResourceId"]) == (green["DbiResourceId"], blue["DbiResourceId"])
        assert new["DBInstanceClass"] == "db.t4g.small" and show(new, parameter) == shown
        assert new["MultiAZ"] == multi_az and not old["MultiAZ"]
        with pytest.raises(Exception, match="(?i)read.only"):
            sql(old, "INSERT INTO written VALUES (99, 1)")
        rds.delete_blue_green_deployment(BlueGreenDeploymentIdentifier=identifier)
        sql(available(rds, "blue-old1"), "INSERT INTO written VALUES (99, 1)")  # the protection is gone with the deployment
        the_new_one_is_protected(cloud, rds, load, multi_az)


def show(db: dict, parameter: str):
    """Return the value of a parameter, as the engine shows it."""
    return sql(db, f"SHOW {parameter}")[0][0] if db["Engine"] == "postgres" else sql(db, f"SELECT @@{parameter}")[0][0]


def the_new_one_is_protected(cloud, rds, load, multi_az: bool) -> None:
    """The production instance after a switchover has what blue had: a standby that takes over, or a log to restore from."""
    if multi_az:
        in_sync(cloud, "blue")
        cloud.crash("blue")
        until(lambda: load.lost(sql(available(rds, "blue"))) == set(), "the standby has taken over")
        return
    made = available(rds, "blue")
    sql(made, "CREATE TABLE later (i int)")
    written = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=1)
    until(lambda: available(rds, "blue")["LatestRestorableTime"] > written, "its log is shipped")
    rds.restore_db_instance_to_point_in_time(SourceDBInstanceIdentifier="blue", TargetDBInstanceIdentifier="restored",
                                             UseLatestRestorableTime=True)
    restored = available(rds, "restored")
    assert load.lost(sql(restored)) == set() and sql(restored, "SELECT count(*) FROM later")[0][0] == 0


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_a_switchover_that_cannot_finish_is_rolled_back(cloud, rds, engine):
    """With replication cut, blue goes on taking writes under its name and endpoint; mended, the switchover succeeds."""
    with instance(rds, "blue", engine) as blue, deployment(rds, blue) as identifier:
        green = green_of(rds, identifier)
        with WriteLoad(lambda: sql(blue), writers=2) as load:
            cloud.cut("blue", green)
            before = len(load.answers)
            until(lambda: len(load.answers) > before + 50, "green has fallen behind")
            assert switch_over(rds, identifier) == "SWITCHOVER_FAILED"
            assert "replication" in describe(rds, identifier)["StatusDetails"]
            after = len(load.answers)
            until(lambda: len(load.answers) > after + 50, "writes go on on blue")
        assert available(rds, "blue")["DbiResourceId"] == blue["DbiResourceId"]
        assert load.lost(sql(blue)) == set()
        cloud.heal("blue", green)
        until(lambda: load.lost(sql(available(rds, green))) == set(), "green has caught up")
        assert switch_over(rds, identifier) == "SWITCHOVER_COMPLETED"
        assert load.lost(sql(blue)) == set()


def test_what_is_no_blue_green_deployment_is_refused(rds):
    """Each request that AWS refuses has its code and a sentence, and makes no instance."""
    def refused(code: str, words: str, call, **request):
        with pytest.raises(ClientError, match=words) as error:
            call(**request)
        assert error.value.response["Error"]["Code"] == code

    create, switch = rds.create_blue_green_deployment, rds.switchover_blue_green_deployment
    with instance(rds, "blue", "postgres", BackupRetentionPeriod=0) as blue:
        request = {"BlueGreenDeploymentName": "change", "Source": blue["DBInstanceArn"]}
        refused("InvalidDBInstanceState", "Automated backups are not enabled", create, **request)
        rds.modify_db_instance(DBInstanceIdentifier="blue", BackupRetentionPeriod=1, ApplyImmediately=True)
        available(rds, "blue")
        refused("InvalidParameterCombination", "Cannot find version 19", create, **request, TargetEngineVersion="19")
        refused("InvalidParameterValue", "Invalid DB Instance class", create, **request, TargetDBInstanceClass="db.zz.large")
        refused("DBParameterGroupNotFound", "nobody-made-it", create, **request, TargetDBParameterGroupName="nobody-made-it")
        refused("DBInstanceNotFound", "nobody", create, **request | {"Source": blue["DBInstanceArn"] + "-nobody"})
        assert len(rds.describe_db_instances()["DBInstances"]) == 1
        with deployment(rds, blue) as identifier:
            refused("BlueGreenDeploymentAlreadyExistsFault", "already exists", create, **request)
            refused("InvalidParameterValue", "between 30 and 3600", switch, BlueGreenDeploymentIdentifier=identifier,
                    SwitchoverTimeout=3601)
            rds.promote_read_replica(DBInstanceIdentifier=green_of(rds, identifier))
            available(rds, green_of(rds, identifier))
            refused("InvalidBlueGreenDeploymentStateFault", "INVALID_CONFIGURATION", switch,
                    BlueGreenDeploymentIdentifier=identifier)
        refused("BlueGreenDeploymentNotFoundFault", "doesn't refer to", switch, BlueGreenDeploymentIdentifier=identifier)


def test_a_deployment_can_be_deleted_with_its_green_instance(rds):
    """DeleteTarget removes green before a switchover; after one it is refused, as green is the production database."""
    with instance(rds, "blue", "postgres") as blue:
        with deployment(rds, blue) as identifier:
            green = green_of(rds, identifier)
            rds.delete_blue_green_deployment(BlueGreenDeploymentIdentifier=identifier, DeleteTarget=True)
            rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=green)
            assert available(rds, "blue")["ReadReplicaDBInstanceIdentifiers"] == []
        with deployment(rds, blue) as identifier:
            assert switch_over(rds, identifier) == "SWITCHOVER_COMPLETED"
            available(rds, "blue")
            with pytest.raises(ClientError, match="production database"):
                rds.delete_blue_green_deployment(BlueGreenDeploymentIdentifier=identifier, DeleteTarget=True)
