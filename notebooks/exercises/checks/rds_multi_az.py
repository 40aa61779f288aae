"""Exercise 1: an RDS for MySQL instance, created on one server, made Multi-AZ, and failed over with all its data."""

from contextlib import closing
from datetime import UTC

import boto3
import pymysql

from checks import Hint, Verdict, events, find
from datasets import load

NAME = "exercise-mysql"
TABLE = "orders (order_id int PRIMARY KEY, total_cents int, loaded_at timestamp DEFAULT CURRENT_TIMESTAMP)"


def check(password):
    """Return the Verdict on the DB instance `exercise-mysql`, whose master user has this password."""
    return Verdict(_steps(password))


def _steps(password):
    rds = boto3.client("rds")
    db = find(rds, NAME, "Call create_db_instance with the engine mysql, and wait until it is available.")
    if db["Engine"] != "mysql":
        raise Hint(f"{NAME} runs {db['Engine']}. An instance keeps its engine: delete it, and create it with mysql.")
    yield f"{NAME} is available and runs {db['Engine']} {db['EngineVersion']}."
    loaded = _loaded(db, password)
    yield "MySQL has every order of Larkmoor, in an InnoDB table."
    converted = _converted(rds, db)
    yield f"A standby was added to the running instance at {converted:%H:%M:%S} UTC."
    failed_over = _failed_over(rds, converted)
    yield f"The standby took over at {failed_over:%H:%M:%S} UTC; the primary is in {db['AvailabilityZone']} now."
    if loaded > failed_over:
        raise Hint("The orders were loaded after the last failover, so they have not been through one. Force another.")
    yield f"The orders were loaded before it, at {loaded:%H:%M:%S} UTC, and all are there: nothing was lost."


def _loaded(db, password):
    """Return when the last order was loaded, by MySQL's clock, or give the Hint for what is wrong with the table."""
    expected = set(load("orders")[["order_id", "total_cents"]].itertuples(index=False, name=None))
    kept_by, rows = _ask(db, password)
    if kept_by != "InnoDB":
        raise Hint(
            f"The table orders is kept by the storage engine {kept_by}, whose data may not survive a "
            "failover. Create it with ENGINE = InnoDB, or leave ENGINE out."
        )
    if not rows:
        raise Hint("The table orders is empty. Insert Larkmoor's orders, and commit them.")
    missing, extra = expected - {row[:2] for row in rows}, {row[:2] for row in rows} - expected
    if missing or extra:
        raise Hint(
            f"Of Larkmoor's {len(expected):,} orders {len(missing):,} are missing in the table, and {len(extra):,} "
            "rows are not among them. Empty the table, and load all orders as they are."
        )
    return max(row[2] for row in rows).replace(tzinfo=UTC)


def _ask(db, password):
    """Return the storage engine of the table `orders` and its rows, or the Hint that goes with MySQL's refusal."""
    try:
        with closing(
            pymysql.connect(
                host=db["Endpoint"]["Address"],
                port=db["Endpoint"]["Port"],
                user=db["MasterUsername"],
                password=password,
                database="shop",
                connect_timeout=10,
                init_command="SET time_zone = '+00:00'",
            )
        ) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT order_id, total_cents, loaded_at FROM orders")
            rows = cursor.fetchall()
            cursor.execute(
                "SELECT engine FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 'orders'"
            )
            return cursor.fetchone()[0], rows
    except pymysql.MySQLError as error:
        raise Hint(
            f"MySQL answers: {error.args[-1]}. In the database shop there should be the table {TABLE}."
        ) from None


def _converted(rds, db):
    """Return when the standby was added, or give the Hint for why there is none."""
    if db["PendingModifiedValues"].get("MultiAZ"):
        raise Hint(
            "Multi-AZ is asked for, but waits for the maintenance window, "
            f"{db['PreferredMaintenanceWindow']}. Ask again with ApplyImmediately=True."
        )
    if not db["MultiAZ"]:
        raise Hint(f"{NAME} runs in one zone only. Call modify_db_instance with MultiAZ=True.")
    times = [time for time in events(rds, NAME, "configuration change", "multi-az") if time > db["InstanceCreateTime"]]
    if not times:
        raise Hint(
            f"{NAME} has been Multi-AZ from the start. The exercise is to add the standby to an instance that runs: "
            "call modify_db_instance with MultiAZ=False, and then with MultiAZ=True, each with ApplyImmediately."
        )
    return times[-1]


def _failed_over(rds, converted):
    """Return when the last failover was completed, or give the Hint for why there was none since `converted`."""
    times = events(rds, NAME, "failover", "complete")
    if times and times[-1] > converted:
        return times[-1]
    if [time for time in events(rds, NAME, "availability", "restart") if time > converted]:
        raise Hint(
            f"{NAME} was restarted in its place: the standby had nothing to do. "
            "Call reboot_db_instance with ForceFailover=True."
        )
    raise Hint(
        "The standby has not been tried. Make it take over, and wait until the event of the failover is there: "
        "on AWS that can be a minute later."
    )
