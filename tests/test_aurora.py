"""Aurora clusters behind plain boto3: what survives which loss, who gets which connection, and what is refused."""

import collections
import contextlib
import time

import boto3
import psycopg
import pymysql
import pytest
from botocore.exceptions import ClientError
from conftest import PASSWORD, until
from test_rds import servers

from minicloud.load import WriteLoad

BOTH = ("aurora-postgresql", "aurora-mysql")


@pytest.fixture(scope="module")
def west(cloud):
    """An RDS client of another Region."""
    return boto3.client("rds", region_name="us-west-2")


def describe(rds, name: str) -> dict:
    """Wait until a DB cluster is available and return its description."""
    rds.get_waiter("db_cluster_available").wait(DBClusterIdentifier=name)
    return rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]


def writer(rds, name: str) -> str:
    """Return which instance writes."""
    members = rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]["DBClusterMembers"]
    return ", ".join(member["DBInstanceIdentifier"] for member in members if member["IsClusterWriter"])


def add(rds, cluster: str, engine: str, *names: str, **options) -> None:
    """Add instances to a cluster and wait until they are available."""
    for name in names:
        rds.create_db_instance(DBInstanceIdentifier=name, DBClusterIdentifier=cluster, Engine=engine,
                               **{"DBInstanceClass": "db.t4g.medium"} | options)
    for name in names:
        rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=name)


def make(rds, name: str, engine: str, instances: int = 1, **options) -> dict:
    """Create a cluster of so many instances, NAME-1 the writer, and return its description."""
    if "GlobalClusterIdentifier" not in options:
        options |= {"MasterUsername": "shopadmin", "MasterUserPassword": PASSWORD, "DatabaseName": "shop"}
    rds.create_db_cluster(DBClusterIdentifier=name, Engine=engine, **options)
    describe(rds, name)
    add(rds, name, engine, f"{name}-1")
    add(rds, name, engine, *(f"{name}-{number}" for number in range(2, instances + 1)))
    return describe(rds, name)


def drop(rds, name: str) -> None:
    """Delete a cluster and its instances and wait until they are gone."""
    for member in describe(rds, name)["DBClusterMembers"]:
        until(lambda: _status(rds, member) not in ("creating", "rebooting"), "the instance can be deleted")
        rds.delete_db_instance(DBInstanceIdentifier=member["DBInstanceIdentifier"])
    for member in describe(rds, name)["DBClusterMembers"]:
        rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=member["DBInstanceIdentifier"])
    rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)
    rds.get_waiter("db_cluster_deleted").wait(DBClusterIdentifier=name)


def _status(rds, member: dict) -> str:
    name = member["DBInstanceIdentifier"]
    return rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"]


@contextlib.contextmanager
def cluster(rds, name: str, engine: str, instances: int = 1, **options):
    """A cluster for the length of a `with` block."""
    try:
        yield make(rds, name, engine, instances, **options)
    finally:
        drop(rds, name)


def connect(described: dict, host: str = "Endpoint"):
    """Return a connection to a cluster's endpoint, or its ReaderEndpoint."""
    where = {"host": described[host], "port": described["Port"], "user": "shopadmin", "password": PASSWORD,
             "autocommit": True, "connect_timeout": 5}
    return psycopg.connect(dbname="shop", **where) if "postgres" in described["Engine"] else pymysql.connect(
        database="shop", **where)


def sql(described: dict, statement: str, host: str = "Endpoint"):
    """Return the rows a statement gives at a cluster's endpoint."""
    with contextlib.closing(connect(described, host)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("engine", BOTH)
def test_a_lost_writer_costs_no_acknowledged_row(cloud, rds, engine):
    """Three times in a row the writer is killed under load: the best reader by tier, then size, takes over at the same
    endpoint, no acknowledged row is lost, and the lost instance comes back as a reader."""
    with cluster(rds, "ha", engine, 2) as before:
        add(rds, "ha", engine, "ha-3")
        rds.modify_db_instance(DBInstanceIdentifier="ha-3", PromotionTier=0)
        add(rds, "ha", engine, "ha-4", PromotionTier=0, DBInstanceClass="db.r6g.2xlarge")
        for heir in ("ha-4", "ha-3", "ha-4"):
            describe(rds, "ha")
            until(lambda: _up(cloud, "ha") == 4, "all instances are up")
            fail_over_under_load(cloud, before)
            assert writer(rds, "ha") == heir
        after = describe(rds, "ha")
        assert {name: after[name] for name in ("Endpoint", "ReaderEndpoint", "Port")} == {
            name: before[name] for name in ("Endpoint", "ReaderEndpoint", "Port")}


def fail_over_under_load(cloud, described: dict) -> None:
    """Kill the writer under a write load; assert that nothing acknowledged is lost."""
    with WriteLoad(lambda: connect(described), writers=3) as load:
        until(lambda: len(load.answers) > 100, "the load is running")
        cloud.crash(described["DBClusterIdentifier"])
        acknowledged = len(load.answers)
        until(lambda: load.errors and len(load.answers) > acknowledged + 100, "writes go on after the failover")
    with contextlib.closing(connect(described)) as connection:
        assert load.lost(connection) == set()


def _up(cloud, name: str) -> int:
    return len([row for row in cloud.resources() if row["resource"].startswith(f"{name}-") and row["state"] == "available"])


def test_a_hung_writer_is_failed_over(cloud, rds):
    """A writer that is there and answers nobody is replaced by a reader; no acknowledged row is lost."""
    with cluster(rds, "hung", "aurora-postgresql", 2) as described:
        sql(described, "CREATE TABLE t (i int)")
        sql(described, "INSERT INTO t VALUES (1)")
        stuck, = servers(cloud, standby=False)
        for process in [stuck, *stuck.children(recursive=True)]:
            process.suspend()
        until(lambda: _answers(described), "the reader has taken over")
        assert sql(described, "SELECT i FROM t") == [(1,)] and writer(rds, "hung") == "hung-2"
        until(lambda: _up(cloud, "hung") == 2, "the hung instance is back, as a reader")


def test_the_reader_endpoint_spreads_connections_and_leaves_out_the_dead(cloud, rds):
    """Of 300 connections each of three readers gets a third, within 10 %; when one is killed each connection is
    served by another; without readers the writer serves them."""
    with cluster(rds, "spread", "aurora-postgresql", 4) as described:
        readers = _readers(described, 300)
        assert len(readers) == 3 and all(90 <= count <= 110 for count in readers.values()), readers
        cloud.crash("spread-3")
        assert sum(_readers(described, 60).values()) == 60, "each connection was served"
        rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier="spread-3")
        until(lambda: len(_readers(described, 12)) == 3, "the killed reader is back")
        for name in ("spread-2", "spread-3", "spread-4"):
            rds.delete_db_instance(DBInstanceIdentifier=name)
            rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=name)
        assert sql(described, "SELECT pg_is_in_recovery()", "ReaderEndpoint") == [(False,)]


def _readers(described: dict, connections: int) -> collections.Counter:
    """Return how many of so many connections each server got: a server is known by when it was started."""
    return collections.Counter(sql(described, "SELECT pg_postmaster_start_time()", "ReaderEndpoint")[0][0]
                               for _ in range(connections))


def test_a_failover_asked_for_goes_where_it_is_told(rds):
    """FailoverDBCluster makes the named reader the writer and tells it in the events; without a reader it is refused."""
    with cluster(rds, "asked", "aurora-postgresql", 3):
        rds.failover_db_cluster(DBClusterIdentifier="asked", TargetDBInstanceIdentifier="asked-3")
        describe(rds, "asked")
        assert writer(rds, "asked") == "asked-3"
        told = [event["Message"] for event in rds.describe_events(SourceType="db-cluster", SourceIdentifier="asked")["Events"]]
        assert told == ["Started failover to DB instance: asked-3", "Completed failover to DB instance: asked-3"]
        for name in ("asked-1", "asked-2"):
            rds.delete_db_instance(DBInstanceIdentifier=name)
            rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=name)
        with pytest.raises(ClientError, match="needs a running reader"):
            rds.failover_db_cluster(DBClusterIdentifier="asked")


@pytest.mark.parametrize("engine", BOTH)
def test_the_data_is_the_clusters(cloud, rds, engine):
    """A writer without readers recovers in its place; when the last instance is deleted the data stays for the next."""
    with cluster(rds, "alone", engine) as described:
        sql(described, "CREATE TABLE t (i int)")
        sql(described, "INSERT INTO t VALUES (7)")
        cloud.crash("alone")
        until(lambda: _answers(described), "the writer is back")
        rds.delete_db_instance(DBInstanceIdentifier="alone-1")
        rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier="alone-1")
        assert describe(rds, "alone")["DBClusterMembers"] == []
        add(rds, "alone", engine, "alone-2")
        assert [tuple(row) for row in sql(described, "SELECT i FROM t")] == [(7,)]


def _answers(described: dict) -> bool:
    try:
        return bool(sql(described, "SELECT 1"))
    except (psycopg.Error, pymysql.Error):
        return False


@pytest.mark.parametrize("engine", BOTH)
def test_clones_and_snapshots_are_clusters_of_their_own(rds, engine):
    """A clone and a restored snapshot have the source's rows of their moment, and change without it."""
    with cluster(rds, "source", engine) as source:
        sql(source, "CREATE TABLE t (i int)")
        sql(source, "INSERT INTO t VALUES (1)")
        rds.create_db_cluster_snapshot(DBClusterIdentifier="source", DBClusterSnapshotIdentifier="of-source")
        rds.get_waiter("db_cluster_snapshot_available").wait(DBClusterSnapshotIdentifier="of-source")
        sql(source, "INSERT INTO t VALUES (2)")
        rds.restore_db_cluster_to_point_in_time(DBClusterIdentifier="clone", SourceDBClusterIdentifier="source",
                                                RestoreType="copy-on-write", UseLatestRestorableTime=True)
        rds.restore_db_cluster_from_snapshot(DBClusterIdentifier="old", SnapshotIdentifier="of-source", Engine=engine)
        for name, rows in (("clone", 2), ("old", 1)):
            add(rds, name, engine, f"{name}-1")  # at once: it waits for the data
            copy = describe(rds, name)
            assert sql(copy, "SELECT count(*) FROM t")[0][0] == rows
            sql(copy, "DROP TABLE t")
            drop(rds, name)
        assert sql(source, "SELECT count(*) FROM t")[0][0] == 2
        rds.delete_db_cluster_snapshot(DBClusterSnapshotIdentifier="of-source")


TAGS = [{"Key": "course", "Value": "databases"}]


@contextlib.contextmanager
def global_database(rds, west, engine: str):
    """Clusters "east" and "west" of a global database, for the length of a `with` block."""
    with cluster(rds, "east", engine) as east:
        rds.create_global_cluster(GlobalClusterIdentifier="world", SourceDBClusterIdentifier=east["DBClusterArn"],
                                  Tags=TAGS)
        make(west, "west", engine, GlobalClusterIdentifier="world")
        try:
            yield {"east": (rds, describe(rds, "east")), "west": (west, describe(west, "west"))}
        finally:
            leave(rds, {"east": rds, "west": west})
            drop(west, "west")


def leave(rds, clients: dict) -> None:
    """Dissolve the global database, secondary clusters first."""
    for client, name in ((clients[name], name) for name in clients):
        describe(client, name)
    members = rds.describe_global_clusters(GlobalClusterIdentifier="world")["GlobalClusters"][0]["GlobalClusterMembers"]
    for member in sorted(members, key=lambda member: member["IsWriter"]):
        rds.remove_from_global_cluster(GlobalClusterIdentifier="world", DbClusterIdentifier=member["DBClusterArn"])
    rds.delete_global_cluster(GlobalClusterIdentifier="world")


@pytest.mark.parametrize("engine", BOTH)
def test_an_unplanned_global_failover_loses_a_counted_tail(cloud, rds, west, engine):
    """With the link between the Regions lost, a failover loses exactly the rows that had not arrived: the acknowledged
    ones that are missing are those that only the old primary's snapshot holds. There and back."""
    with global_database(rds, west, engine) as regions:
        for old, new in (("east", "west"), ("west", "east")):
            assert lose_a_region(cloud, rds, regions, old, new) > 0


def lose_a_region(cloud, rds, regions: dict, old: str, new: str) -> int:
    """Cut the Regions apart under load, fail over, compare both sides; return the number of rows lost."""
    (there, primary), (here, secondary) = regions[old], regions[new]
    with WriteLoad(lambda: connect(primary), pause=0.005) as load:
        until(lambda: len(load.answers) > 50, "the load is running")
        time.sleep(0.3)
        cloud.cut(old, new)
        acknowledged = len(load.answers)
        until(lambda: len(load.answers) > acknowledged + 50, "the primary goes on alone")
        rds.failover_global_cluster(GlobalClusterIdentifier="world", AllowDataLoss=True,
                                    TargetDbClusterIdentifier=secondary["DBClusterArn"])
        describe(here, new)
    with contextlib.closing(connect(secondary)) as connection:
        lost, kept = load.lost(connection), load.rows(connection)
    describe(there, old)
    snapshots = there.describe_db_cluster_snapshots(DBClusterIdentifier=old)["DBClusterSnapshots"]
    saved = max(snapshots, key=lambda snapshot: snapshot["DBClusterSnapshotIdentifier"])
    there.restore_db_cluster_from_snapshot(DBClusterIdentifier="evidence", Engine=primary["Engine"],
                                           SnapshotIdentifier=saved["DBClusterSnapshotIdentifier"])
    describe(there, "evidence")
    add(there, "evidence", primary["Engine"], "evidence-1")
    with contextlib.closing(connect(describe(there, "evidence"))) as connection:
        only_there = load.rows(connection) - kept
    drop(there, "evidence")
    in_doubt = only_there - {(answer.writer, answer.n) for answer in load.answers}
    assert only_there - in_doubt == lost and len(in_doubt) <= 2, "a writer's last row can be there without its answer"
    return len(lost)


@pytest.mark.parametrize("engine", BOTH)
def test_a_switchover_loses_nothing(rds, west, engine):
    """A planned switchover under load moves the writes to the other Region without a row lost, and back follows; tags stay."""
    with global_database(rds, west, engine) as regions:
        with WriteLoad(lambda: connect(regions["east"][1]), pause=0.005) as load:
            until(lambda: len(load.answers) > 100, "the load is running")
            rds.switchover_global_cluster(GlobalClusterIdentifier="world",
                                          TargetDbClusterIdentifier=regions["west"][1]["DBClusterArn"])
            describe(west, "west")
        with contextlib.closing(connect(regions["west"][1])) as connection:
            assert load.lost(connection) == set()
        sql(regions["west"][1], "INSERT INTO written VALUES (9, 9)")
        describe(rds, "east")
        until(lambda: sql(regions["east"][1], "SELECT n FROM written WHERE writer = 9", "ReaderEndpoint"),
              "the old primary Region follows")
        world, = rds.describe_global_clusters(GlobalClusterIdentifier="world")["GlobalClusters"]
        writers = [member["DBClusterArn"] for member in world["GlobalClusterMembers"] if member["IsWriter"]]
        assert writers == [regions["west"][1]["DBClusterArn"]] and world["TagList"] == TAGS


def test_an_idle_serverless_cluster_pauses_and_wakes_for_a_connection(cloud, rds):
    """With a minimum of 0 ACUs the engine stops when nobody has been connected for a while, and not before; who connects
    then is served, with the data as it was."""
    capacity = {"MinCapacity": 0, "MaxCapacity": 4, "SecondsUntilAutoPause": 300}
    rds.create_db_cluster(DBClusterIdentifier="idle", Engine="aurora-postgresql", MasterUsername="shopadmin",
                          MasterUserPassword=PASSWORD, DatabaseName="shop", ServerlessV2ScalingConfiguration=capacity)
    describe(rds, "idle")
    add(rds, "idle", "aurora-postgresql", "idle-1", DBInstanceClass="db.serverless")
    described = describe(rds, "idle")
    sql(described, "CREATE TABLE t (i int)")
    with contextlib.closing(connect(described)) as busy:
        time.sleep(8)
        assert _states(cloud) == {"available"}
        assert busy.execute("SELECT 1").fetchone()
    until(lambda: _states(cloud) == {"paused"}, "the cluster pauses", seconds=20)
    rds.create_db_cluster_snapshot(DBClusterIdentifier="idle", DBClusterSnapshotIdentifier="of-idle")
    rds.get_waiter("db_cluster_snapshot_available").wait(DBClusterSnapshotIdentifier="of-idle")
    until(lambda: _states(cloud) == {"paused"}, "the cluster pauses again", seconds=20)
    assert sql(described, "SELECT count(*) FROM t") == [(0,)]
    assert _states(cloud) == {"available"}
    drop(rds, "idle")


def _states(cloud) -> set[str]:
    return {row["state"] for row in cloud.resources() if row["resource"].startswith("idle")}


NEW = {"DBClusterIdentifier": "new", "Engine": "aurora-postgresql", "MasterUsername": "shopadmin",
       "MasterUserPassword": PASSWORD}
MEMBER = {"DBInstanceIdentifier": "m", "DBClusterIdentifier": "there", "Engine": "aurora-postgresql",
          "DBInstanceClass": "db.r6g.large"}


def _scaled(low, high, **more) -> dict:
    return NEW | {"ServerlessV2ScalingConfiguration": {"MinCapacity": low, "MaxCapacity": high} | more}


@pytest.mark.parametrize("call, wrong, code, says", [
    ("create_db_cluster", NEW | {"DBClusterIdentifier": "there"}, "DBClusterAlreadyExistsFault", "already exists"),
    ("create_db_cluster", NEW | {"DBClusterIdentifier": "-x"}, "InvalidParameterValue", "begin with a letter"),
    ("create_db_cluster", NEW | {"BackupRetentionPeriod": 0}, "InvalidParameterValue", "between 1 and 35"),
    ("create_db_cluster", NEW | {"EngineMode": "serverless"}, "InvalidParameterCombination", "db.serverless"),
    ("create_db_cluster", NEW | {"EngineVersion": "9.6"}, "InvalidParameterCombination", "Cannot find version 9.6"),
    ("create_db_cluster", _scaled(0.3, 4), "InvalidParameterValue", "steps of 0.5"),
    ("create_db_cluster", _scaled(8, 4), "InvalidParameterValue", "minimum from 0 to the maximum"),
    ("create_db_cluster", _scaled(0, 256.5), "InvalidParameterValue", "from 1 to 256"),
    ("create_db_cluster", _scaled(0, 4, SecondsUntilAutoPause=299), "InvalidParameterValue", "300 to 86400"),
    ("create_db_cluster", _scaled(0.5, 4, SecondsUntilAutoPause=300), "InvalidParameterValue", "MinCapacity of 0"),
    ("create_db_instance", MEMBER | {"DBClusterIdentifier": "nobody"}, "DBClusterNotFoundFault", "nobody"),
    ("create_db_instance", MEMBER | {"Engine": "aurora-mysql"}, "InvalidParameterCombination", "not the cluster's"),
    ("create_db_instance", MEMBER | {"PromotionTier": 16}, "InvalidParameterValue", "between 0 and 15"),
    ("create_db_instance", MEMBER | {"DBInstanceClass": "db.serverless"}, "InvalidDBClusterStateFault", "scaling"),
    ("create_db_instance", MEMBER | {"MasterUsername": "me"}, "InvalidParameterCombination", "for the DB Cluster"),
    ("create_db_instance", {k: v for k, v in MEMBER.items() if k != "DBClusterIdentifier"},
     "InvalidParameterCombination", "belongs to a DB cluster"),
    ("stop_db_instance", {"DBInstanceIdentifier": "there-1"}, "InvalidParameterCombination", "StopDBCluster"),
    ("delete_db_cluster", {"DBClusterIdentifier": "there", "SkipFinalSnapshot": True}, "InvalidDBClusterStateFault", "there-1"),
    ("delete_db_cluster", {"DBClusterIdentifier": "there"}, "InvalidParameterCombination", "FinalDBSnapshotIdentifier"),
    ("failover_db_cluster", {"DBClusterIdentifier": "nobody"}, "DBClusterNotFoundFault", "nobody"),
    ("failover_global_cluster", {"GlobalClusterIdentifier": "none", "TargetDbClusterIdentifier": "x"},
     "InvalidParameterCombination", "AllowDataLoss"),
    ("switchover_global_cluster", {"GlobalClusterIdentifier": "none", "TargetDbClusterIdentifier": "x"},
     "GlobalClusterNotFoundFault", "not found"),
])
def test_what_aurora_refuses(rds, there, call, wrong, code, says):
    """Each request that Aurora does not take is refused with its error code and a sentence that says why."""
    with pytest.raises(ClientError) as refused:
        getattr(rds, call)(**wrong)
    assert refused.value.response["Error"]["Code"] == code and says in str(refused.value)


@pytest.fixture(scope="module")
def there(rds):
    """A cluster "there" of one instance."""
    with cluster(rds, "there", "aurora-postgresql") as described:
        yield described
