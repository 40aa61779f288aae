"""Exercise 5: a strategy of backup and restore with an RPO and an RTO, and the drill that shows whether it works."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import boto3
import psycopg

from checks import Hint, Verdict, events, find

NAME, RESTORED, SNAPSHOT = "exercise-shop", "exercise-shop-restored", "exercise-shop-before"
DAYS, RPO, RTO = 14, 10, 120  # what Larkmoor demands; RPO and RTO in minutes
SHIPPED = 5  # minutes between two uploads of the transaction log, as AWS publishes it
NEAR = timedelta(seconds=2)  # how much before the drop the restore may end: its target is a whole second


def check(password):
    """Return the Verdict on the strategy and the drill; `password` is that of the master user on both instances."""
    return Verdict(_steps(password))


def _steps(password):
    rds = boto3.client("rds")
    db = find(
        rds, NAME, "Call create_db_instance with the engine postgres, and wait until it is available.", [RESTORED]
    )
    if db["Engine"] != "postgres":
        raise Hint(f"{NAME} runs {db['Engine']}. An instance keeps its engine: delete it, and create it with postgres.")
    _check_retention(db)
    yield f"{NAME} is available and keeps automated backups for {db['BackupRetentionPeriod']} days."
    rpo, rto = _stated(db)
    yield f"Its tags state an RPO of {rpo:g} minutes and an RTO of {rto:g} minutes."
    payments = _ask(
        db, password, "SELECT order_id, taken FROM payments", "Open the shop: run the cell with open_shop()."
    )
    taken = _snapshot(rds)
    yield f"The snapshot {SNAPSHOT} was taken at {taken:%H:%M:%S} UTC."
    dropped = _dropped(db, password, taken)
    yield f"The table orders was dropped at {dropped:%H:%M:%S.%f} UTC."
    restored = find(rds, RESTORED, "Restore it with restore_db_instance_to_point_in_time, and wait.", [NAME])
    back = _restored_from_log(rds, dropped)
    found = _orders(restored, password)
    yield f"{RESTORED} was made from the log and has {len(found):,} orders."
    _compare(payments, found, dropped)
    yield f"{len(payments) - len(found)} of {len(payments)} paid orders are gone, all from just before the drop."
    took = (back - dropped).total_seconds() / 60
    if took > rto:
        raise Hint(
            f"The restored instance was there {took:.2f} minutes after the drop, and the RTO that you stated is "
            f"{rto:g}. State one that you can keep (up to {RTO}), or repeat the drill and be faster."
        )
    yield f"It was there {took:.2f} minutes after the drop: within the RTO."


def _check_retention(db):
    days = db["BackupRetentionPeriod"]
    if not days:
        raise Hint(f"The automated backups of {NAME} are off. Call modify_db_instance with a BackupRetentionPeriod.")
    if days < DAYS:
        raise Hint(
            f"Backups are kept for {days} day{'s' * (days > 1)}, but a mistake must be undone up to {DAYS} days "
            "later. Raise BackupRetentionPeriod, with ApplyImmediately=True."
        )


def _stated(db):
    """Return the RPO and the RTO that the tags state, in minutes, or give the Hint for what is wrong with them."""
    tags = {tag["Key"]: tag["Value"] for tag in db["TagList"]}
    try:
        rpo, rto = float(tags["rpo-minutes"]), float(tags["rto-minutes"])
    except (KeyError, ValueError):
        raise Hint(
            f"{NAME} does not state its RPO and RTO. Give it the tags rpo-minutes and rto-minutes, both numbers, "
            "when you create it; or later, with add_tags_to_resource or in the console."
        ) from None
    if rpo < SHIPPED:
        raise Hint(
            f"An RPO of {rpo:g} minutes cannot be kept: RDS ships the log every {SHIPPED} minutes, and what is not "
            "shipped is lost with the instance. State what backups can keep."
        )
    if rpo > RPO or rto > RTO:
        raise Hint(
            f"Larkmoor bears a loss of {RPO} minutes and {RTO} minutes without the data. "
            f"You stated {rpo:g} and {rto:g}."
        )
    age = datetime.now(UTC) - db.get("LatestRestorableTime", datetime.min.replace(tzinfo=UTC))
    if age > timedelta(minutes=rpo):
        raise Hint(
            f"The log has not been shipped for {rpo:g} minutes: a loss now would break the RPO. A new instance needs "
            "some minutes. Look at LatestRestorableTime, and check again."
        )
    return rpo, rto


def _snapshot(rds):
    """Return when the manual snapshot was taken, or give a Hint."""
    for snapshot in rds.describe_db_snapshots(DBInstanceIdentifier=NAME, SnapshotType="manual")["DBSnapshots"]:
        if snapshot["DBSnapshotIdentifier"] == SNAPSHOT and snapshot["Status"] == "available":
            return snapshot["SnapshotCreateTime"]
    raise Hint(
        f"There is no manual snapshot {SNAPSHOT} of {NAME} that is available. "
        "Call create_db_snapshot, and wait with rds.get_waiter('db_snapshot_available')."
    )


def _dropped(db, password, snapshot_taken):
    ((dropped,),) = _ask(db, password, "SELECT dropped FROM accidents", "Nothing was dropped yet. Run accident().")
    if snapshot_taken > dropped:
        raise Hint(
            "The snapshot was taken after the drop, so it keeps a shop without orders. Delete it, and repeat the "
            "drill: open the shop, take the snapshot, have the accident."
        )
    return dropped


def _restored_from_log(rds, dropped):
    """Return when the restored instance was there, or give a Hint if it was not made from the log since the drop."""
    before = max([dropped, *events(rds, RESTORED, "deletion")])  # RDS also remembers instances that are gone
    times = [time for time in events(rds, RESTORED, "restoration", "from DB instance") if time > before]
    if not times:
        raise Hint(
            f"{RESTORED} was not made from the log of this drill. A snapshot knows nothing of what came after it. "
            "Delete it, and restore to a point in time."
        )
    return times[-1]


def _orders(restored, password):
    return _ask(
        restored,
        password,
        "SELECT order_id, taken FROM orders",
        f"{RESTORED} has no orders: it was restored to a time after the drop. Delete it, and choose an earlier one.",
    )


def _compare(payments, found, dropped):
    """Give a Hint if orders are missing that were paid more than two seconds before the drop, or never paid."""
    lost = {row for row in payments if row[1] < dropped - NEAR} - set(found)
    if lost:
        seconds = (dropped - min(taken for _, taken in lost)).total_seconds()
        raise Hint(
            f"{len(lost)} paid orders are missing, the oldest {seconds:.1f} s older than the drop. You restored to "
            "too early a time. Delete the restored instance, and restore to the second of the drop."
        )
    if set(found) - set(payments):
        raise Hint(f"{RESTORED} has orders that nobody paid: it is of another drill. Delete it, and restore again.")


def _ask(db, password, query, hint):
    """Return the rows that PostgreSQL has for a query; if the table is not there, give the hint."""
    try:
        with closing(
            psycopg.connect(
                host=db["Endpoint"]["Address"],
                port=db["Endpoint"]["Port"],
                dbname="shop",
                user=db["MasterUsername"],
                password=password,
                connect_timeout=10,
            )
        ) as connection:
            return connection.execute(query).fetchall()
    except psycopg.errors.UndefinedTable:
        raise Hint(hint) from None
    except psycopg.Error as error:
        raise Hint(f"PostgreSQL on {db['DBInstanceIdentifier']} answers: {str(error).strip()}") from None
