"""The exercises: made from their solutions, which pass, and wrong answers, which get the hint that fits them."""

import contextlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import nbformat
import psycopg
import pytest
from bs4 import BeautifulSoup
from conftest import PASSWORD, available, delete, instance, sql, until

from checks import Hint, rds_backup_drill, rds_multi_az
from datasets import load
from tools import exercises

SOLUTIONS = exercises.solutions()
BUILT = Path(__file__).resolve().parents[1] / "_build" / "html" / "notebooks" / "exercises"
NOW = {"ApplyImmediately": True}


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_exercise_is_the_solution_without_its_answers(path):
    """A committed exercise is what `make exercises` writes, and holds no mark, no answer and no solution's cell."""
    made, committed = exercises.exercise(path), exercises.exercise_path(path)
    assert nbformat.read(committed, as_version=4) == made, "Run `make exercises`, and commit what it wrote."
    text = nbformat.writes(made)
    assert (
        text.count("# Your code here") == nbformat.writes(nbformat.read(path, as_version=4)).count("BEGIN SOLUTION") > 0
    )
    assert "SOLUTION" not in text and "solved" not in text and "verdict.passed" not in text


def test_the_book_runs_every_solution_and_no_exercise():
    """Each solution's page shows that the check passed; its exercise's page shows code and no output."""
    for path in SOLUTIONS:
        assert page(path).select_one(".check.passed"), path.stem
        exercise = page(exercises.exercise_path(path))
        assert exercise.select(".cell_input") and not exercise.select(".cell_output"), path.stem


def page(notebook):
    """Return the built page of a notebook."""
    path = BUILT / f"{notebook.stem}.html"
    if not path.exists():
        pytest.fail(f"There is no {path.name} in _build/html: run `make book` first.", pytrace=False)
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def judge(check, answers):
    """See that each of the `answers`, given one after the other, gets its own hint; where none is named, it passes."""
    hints = set()
    with contextlib.closing(answers):  # also when one is judged wrongly, its instances go
        for expected in answers:
            verdict = check(PASSWORD)
            assert verdict.passed if expected is None else expected in verdict.hint, f"expected {expected!r}\n{verdict}"
            assert verdict.hint not in hints
            hints.add(verdict.hint)
    assert len(hints) > 6


def test_multi_az_answers(rds):
    """Fifteen wrong answers to exercise 1 get fifteen different hints, and the right one passes."""
    judge(rds_multi_az.check, multi_az_answers(rds))


def multi_az_answers(rds):
    """Give answers to exercise 1; yield the words of the hint that each deserves, or None."""
    name = rds_multi_az.NAME
    yield "There is no DB instance exercise-mysql yet"
    with instance(rds, "my-exercise", "mysql"):
        yield "There is my-exercise, but nothing with the identifier exercise-mysql"
    with instance(rds, name, "mariadb"):
        yield "runs mariadb"
    yield "was deleted"
    with instance(rds, name, "mysql", MultiAZ=True) as db:
        load_orders(db)
        yield "Multi-AZ from the start"
    with instance(rds, name, "mysql", BackupRetentionPeriod=0) as db:
        yield "Table 'shop.orders' doesn't exist"
        sql(db, f"CREATE TABLE {rds_multi_az.TABLE} ENGINE=MEMORY")
        yield "storage engine MEMORY"
        sql(db, "ALTER TABLE orders ENGINE=InnoDB")
        yield "is empty"
        load_orders(db, but=100)
        yield "100 are missing"
        load_orders(db)
        yield "in one zone only"
        rds.modify_db_instance(DBInstanceIdentifier=name, MultiAZ=True)
        yield "waits for the maintenance window"
        rds.modify_db_instance(DBInstanceIdentifier=name, MultiAZ=True, **NOW)
        yield "is modifying"
        available(rds, name)
        yield "has not been tried"
        rds.reboot_db_instance(DBInstanceIdentifier=name)
        available(rds, name)
        yield "restarted in its place"
        rds.reboot_db_instance(DBInstanceIdentifier=name, ForceFailover=True)
        available(rds, name)
        yield None
        time.sleep(1)  # the next second, as MySQL's timestamp counts
        load_orders(db)
        yield "loaded after the last failover"


def load_orders(db, but=0):
    """Fill the table `orders` anew, with all of Larkmoor's orders but the last few."""
    rows = load("orders")[["order_id", "total_cents"]].values.tolist()
    sql(db, f"CREATE TABLE IF NOT EXISTS {rds_multi_az.TABLE}")
    sql(db, "DELETE FROM orders")
    values = ", ".join(f"({order_id}, {cents})" for order_id, cents in rows[: len(rows) - but])
    sql(db, f"INSERT INTO orders (order_id, total_cents) VALUES {values}")


def test_backup_drill_answers(rds):
    """Sixteen wrong answers to exercise 5 get sixteen different hints, and the right one passes."""
    judge(rds_backup_drill.check, backup_drill_answers(rds))


def backup_drill_answers(rds):
    """Give answers to exercise 5; yield the words of the hint that each deserves, or None."""
    name = rds_backup_drill.NAME
    given = Given(rds)
    yield "There is no DB instance exercise-shop yet"
    with instance(rds, name, "postgres", MasterUsername="larkmoor", BackupRetentionPeriod=0) as db:
        yield "are off"
        for days, words in ((1, "kept for 1 day,"), (14, "does not state")):
            rds.modify_db_instance(DBInstanceIdentifier=name, BackupRetentionPeriod=days, **NOW)
            available(rds, name)
            yield words
        for rpo, rto, words in ((1, 60, "cannot be kept"), (60, 60, "bears a loss"), (5, 0.001, "Open the shop")):
            state(rds, db, rpo, rto)
            yield words
        given.run("def open_shop")
        yield "no manual snapshot"
        given.query(name, "CREATE TABLE accidents AS SELECT clock_timestamp() AS dropped")
        snapshot(rds)
        yield "taken after the drop"
        rds.delete_db_snapshot(DBSnapshotIdentifier=rds_backup_drill.SNAPSHOT)
        given.run("def open_shop")
        snapshot(rds)
        yield "Nothing was dropped yet"
        given.run("def accident")
        ((dropped,),) = given.query(name, "SELECT dropped FROM accidents")
        yield "Restore it with"
        with restored(rds, dropped + timedelta(seconds=1)):
            yield "a time after the drop"
        with restored(rds):
            yield "not made from the log"
        with restored(rds, dropped - timedelta(seconds=5)):
            yield "too early a time"
        with restored(rds, dropped):
            yield "the RTO that you stated"
            state(rds, db, 5, 60)
            yield None
            delete(rds, name)
            yield "exercise-shop was deleted"


class Given:
    """The cells of the exercise that the learner finds written, by a piece of their code; and their names."""

    def __init__(self, rds):
        self.names = {"rds": rds, "password": PASSWORD, "psycopg": psycopg, "time": time}
        path = next(path for path in SOLUTIONS if "backup-drill" in path.name)
        self.cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]

    def run(self, piece):
        """Run the cell that holds this piece of code."""
        (cell,) = (cell for cell in self.cells if piece in cell)
        exec(cell, self.names)

    def query(self, name, statement):
        """Return the rows that a statement gives on a DB instance."""
        return self.names["query"](name, statement)


def state(rds, db, rpo, rto):
    """Tag a DB instance with an RPO and an RTO in minutes."""
    tags = [{"Key": "rpo-minutes", "Value": str(rpo)}, {"Key": "rto-minutes", "Value": str(rto)}]
    rds.add_tags_to_resource(ResourceName=db["DBInstanceArn"], Tags=tags)


def snapshot(rds):
    """Take the exercise's snapshot and wait for it."""
    name = rds_backup_drill.SNAPSHOT
    rds.create_db_snapshot(DBInstanceIdentifier=rds_backup_drill.NAME, DBSnapshotIdentifier=name)
    rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier=name)
    available(rds, rds_backup_drill.NAME)


@contextlib.contextmanager
def restored(rds, moment=None):
    """The restored instance, of a moment (in whole seconds, as RDS takes it) or of the snapshot, for a `with` block."""
    name = rds_backup_drill.RESTORED
    if moment is None:
        rds.restore_db_instance_from_db_snapshot(
            DBInstanceIdentifier=name, DBSnapshotIdentifier=rds_backup_drill.SNAPSHOT
        )
    else:
        moment = moment.replace(microsecond=0)
        until(lambda: available(rds, rds_backup_drill.NAME)["LatestRestorableTime"] >= moment, "the log reaches so far")
        rds.restore_db_instance_to_point_in_time(
            SourceDBInstanceIdentifier=rds_backup_drill.NAME, TargetDBInstanceIdentifier=name, RestoreTime=moment
        )
    available(rds, name)
    try:
        yield
    finally:
        delete(rds, name)


def test_an_rpo_is_kept_only_by_a_log_that_is_shipped():
    """An instance whose log has not been shipped for longer than the stated RPO is rejected."""
    tags = [{"Key": "rpo-minutes", "Value": "10"}, {"Key": "rto-minutes", "Value": "60"}]
    times = (datetime.now(UTC) - timedelta(minutes=minutes) for minutes in (11, 9))
    late, in_time = ({"TagList": tags, "LatestRestorableTime": time} for time in times)
    assert rds_backup_drill._stated(in_time) == (10, 60)
    with pytest.raises(Hint, match="not been shipped for 10 minutes"):
        rds_backup_drill._stated(late)


def test_a_check_says_what_it_lacks(rds, monkeypatch):
    """Without the right password, or without a cloud, a check gives a hint and no traceback."""
    with instance(rds, rds_multi_az.NAME, "mysql"):
        assert "Access denied" in rds_multi_az.check("not the password").hint
    with instance(rds, rds_backup_drill.NAME, "postgres", BackupRetentionPeriod=14) as db:
        state(rds, db, 5, 60)
        assert "password authentication failed" in rds_backup_drill.check("not the password").hint
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    assert "Run the cell with connect() first." in rds_multi_az.check(PASSWORD).hint
