"""What the tests share: a local cloud, and a DB instance in it that is there when its test begins and gone when it ends."""

import contextlib
import secrets
import time

import boto3
import psycopg
import pymysql
import pytest

from minicloud import local, rundir

PASSWORD = secrets.token_urlsafe(16)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    """After the last test, no process, run directory or shared memory of minicloud is left that was not there before."""
    before = set(rundir.leftovers())
    yield
    until(lambda: set(rundir.leftovers()) <= before, "nothing of minicloud is left; but there is "
          + ", ".join(set(rundir.leftovers()) - before), seconds=20)


@pytest.fixture(scope="module")
def cloud():
    """A local cloud for the tests of one module."""
    cloud = local.Cloud()
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def rds(cloud):
    """An RDS client of it."""
    return boto3.client("rds")


def create(rds, identifier: str, engine: str, **options) -> dict:
    """Create a DB instance, wait until it is available and return its description."""
    options = {"DBInstanceClass": "db.t4g.micro", "AllocatedStorage": 20, "DBName": "shop", "MasterUsername": "shopadmin",
               "MasterUserPassword": PASSWORD} | options
    rds.create_db_instance(DBInstanceIdentifier=identifier, Engine=engine, **options)
    return available(rds, identifier)


def available(rds, identifier: str) -> dict:
    """Wait until a DB instance is available and return its description."""
    rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=identifier)
    return rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]


@contextlib.contextmanager
def instance(rds, identifier: str, engine: str, **options):
    """A DB instance for the length of a `with` block."""
    try:
        yield create(rds, identifier, engine, **options)
    finally:
        with contextlib.suppress(rds.exceptions.DBInstanceNotFoundFault):
            delete(rds, identifier)


def delete(rds, identifier: str) -> None:
    """Delete a DB instance without a final snapshot and wait until it is gone."""
    until(lambda: rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]["DBInstanceStatus"]
          not in ("creating", "deleting"), "the instance can be deleted")
    rds.delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=identifier)


def sql(db: dict, statement: str | None = None, *, user: str = "shopadmin", password: str = PASSWORD):
    """Return the rows a statement gives on a described DB instance, or a new connection when there is no statement."""
    where = {"host": db["Endpoint"]["Address"], "port": db["Endpoint"]["Port"], "user": user, "password": password,
             "autocommit": True, "connect_timeout": 5}
    connection = psycopg.connect(dbname="shop", **where) if db["Engine"] == "postgres" else pymysql.connect(
        database="shop", **where)
    if statement is None:
        return connection
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def until(holds, what: str, seconds: float = 60):
    """Wait until `holds()` is true and return it; fail, saying `what` was waited for, after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s in vain until {what}")


def in_sync(cloud, identifier: str) -> None:
    """Wait until the standby of a Multi-AZ instance is in sync."""
    until(lambda: any(row["resource"] == identifier and row["state"] == "in sync" for row in cloud.resources()),
          f"the standby of {identifier} is in sync")
