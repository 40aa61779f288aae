"""RDS refuses what AWS refuses, in a sentence, and accepts the nearest thing that AWS accepts."""

import contextlib
import re
import socket

import psycopg
import pytest
from botocore.exceptions import ClientError
from conftest import PASSWORD, available, delete, instance

from minicloud.rds import limits

# What a request for a small instance (a record of Db2, which takes no time) is changed to; the error's code, and words of
# its sentence; the nearest legal change.
VALUE, COMBINATION = "InvalidParameterValue", "InvalidParameterCombination"
ORACLE = {"Engine": "oracle-ee", "DBInstanceClass": "db.t3.small"}
SQLSERVER = {"Engine": "sqlserver-ex", "DBInstanceClass": "db.t3.small"}
DB2 = {"Engine": "db2-se", "DBInstanceClass": "db.t3.small"}
POSTGRES, MYSQL, MARIADB = ({"Engine": name, "DBInstanceClass": "db.t4g.micro"} for name in ("postgres", "mysql", "mariadb"))
BACKUP, WEEKLY = "PreferredBackupWindow", "PreferredMaintenanceWindow"
CREATE = [
    ({"DBInstanceIdentifier": "ends-with-"}, VALUE, "not a valid identifier", {"DBInstanceIdentifier": "ends-with-a"}),
    ({"DBInstanceIdentifier": "two--hyphens"}, VALUE, "two consecutive hyphens", {"DBInstanceIdentifier": "two-h-yphens"}),
    ({"DBInstanceIdentifier": "1st"}, VALUE, "begin with a letter", {"DBInstanceIdentifier": "f1st"}),
    (ORACLE | {"DBInstanceIdentifier": "n" * 64}, VALUE, "longer than 63", ORACLE | {"DBInstanceIdentifier": "n" * 63}),
    ({"MasterUserPassword": "p" * 7}, VALUE, "shorter than 8", {"MasterUserPassword": "p" * 8}),
    (POSTGRES | {"MasterUserPassword": "p" * 129}, VALUE, "longer than 128", POSTGRES | {"MasterUserPassword": "p" * 128}),
    (MYSQL | {"MasterUserPassword": "p" * 42}, VALUE, "longer than 41",
     MYSQL | {"MasterUserPassword": "p" * 41}),
    (ORACLE | {"MasterUserPassword": "p" * 31}, VALUE, "longer than 30", ORACLE | {"MasterUserPassword": "p" * 30}),
    ({"MasterUserPassword": "p" * 256}, VALUE, "longer than 255", {"MasterUserPassword": "p" * 255}),
    ({"MasterUserPassword": "with a blank"}, VALUE, "printable ASCII", {"MasterUserPassword": "with-a-dash"}),
    (ORACLE | {"MasterUserPassword": "salt&pepper"}, VALUE, "printable ASCII", {"MasterUserPassword": "salt&pepper"}),
    ({"MasterUsername": "rdsadmin"}, VALUE, "reserved", {"MasterUsername": "rdsadmin1"}),
    (POSTGRES | {"MasterUsername": "admin"}, VALUE, "reserved", MYSQL | {"MasterUsername": "admin"}),
    (POSTGRES | {"MasterUsername": "pg_boss"}, VALUE, "reserved", POSTGRES | {"MasterUsername": "pgboss"}),
    (MARIADB | {"MasterUsername": "u" * 17}, VALUE, "at most 16", MARIADB | {"MasterUsername": "u" * 16}),
    (POSTGRES | {"DBName": "1st"}, VALUE, "must begin with a letter", POSTGRES | {"DBName": "first"}),
    (POSTGRES | {"DBName": "d" * 64}, VALUE, "at most 63", POSTGRES | {"DBName": "d" * 63}),
    (ORACLE | {"DBName": "NINECHARS"}, VALUE, "at most 8", ORACLE | {"DBName": "EIGHTCHR"}),
    (SQLSERVER | {"DBName": "shop"}, VALUE, "must be null", SQLSERVER),
    ({"DBInstanceClass": "db.zz.large"}, VALUE, "Invalid DB Instance class", POSTGRES | {"DBInstanceClass": "db.m7g.large"}),
    (ORACLE | {"DBInstanceClass": "db.t4g.small"}, COMBINATION, "does not support", ORACLE | {"DBInstanceClass": "db.t3.small"}),
    ({"DBInstanceClass": "db.t3.micro"}, COMBINATION, "does not support", {"DBInstanceClass": "db.t3.small"}),
    (SQLSERVER | {"DBInstanceClass": "db.m5.large"}, COMBINATION, "does not support",
     SQLSERVER | {"DBInstanceClass": "db.t3.large"}),
    ({"AllocatedStorage": 19}, COMBINATION, "20 to 65536", {"AllocatedStorage": 20}),
    (ORACLE | {"AllocatedStorage": 65537}, COMBINATION, "20 to 65536", ORACLE | {"AllocatedStorage": 65536}),
    (SQLSERVER | {"AllocatedStorage": 16385}, COMBINATION, "20 to 16384", SQLSERVER | {"AllocatedStorage": 16384}),
    (ORACLE | {"StorageType": "io2", "AllocatedStorage": 99, "Iops": 1000}, COMBINATION, "100 to 65536",
     ORACLE | {"StorageType": "io2", "AllocatedStorage": 100, "Iops": 1000}),
    (ORACLE | {"StorageType": "io1", "AllocatedStorage": 100, "Iops": 5001}, COMBINATION, "50 to 5000",
     ORACLE | {"StorageType": "io1", "AllocatedStorage": 100, "Iops": 5000}),
    (ORACLE | {"StorageType": "io1", "AllocatedStorage": 100}, COMBINATION, "requires Iops",
     ORACLE | {"StorageType": "gp3", "AllocatedStorage": 100}),
    ({"AllocatedStorage": 399, "Iops": 12000, "StorageType": "gp3"}, COMBINATION, "less than 400",
     {"AllocatedStorage": 400, "Iops": 12000, "StorageType": "gp3"}),
    ({"StorageType": "gp2"}, VALUE, "Invalid storage type", {"StorageType": "gp3"}),
    ({"BackupRetentionPeriod": 36}, VALUE, "between 0 and 35", {"BackupRetentionPeriod": 35}),
    ({"Port": 1149}, VALUE, "between 1150 and 65535", {"Port": 1150}),
    (SQLSERVER | {"Port": 1434}, VALUE, "none of 1234, 1434", SQLSERVER | {"Port": 1435}),
    (ORACLE | {"LicenseModel": "license-included"}, COMBINATION, "Valid license models are: bring-your-own-license",
     ORACLE | {"LicenseModel": "bring-your-own-license"}),
    (POSTGRES | {"EngineVersion": "9.9"}, COMBINATION, "Cannot find version 9.9", POSTGRES | {"EngineVersion": "18"}),
    ({"Engine": "dbase"}, VALUE, "engine dbase not supported", MARIADB),
    ({"MultiAZ": True, "AvailabilityZone": "us-east-1a"}, COMBINATION, "not valid for Multi-AZ",
     {"AvailabilityZone": "us-east-1a"}),
    (POSTGRES | {"DBParameterGroupName": "nobody-made-it"}, "DBParameterGroupNotFound", "nobody-made-it not found",
     POSTGRES | {"DBParameterGroupName": "default.postgres18"}),
    ({BACKUP: "3:00-3:30"}, VALUE, "hh24:mi-hh24:mi", {BACKUP: "03:00-03:30"}),
    ({BACKUP: "23:50-00:19"}, VALUE, "at least 30 minutes", {BACKUP: "23:50-00:20"}),
    ({WEEKLY: "someday:03:00-someday:04:00"}, VALUE, "ddd:hh24:mi-ddd:hh24:mi", {WEEKLY: "Sun:23:45-Mon:00:15"}),
    ({WEEKLY: "mon:03:00-mon:03:29"}, VALUE, "at least 30 minutes", {WEEKLY: "mon:03:00-mon:03:30"}),
    ({WEEKLY: "mon:03:00-tue:03:01"}, VALUE, "less than 24 hours", {BACKUP: "02:00-02:30", WEEKLY: "mon:03:00-tue:02:00"}),
    ({BACKUP: "06:00-07:00", WEEKLY: "mon:06:30-mon:07:30"}, VALUE, "must not overlap",
     {BACKUP: "06:00-06:30", WEEKLY: "mon:06:30-mon:07:30"}),
    ({BACKUP: "23:45-00:15", WEEKLY: "mon:00:00-mon:00:30"}, VALUE, "must not overlap",
     {BACKUP: "23:45-00:15", WEEKLY: "mon:00:15-mon:00:45"}),
]


@pytest.mark.parametrize("wrong, code, words, right", CREATE, ids=[row[2] for row in CREATE])
def test_a_wrong_request_is_refused_in_a_sentence_and_the_nearest_right_one_is_not(rds, wrong, code, words, right):
    """CreateDBInstance answers with AWS's code and what was wrong, leaves nothing, and takes the nearest legal value."""
    small = DB2 | {"DBInstanceIdentifier": "limits", "AllocatedStorage": 20, "MasterUsername": "shopadmin",
                   "MasterUserPassword": PASSWORD, "BackupRetentionPeriod": 0}
    with pytest.raises(ClientError, match=re.escape(words)) as refused:
        rds.create_db_instance(**small | wrong)
    assert refused.value.response["Error"]["Code"] == code
    assert rds.describe_db_instances()["DBInstances"] == []
    request = small | right
    rds.create_db_instance(**request)
    assert available(rds, request["DBInstanceIdentifier"])["Engine"] == request["Engine"]
    delete(rds, request["DBInstanceIdentifier"])


MODIFY = [
    ({"AllocatedStorage": 29}, COMBINATION, "can't reduce the storage", {"AllocatedStorage": 30}),
    ({"StorageType": "io1", "Iops": 3000}, COMBINATION, "100 to 65536", {"StorageType": "gp2"}),
    ({"DBInstanceClass": "db.t4g.nano"}, VALUE, "Invalid DB Instance class", {"DBInstanceClass": "db.t4g.small"}),
    ({"BackupRetentionPeriod": 36}, VALUE, "between 0 and 35", {"BackupRetentionPeriod": 35}),
    ({"MasterUserPassword": "p" * 7}, VALUE, "shorter than 8", {"MasterUserPassword": "p" * 8}),
    ({WEEKLY: "mon:03:15-mon:03:45"}, VALUE, "must not overlap", {WEEKLY: "mon:03:30-mon:04:00"}),
    ({BACKUP: "03:45-04:15"}, VALUE, "must not overlap", {BACKUP: "02:00-02:30"}),
    ({"EngineVersion": "17.6"}, COMBINATION, "Cannot find version 17.6", {"EngineVersion": "18"}),
]


def test_a_wrong_modification_is_refused_and_changes_nothing(rds):
    """ModifyDBInstance refuses like CreateDBInstance, also what is only wrong beside what the instance has."""
    with instance(rds, "modified", "postgres", AllocatedStorage=30, **{BACKUP: "03:00-03:30", WEEKLY: "sun:04:00-sun:04:30"}):
        for wrong, code, words, right in MODIFY:
            before = available(rds, "modified")
            with pytest.raises(ClientError, match=words) as refused:
                rds.modify_db_instance(DBInstanceIdentifier="modified", **wrong)
            assert refused.value.response["Error"]["Code"] == code
            assert available(rds, "modified") == before
            rds.modify_db_instance(DBInstanceIdentifier="modified", **right)


def test_storage_grows_four_times_a_day(rds):
    """The fifth change of storage within 24 hours is refused; other changes are not."""
    with record(rds, "growing", "db2-ae"):
        for gib in (30, 40, 50, 60):
            rds.modify_db_instance(DBInstanceIdentifier="growing", AllocatedStorage=gib, ApplyImmediately=True)
            assert available(rds, "growing")["AllocatedStorage"] == gib
        with pytest.raises(ClientError, match="4 times within 24 hours"):
            rds.modify_db_instance(DBInstanceIdentifier="growing", AllocatedStorage=70, ApplyImmediately=True)
        rds.modify_db_instance(DBInstanceIdentifier="growing", BackupRetentionPeriod=2, ApplyImmediately=True)
        available(rds, "growing")


@pytest.mark.parametrize("engine, most", [("oracle-ee", 5), ("sqlserver-ee", 5), ("db2-se", 3)])
def test_a_source_has_as_many_replicas_as_its_engine_allows(rds, engine, most):
    """One replica more than AWS allows is refused; deleting the source leaves its replicas as instances of their own."""
    with record(rds, "source", engine, DBInstanceClass="db.t3.xlarge"):
        for n in range(most):
            rds.create_db_instance_read_replica(DBInstanceIdentifier=f"replica-{n}", SourceDBInstanceIdentifier="source")
        with pytest.raises(ClientError, match=f"{most} are the most"):
            rds.create_db_instance_read_replica(DBInstanceIdentifier="too-many", SourceDBInstanceIdentifier="source")
    left = rds.describe_db_instances()["DBInstances"]
    assert len(left) == most and not any("ReadReplicaSourceDBInstanceIdentifier" in db for db in left)
    for db in left:
        delete(rds, db["DBInstanceIdentifier"])


def test_fifteen_replicas_on_the_open_engines_and_none_on_express():
    """The 15th replica of PostgreSQL, MySQL or MariaDB is allowed, the 16th not; SQL Server Express has none."""
    for engine in ("postgres", "mysql", "mariadb"):
        limits.check_replicas(engine, 14)
        with pytest.raises(limits.RDSClientError, match="15 are the most"):
            limits.check_replicas(engine, 15)
    with pytest.raises(limits.RDSClientError, match="Enterprise Edition"):
        limits.check_replicas("sqlserver-ex", 0)


@contextlib.contextmanager
def record(rds, identifier: str, engine: str, **options):
    """An instance of an engine that does not run here, for the length of a `with` block: its record."""
    rds.create_db_instance(DBInstanceIdentifier=identifier, Engine=engine, AllocatedStorage=20, MasterUsername="shopadmin",
                           MasterUserPassword="p" * 20, **{"DBInstanceClass": "db.t3.small"} | options)
    yield available(rds, identifier)
    delete(rds, identifier)


def test_the_41st_instance_of_a_region_is_refused(rds):
    """An account has 40 DB instances in a Region, and says so when one more is asked for; one deleted makes room."""
    request = {**ORACLE, "AllocatedStorage": 20, "MasterUsername": "shopadmin", "MasterUserPassword": "p" * 20}
    for n in range(40):
        rds.create_db_instance(DBInstanceIdentifier=f"quota-{n}", **request)
    with pytest.raises(ClientError, match="quota exceeded") as refused:
        rds.create_db_instance(DBInstanceIdentifier="quota-40", **request)
    assert refused.value.response["Error"]["Code"] == "InstanceQuotaExceeded"
    delete(rds, "quota-0")
    rds.create_db_instance(DBInstanceIdentifier="quota-40", **request)
    for n in range(1, 41):
        delete(rds, f"quota-{n}")


@pytest.mark.parametrize("engine, word", [("oracle-se2", "oracle"), ("sqlserver-ex", "sql-server"), ("db2-ae", "db2")])
def test_an_engine_that_cannot_run_here_says_so_where_you_meet_it(rds, engine, word):
    """The endpoint of Oracle, SQL Server and Db2 is a name that cannot be resolved and says why, and so does an event."""
    with record(rds, "absent", engine) as db:
        assert db["Endpoint"]["Address"] == f"{word}-does-not-run-here.minicloud.invalid"
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo(db["Endpoint"]["Address"], db["Endpoint"]["Port"])
        with pytest.raises(psycopg.OperationalError, match="does-not-run-here"):
            psycopg.connect(host=db["Endpoint"]["Address"], connect_timeout=5)
        events = rds.describe_events(SourceType="db-instance", SourceIdentifier="absent")["Events"]
        assert any("On AWS the same call starts one" in event["Message"] for event in events)
        offered, = rds.describe_db_engine_versions(Engine=engine)["DBEngineVersions"]
        assert db["EngineVersion"] == offered["EngineVersion"]
        assert db["DBParameterGroups"][0]["DBParameterGroupName"] == f"default.{offered['DBParameterGroupFamily']}"
