"""CloudWatch: the metrics that this cloud's services publish, and alarms that change state by themselves.

moto keeps what a program puts and answers every query; it asks `Metrics` here for what the services themselves measure.
The clock runs faster than on AWS: where AWS's services publish a data point each minute, ours do each second.
"""

import datetime
import json
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import moto.cloudwatch.urls
from moto.cloudwatch.models import Alarm, CloudWatchBackend, MetricDatum, Statistics, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.common_models import CloudWatchMetricProvider
from moto.core.responses import ActionResult

MINUTE = 1  # seconds here that stand for a minute of AWS's
KEPT = 1440  # data points of a metric, as many as GetMetricStatistics gives at once: a day of such minutes


class Series(NamedTuple):
    """The metrics of one resource: `points` are (Unix time, {metric name: value}), the oldest first."""

    region: str
    namespace: str
    dimensions: dict[str, str]
    units: dict[str, str]
    points: deque


class Metrics(CloudWatchMetricProvider):
    """What the services measure. (moto asks every subclass of CloudWatchMetricProvider for its metrics.)"""

    series: list[Series] = []
    _asked = threading.local()  # names: the metrics that this thread's request is about; None: all, the newest only

    @classmethod
    def add(cls, region: str, namespace: str, dimensions: dict[str, str], units: dict[str, str]) -> Series:
        """Return the series of a resource, to whose `points` its service appends; make it where there is none."""
        for series in cls.series:
            if series[:3] == (region, namespace, dimensions):
                return series
        series = Series(region, namespace, dimensions, units, deque(maxlen=KEPT))
        cls.series.append(series)
        return series

    @classmethod
    def get_cloudwatch_metrics(cls, account_id: str, region: str) -> list[MetricDatum]:
        """Return the data points in moto's form; only those that are asked for, as moto looks at each many times."""
        asked = getattr(cls._asked, "names", None)
        data = []
        for series in [s for s in cls.series if s.region == region]:
            dimensions = [{"Name": name, "Value": value} for name, value in series.dimensions.items()]
            points = list(series.points)
            newest = {name: (at, value) for at, values in points for name, value in values.items()}
            for name in newest.keys() if asked is None else newest.keys() & asked:
                found = [newest[name]] if asked is None else [(t, v[name]) for t, v in points if name in v]
                data += [MetricDatum(series.namespace, name, value, dimensions, _moto_time(at), series.units.get(name))
                         for at, value in found]
        return data


class Responses(CloudWatchResponse):
    """CloudWatch's operations, where moto's are slow with many data points, or not there."""

    def _about(self, names: Iterable[str] | None, operation) -> ActionResult:
        Metrics._asked.names = names if names is None else set(names)
        try:
            return operation()
        finally:
            Metrics._asked.names = None

    def get_metric_data(self) -> ActionResult:
        queries = self._get_params().get("MetricDataQueries", [])
        return self._about([query["MetricStat"]["Metric"]["MetricName"] for query in queries if "MetricStat" in query],
                           super().get_metric_data)

    def get_metric_statistics(self) -> ActionResult:
        return self._about([self._get_param("MetricName")], super().get_metric_statistics)

    def put_metric_alarm(self) -> ActionResult:
        name = self._get_param("AlarmName")
        before = self.cloudwatch_backend.alarms.get(name)
        answer = super().put_metric_alarm()
        alarm = self.cloudwatch_backend.alarms[name]
        alarm.state_value = "INSUFFICIENT_DATA"  # until the first evaluation; moto begins with OK
        if before:  # a changed alarm keeps its state and its history
            for attribute in ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp", "history"):
                setattr(alarm, attribute, getattr(before, attribute))
        return answer

    def describe_alarm_history(self) -> ActionResult:
        name, kind = self._get_param("AlarmName"), self._get_param("HistoryItemType")
        items = [{"AlarmName": alarm.name, "AlarmType": "MetricAlarm", "HistoryItemType": "StateUpdate",
                  "Timestamp": when, "HistorySummary": f"Alarm updated from {old} to {new}", "HistoryData": reason}
                 for alarm in self.cloudwatch_backend.alarms.values() if name in (None, alarm.name)
                 for old, new, reason, when in _changes(alarm) if kind in (None, "StateUpdate")]
        items.sort(key=lambda item: item["Timestamp"], reverse=self._get_param("ScanBy") != "TimestampAscending")
        return ActionResult({"AlarmHistoryItems": items[: self._get_param("MaxRecords") or 100]})


def _changes(alarm: Alarm) -> list[tuple[str, str, str, datetime.datetime]]:
    """Return the state changes of an alarm: from, to, why, when. moto's history holds what was before each change."""
    was = [(state, reason, when) for _, reason, _, state, when in alarm.history]
    now = (alarm.state_value, alarm.state_reason, alarm.state_updated_timestamp)
    return [(old[0], *new) for old, new in zip(was, [*was[1:], now], strict=True)]


# Alarms

COMPARISONS = {"GreaterThanThreshold": (operator.gt, "greater than"),
               "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
               "LessThanThreshold": (operator.lt, "less than"),
               "LessThanOrEqualToThreshold": (operator.le, "less than or equal to")}


def serve(record_failure: Callable[[], None]) -> None:
    """Put this module's operations in the place of moto's and begin to evaluate the alarms of all Regions.

    `record_failure` is called where an exception was caught.
    """
    moto.cloudwatch.urls.url_paths = {"{0}/$": Responses.dispatch}

    def tick():
        pause = threading.Event()
        while not pause.wait(MINUTE):
            for backend in list(cloudwatch_backends[DEFAULT_ACCOUNT_ID].values()):
                for alarm in list(backend.alarms.values()):
                    try:
                        evaluate(alarm, backend, time.time())
                    except Exception:
                        record_failure()

    threading.Thread(target=tick, daemon=True, name="alarms").start()


def evaluate(alarm: Alarm, backend: CloudWatchBackend, now: float) -> None:
    """Bring an alarm on one metric's Statistic to the state that its data points ask for, and act on a change.

    Its Period is in AWS's seconds: 60 of them pass in MINUTE. What is below 60 is taken for seconds of this clock.
    """
    if not (alarm.metric_name and alarm.statistic and alarm.comparison_operator in COMPARISONS):
        return  # a composite alarm, one on a percentile or on metric math: it keeps its state
    period = alarm.period if alarm.period < 60 else alarm.period / 60 * MINUTE
    values = _values(alarm, backend, period, now)
    breaches, _ = COMPARISONS[alarm.comparison_operator]
    slots = [None if value is None else breaches(value, alarm.threshold) for value in values]
    count, missing = alarm.evaluation_periods, alarm.treat_missing_data or "missing"
    state = judge(slots, count, alarm.datapoints_to_alarm or count, missing)
    if state in (None, alarm.state_value):
        return
    seen = [round(value, 3) for value in values if value is not None][-count:]
    before = alarm.state_value
    alarm.update_state(_reason(alarm, state, seen, missing), json.dumps({"recentDatapoints": seen}), state)
    _act(alarm, before)


def _reason(alarm: Alarm, state: str, seen: list[float], missing: str) -> str:
    """Return why an alarm goes into a state, given the values it saw."""
    count, (breaches, words) = alarm.evaluation_periods, COMPARISONS[alarm.comparison_operator]
    if state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {count} datapoints were unknown."
    if not seen:
        return (f"Threshold Crossed: no datapoints were received for {count} periods and {count} missing datapoints were "
                f"treated as [{missing}].")
    crossed = sum(breaches(value, alarm.threshold) for value in seen)
    return (f"Threshold Crossed: {crossed} out of the last {len(seen)} datapoints {seen} were {words} the threshold "
            f"({alarm.threshold}).")


def judge(slots: list[bool | None], count: int, needed: int, missing: str) -> str | None:
    """Return the state for the periods of the evaluation range (breaching or not, None: no data), or None to keep it.

    `needed` of `count` (AWS's M and N) breaching data points make an alarm, `missing` is TreatMissingData. The rules are
    those of https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    real = [slot for slot in slots if slot is not None][-count:]
    breaching, unknown = real.count(True), count - len(real)
    if breaching >= needed or missing == "breaching" and breaching + unknown >= needed:
        return "ALARM"
    if all(real) and missing in ("missing", "ignore"):
        if missing == "ignore":
            return None
        if not real:
            return "INSUFFICIENT_DATA"
        if len(slots) - slots.index(True) >= needed:  # AWS: old enough, and all that came later breaches or is missing
            return "ALARM"
    return "OK"


def _values(alarm: Alarm, backend: CloudWatchBackend, period: float, now: float) -> list[float | None]:
    """Return the alarm's statistic for each complete period of the evaluation range: two more than it evaluates."""
    length = alarm.evaluation_periods + 2
    begin = (now // period - length) * period
    Metrics._asked.names = {alarm.metric_name}
    periods = [Statistics([alarm.statistic], None) for _ in range(length)]
    for datum in backend.get_all_metrics():
        at = (datum.timestamp.replace(tzinfo=datetime.UTC).timestamp() - begin) // period
        if (0 <= at < length and datum.name == alarm.metric_name and datum.namespace == alarm.namespace
                and {(d.name, d.value) for d in datum.dimensions} == {(d.name, d.value) for d in alarm.dimensions}):
            periods[int(at)].metric_data.append(datum)
    return [one.get_statistics_for_type(alarm.statistic) if one.metric_data else None for one in periods]


def _moto_time(seconds: float) -> datetime.datetime:
    """Return a Unix time as moto has it: UTC, and not saying so."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)


def _act(alarm: Alarm, before: str) -> None:
    """Publish a change of state to the alarm's SNS topics, as JSON in AWS's form; other actions are not taken here."""
    from moto.sns.models import sns_backends  # imported when needed: the start of the cloud need not wait for it

    actions = {"ALARM": alarm.alarm_actions, "OK": alarm.ok_actions,
               "INSUFFICIENT_DATA": alarm.insufficient_data_actions}[alarm.state_value]
    message = {"AlarmName": alarm.name, "AlarmDescription": alarm.description, "AlarmArn": alarm.alarm_arn,
               "NewStateValue": alarm.state_value, "NewStateReason": alarm.state_reason, "OldStateValue": before,
               "StateChangeTime": f"{alarm.state_updated_timestamp:%Y-%m-%dT%H:%M:%S}.000+0000",
               "Region": alarm.region_name}
    for action in actions if alarm.actions_enabled else ():
        if action.split(":")[2] == "sns":
            topics = sns_backends[DEFAULT_ACCOUNT_ID][alarm.region_name]
            topics.publish(json.dumps(message), action, subject=f"{alarm.state_value}: {alarm.name}"[:100])
