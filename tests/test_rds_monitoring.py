"""What RDS says of its instances is what the engines and the operating system say, also when a server hangs or dies."""

import contextlib
import datetime
import json
import signal
import threading
import time

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from conftest import create, delete, in_sync, instance, sql, until
from moto.cloudwatch.models import CloudWatchBackend

from minicloud import cloudwatch
from minicloud.cloudwatch import judge

ROLE = "arn:aws:iam::123456789012:role/rds-monitoring-role"
METRICS = {"CPUUtilization", "DatabaseConnections", "FreeStorageSpace", "FreeableMemory", "ReadIOPS", "WriteIOPS"}
BOTH = ["postgres", "mysql"]
WRITES = {"postgres": "SELECT sum(writes) + sum(extends) FROM pg_stat_io",
          "mysql": "SELECT variable_value FROM information_schema.global_status "
                   "WHERE variable_name = 'INNODB_DATA_WRITES'"}


@pytest.fixture(scope="module")
def watched(rds):
    """A PostgreSQL instance with Performance Insights."""
    yield create(rds, "watched", "postgres", EnablePerformanceInsights=True, BackupRetentionPeriod=0)
    delete(rds, "watched")


@pytest.fixture(scope="module")
def cw(cloud):
    """A CloudWatch client of the cloud."""
    return boto3.client("cloudwatch")


def points(cw, metric: str, identifier: str, *, since: float = 0, stat: str = "Average") -> list[float]:
    """Return the values of a metric in the last minutes, or from a Unix time on, the oldest first."""
    now = time.time()
    query = {"Id": "q", "MetricStat": {"Period": cloudwatch.MINUTE, "Stat": stat, "Metric": {
        "Namespace": "AWS/RDS", "MetricName": metric,
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": identifier}]}}}
    found = cw.get_metric_data(MetricDataQueries=[query], StartTime=_time(max(since, now - 120)), EndTime=_time(now + 2),
                               ScanBy="TimestampAscending")
    return found["MetricDataResults"][0]["Values"]


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def put_alarm(cw, name: str, identifier: str, threshold: float, **options) -> None:
    """Set an alarm on the connections of an instance, with a period of AWS's minute."""
    cw.put_metric_alarm(**{
        "AlarmName": name, "Namespace": "AWS/RDS", "MetricName": "DatabaseConnections", "Statistic": "Average",
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": identifier}], "Period": 60, "EvaluationPeriods": 2,
        "Threshold": threshold, "ComparisonOperator": "GreaterThanThreshold"} | options)


def state(cw, name: str) -> str:
    """Return the state of an alarm."""
    return cw.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"]


# Metrics


@pytest.mark.parametrize("engine", BOTH)
def test_metrics_are_the_engines_own(rds, cw, engine):
    """Without being asked for, each engine has its metrics; they count connections, storage and writes as it does."""
    with instance(rds, name := f"own-{engine}", engine, BackupRetentionPeriod=0) as db, contextlib.ExitStack() as open_ones:
        until(lambda: METRICS <= {m["MetricName"] for m in cw.list_metrics(Namespace="AWS/RDS", Dimensions=[
            {"Name": "DBInstanceIdentifier", "Value": name}])["Metrics"]}, "the metrics are listed")
        for _ in range(7):
            open_ones.enter_context(contextlib.closing(sql(db)))
        until(lambda: points(cw, "DatabaseConnections", name)[-1] == 7, "seven connections are counted")
        sql(db, "CREATE TABLE big AS SELECT repeat('x', 100) AS fill")  # MariaDB fills an empty table in another way
        before, begin, free = sql(db, WRITES[engine])[0][0], time.time(), points(cw, "FreeStorageSpace", name)[-1]
        assert 0 < 20 * 2**30 - free < 500e6
        series = "generate_series(1, 300000)" if engine == "postgres" else "seq_1_to_300000"
        sql(db, f"INSERT INTO big SELECT repeat('x', 100) FROM {series}")
        written = until(lambda: int(sql(db, WRITES[engine])[0][0]) - int(before), "the engine has written")
        until(lambda: sum(points(cw, "WriteIOPS", name, since=begin)) > 0.8 * written, "the writes are in the metric")
        assert sum(points(cw, "WriteIOPS", name, since=begin)) < 2 * (int(sql(db, WRITES[engine])[0][0]) - int(before))
        until(lambda: points(cw, "FreeStorageSpace", name)[-1] < free - 30e6, "the table's room is missed", seconds=30)
        assert all(0 <= value <= 101 for value in points(cw, "CPUUtilization", name))


def test_metrics_follow_a_failover(cloud, rds, cw):
    """When the primary is killed, the metrics of the instance go on with those of the standby that took over."""
    with instance(rds, "double", "postgres", MultiAZ=True) as db:
        in_sync(cloud, "double")
        until(lambda: points(cw, "CPUUtilization", "double"), "there are rates")
        cloud.crash("double")
        killed = time.time()
        until(lambda: len(points(cw, "CPUUtilization", "double", since=killed + 1)) >= 2, "there are rates again")
        assert min(points(cw, "WriteIOPS", "double")) >= 0  # the counters began anew
        with contextlib.closing(sql(db)):
            until(lambda: points(cw, "DatabaseConnections", "double")[-1] == 1, "the new primary's clients are counted")


@pytest.mark.parametrize(("engine", "cut_off"), [("postgres", lambda lag: lag > 4), ("mysql", lambda lag: lag == -1)])
def test_replica_lag_is_seen_when_the_link_is_cut(cloud, rds, cw, engine, cut_off):
    """A replica out of touch grows older, second by second (MariaDB: says that it does not replicate); mended, it is
    young again."""
    follower = f"follower-{engine}"  # metrics outlive an instance
    with instance(rds, "origin", engine) as source:
        rds.create_db_instance_read_replica(DBInstanceIdentifier=follower, SourceDBInstanceIdentifier="origin")
        rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=follower)
        sql(source, "CREATE TABLE notes (said varchar(9))")
        until(lambda: 0 <= (points(cw, "ReplicaLag", follower) or [99])[-1] < 3, "the lag is small")
        assert not points(cw, "ReplicaLag", "origin")
        cloud.cut("origin", follower)
        sql(source, "INSERT INTO notes VALUES ('late')")
        until(lambda: cut_off(points(cw, "ReplicaLag", follower)[-1]), "the cut is seen")
        cloud.heal("origin", follower)
        until(lambda: 0 <= points(cw, "ReplicaLag", follower)[-1] < 3, "the replica has caught up")
        delete(rds, follower)


def test_a_hung_server_is_a_gap_and_holds_up_nobody(rds, cw, watched):
    """A server that hangs has no metrics; its alarm says INSUFFICIENT_DATA; the others' metrics come as ever."""
    with instance(rds, "hangs", "postgres", BackupRetentionPeriod=0) as db:
        put_alarm(cw, "hangs", "hangs", 99)
        until(lambda: state(cw, "hangs") == "OK", "the alarm has data")
        with contextlib.closing(sql(db)) as connection:
            main = psutil.Process(psutil.Process(connection.info.backend_pid).ppid())
            processes = [main, *main.children()]
            for process in processes:
                process.send_signal(signal.SIGSTOP)
            try:
                hung = time.time() + 1
                until(lambda: state(cw, "hangs") == "INSUFFICIENT_DATA", "silence is seen", seconds=15)
                assert not points(cw, "DatabaseConnections", "hangs", since=hung)
                assert len(points(cw, "DatabaseConnections", "watched", since=hung)) >= time.time() - hung - 2
            finally:
                for process in processes:
                    process.send_signal(signal.SIGCONT)
        until(lambda: state(cw, "hangs") == "OK", "the server answers again")


def test_old_data_points_are_dropped():
    """A metric keeps its newest data points, as many as GetMetricStatistics gives, however long the cloud runs."""
    series = cloudwatch.Metrics.add("eu-north-1", "Test", {"Name": "one"}, {})
    series.points.extend((float(n), {"Count": n}) for n in range(2 * cloudwatch.KEPT))
    try:
        cloudwatch.Metrics._asked.names = {"Count"}
        found = cloudwatch.Metrics.get_cloudwatch_metrics("123456789012", "eu-north-1")
        assert [len(found), found[-1].value] == [cloudwatch.KEPT, 2 * cloudwatch.KEPT - 1]
    finally:
        cloudwatch.Metrics._asked.names = None
        cloudwatch.Metrics.series.remove(series)


# Alarms

# "How alarm state is evaluated when data is missing": 0 in order, X breaching, - missing; the newest is the last.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
AWS_SAYS = [  # data points, M of 3, then the state by TreatMissingData: missing, ignore (None: as it was), …
    ("0 - X - X", 3, "OK", "OK", "OK", "OK"),
    ("- - - - 0", 3, "OK", "OK", "OK", "OK"),
    ("- - - - -", 3, "INSUFFICIENT_DATA", None, "ALARM", "OK"),
    ("0 X X - X", 3, "ALARM", "ALARM", "ALARM", "ALARM"),
    ("- - X - -", 3, "ALARM", None, "ALARM", "OK"),
    ("0 - X - X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0 0 X 0 X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0 - X - -", 2, "OK", "OK", "ALARM", "OK"),
    ("- - - - 0", 2, "OK", "OK", "ALARM", "OK"),
    ("- - - X -", 2, "ALARM", None, "ALARM", "OK"),
]


@pytest.mark.parametrize(("data", "needed", "missing", "ignore", "breaching", "not_breaching"), AWS_SAYS)
def test_missing_data_is_judged_as_awss_tables_say(data, needed, missing, ignore, breaching, not_breaching):
    """Each row of AWS's two tables of missing data gives the state that AWS writes."""
    slots = [{"0": False, "X": True, "-": None}[one] for one in data.split()]
    states = {"missing": missing, "ignore": ignore, "breaching": breaching, "notBreaching": not_breaching}
    assert {treat: judge(slots, 3, needed, treat) for treat in states} == states


@pytest.mark.parametrize("newest", [[True], [True, None]])
def test_one_young_breach_makes_no_alarm_yet(newest):
    """AWS, on premature transitions: "- - - - X" and "- - - X -" are not ALARM yet when three of three must breach."""
    assert judge([None] * (5 - len(newest)) + newest, 3, 3, "missing") != "ALARM"


@pytest.mark.parametrize(("statistic", "threshold", "states"), [
    ("Average", 5, "OK ALARM ALARM OK"), ("Minimum", 1, "OK ALARM ALARM OK"), ("Maximum", 9, "OK ALARM ALARM OK"),
    ("Sum", 10, "OK ALARM ALARM OK"), ("SampleCount", 2, "OK ALARM ALARM OK"), ("Average", 4, "ALARM ALARM OK OK")])
def test_a_statistic_is_compared_with_the_threshold(statistic, threshold, states):
    """Of a metric that a program puts, 1 and 9 in one period, each statistic is compared by each operator."""
    backend, now, found = CloudWatchBackend("us-east-1", "123456789012"), 1_700_000_000.0, []
    for value in (1, 9):
        backend.put_metric_data("Shop", [{"MetricName": "Wait", "Value": value, "Timestamp": _time(now - 1).replace(
            tzinfo=None)}])
    for comparison in ("GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanOrEqualToThreshold",
                       "LessThanThreshold"):
        alarm = backend.put_metric_alarm("a", "Shop", "Wait", comparison, 1, 60, threshold, statistic, "", [], [])
        cloudwatch.evaluate(alarm, backend, now + 0.5)
        found.append(alarm.state_value)
    assert found == states.split()


def test_an_alarm_goes_off_by_itself_and_back_and_tells_its_topic(cw, watched):
    """Connections over the threshold make ALARM, their end OK; each change is in the history and sent to SNS."""
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic, queue = sns.create_topic(Name="on-call")["TopicArn"], sqs.create_queue(QueueName="pager")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    put_alarm(cw, "crowd", "watched", 3, AlarmActions=[topic])
    assert state(cw, "crowd") == "INSUFFICIENT_DATA"
    until(lambda: state(cw, "crowd") == "OK", "the alarm is at rest")
    with contextlib.ExitStack() as open_ones:
        for _ in range(5):
            open_ones.enter_context(contextlib.closing(sql(watched)))
        until(lambda: state(cw, "crowd") == "ALARM", "the alarm goes off", seconds=15)
        assert "[5.0, 5.0] were greater than the threshold (3" in cw.describe_alarms(AlarmNames=["crowd"])[
            "MetricAlarms"][0]["StateReason"]
        put_alarm(cw, "crowd", "watched", 4, AlarmActions=[topic])
        assert state(cw, "crowd") == "ALARM"  # a changed alarm keeps its state
    until(lambda: state(cw, "crowd") == "OK", "the alarm is at rest again", seconds=15)
    history = cw.describe_alarm_history(AlarmName="crowd", ScanBy="TimestampAscending")["AlarmHistoryItems"]
    assert [item["HistorySummary"].removeprefix("Alarm updated from ") for item in history] == [
        "INSUFFICIENT_DATA to OK", "OK to ALARM", "ALARM to OK"]
    sent = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert [json.loads(json.loads(message["Body"])["Message"])["NewStateValue"] for message in sent] == ["ALARM"]


# Enhanced Monitoring


def test_enhanced_monitoring_lists_the_engines_processes(rds, watched):
    """MonitoringInterval puts the host's figures and the engine's processes into CloudWatch Logs; 0 ends it."""
    logs = boto3.client("logs")

    def records():
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            return [json.loads(event["message"]) for event in logs.get_log_events(
                logGroupName="RDSOSMetrics", logStreamName=watched["DbiResourceId"])["events"]]
        return []

    for wrong, said in (({"MonitoringInterval": 7, "MonitoringRoleArn": ROLE}, "Valid values: 0, 1, 5, 10, 15, 30, 60"),
                        ({"MonitoringInterval": 1}, "MonitoringRoleARN")):
        with pytest.raises(ClientError, match=said):
            rds.modify_db_instance(DBInstanceIdentifier="watched", **wrong)
    assert not records()
    with contextlib.closing(sql(watched)) as connection:
        db = rds.modify_db_instance(DBInstanceIdentifier="watched", MonitoringInterval=1, MonitoringRoleArn=ROLE,
                                    ApplyImmediately=True)["DBInstance"]
        assert db["EnhancedMonitoringResourceArn"].endswith(watched["DbiResourceId"])
        record = until(lambda: len(records()) >= 3 and records()[-1], "three records are there")
        pid = connection.info.backend_pid
        row = next(row for row in record["processList"] if row["id"] == pid)
        assert row["name"].startswith("postgres: shopadmin shop") and row["rss"] > 1000
        assert row["parentID"] == psutil.Process(pid).ppid()
    assert record["engine"] == "POSTGRES" and record["numVCPUs"] == psutil.cpu_count()
    assert 0 <= record["cpuUtilization"]["total"] <= 100
    until(lambda: rds.describe_db_instances(DBInstanceIdentifier="watched")["DBInstances"][0][
        "DBInstanceStatus"] == "available", "the modification is done")
    rds.modify_db_instance(DBInstanceIdentifier="watched", MonitoringInterval=0, ApplyImmediately=True)
    time.sleep(1.5)
    before = len(records())
    time.sleep(2.5)
    assert len(records()) == before


# Database load


def load(db: dict, group: str, since: float) -> dict:
    """Return the average load since a Unix time by the parts of a group, with the whole under None."""
    found = boto3.client("pi").get_resource_metrics(
        ServiceType="RDS", Identifier=db["DbiResourceId"], StartTime=_time(since), EndTime=_time(time.time() + 1),
        PeriodInSeconds=60, MetricQueries=[{"Metric": "db.load.avg", "GroupBy": {"Group": group}}])
    rows = {tuple(row["Key"].get("Dimensions", {}).values()) or None: row["DataPoints"] for row in found["MetricList"]}
    return {key: sum(point["Value"] for point in data) / max(1, len(data)) for key, data in rows.items()}


def test_database_load_names_statement_and_wait(watched):
    """Sessions that wait for a lock are the load, whole and by part, with the statement and the wait; idle ones are not."""
    sql(watched, "CREATE TABLE stock AS SELECT 1 AS pieces")
    buy = "UPDATE stock SET pieces = pieces - 1"
    with contextlib.ExitStack() as waiting, contextlib.closing(sql(watched)) as holder:
        holder.execute("BEGIN")
        holder.execute(buy)
        threads = [threading.Thread(target=sql, args=(watched, buy)) for _ in range(3)]
        for thread in threads:
            thread.start()
            waiting.callback(thread.join)
        until(lambda: sql(watched, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0] == 3,
              "three sessions wait")
        since = (time.time() // 60) * 60
        until(lambda: load(watched, "db.sql", since).get(None, 0) > 0.3, "the load is seen", seconds=70)
        by_wait, by_type = load(watched, "db.wait_event", since), load(watched, "db.wait_event_type", since)
        assert by_type[("Lock",)] > 0
        assert {key for key in by_wait if key and key[0] == "Lock"} <= {("Lock", "transactionid"), ("Lock", "tuple")}
        assert sum(value for key, value in by_wait.items() if key) == pytest.approx(by_wait[None])
        assert any(key and key[1] == buy for key in load(watched, "db.sql", since))
        holder.execute("ROLLBACK")


def test_load_is_told_of_those_only_who_asked_for_it(rds, watched):
    """Without EnablePerformanceInsights there is no load; Advanced mode needs it, and 465 days; the mode is recorded."""
    with instance(rds, "plain", "postgres", BackupRetentionPeriod=0) as db:
        time.sleep(2)
        with pytest.raises(ClientError, match="no Performance Insights data of 'db-"):
            load(db, "db.user", time.time() - 60)
        assert not db["PerformanceInsightsEnabled"]
    with pytest.raises(ClientError, match="at least 465"):
        rds.modify_db_instance(DBInstanceIdentifier="watched", DatabaseInsightsMode="advanced")
    changed = rds.modify_db_instance(DBInstanceIdentifier="watched", DatabaseInsightsMode="advanced", ApplyImmediately=True,
                                     EnablePerformanceInsights=True, PerformanceInsightsRetentionPeriod=465)["DBInstance"]
    assert (changed["DatabaseInsightsMode"], changed["PerformanceInsightsRetentionPeriod"]) == ("advanced", 465)
    until(lambda: rds.describe_db_instances(DBInstanceIdentifier="watched")["DBInstances"][0][
        "DBInstanceStatus"] == "available", "the modification is done")


def test_the_master_user_has_top_sql(watched):
    """The master user creates pg_stat_statements, which is loaded as on RDS, and finds its statements counted."""
    sql(watched, "CREATE EXTENSION pg_stat_statements")
    for n in range(3):
        sql(watched, f"SELECT {n} AS needle")
    assert sql(watched, "SELECT calls FROM pg_stat_statements WHERE query = 'SELECT $1 AS needle'") == [(3,)]
