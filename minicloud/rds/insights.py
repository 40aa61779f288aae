"""The API `pi` (Performance Insights): database load as average active sessions, of the samples that `monitoring` keeps.

CloudWatch Database Insights draws its pictures from the same samples. Of the API there is GetResourceMetrics, with the
metrics db.load.avg and db.load.max.
"""

import hashlib
from collections import Counter, defaultdict
from typing import ClassVar

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse

from minicloud.rds.monitoring import Monitor, Session

PERIODS = (1, 60, 300, 3600, 86400)
STATISTICS = {"db.load.avg": lambda counts: sum(counts) / len(counts), "db.load.max": max}

# What load can be divided by, and the dimensions of each part.
GROUPS = {
    "db.wait_event": lambda s: {"db.wait_event.type": s.wait_type, "db.wait_event.name": s.wait},
    "db.wait_event_type": lambda s: {"db.wait_event_type.name": s.wait_type},
    "db.user": lambda s: {"db.user.name": s.user},
    "db.sql": lambda s: {"db.sql.id": hashlib.sha1(s.statement.encode()).hexdigest().upper(),
                         "db.sql.statement": s.statement},
}


class InvalidArgumentException(ServiceException):
    """A request that cannot be answered; the message says what is expected."""

    code = "InvalidArgumentException"


class Responses(BaseResponse):
    """The operations of `pi`."""

    monitor: ClassVar[Monitor]

    def __init__(self):
        super().__init__(service_name="pi")
        self.automated_parameter_parsing = True

    def get_resource_metrics(self) -> ActionResult:
        params = self._get_params()
        identifier, period = params["Identifier"], params.get("PeriodInSeconds", 60)
        if identifier not in self.monitor.load:
            raise InvalidArgumentException(
                f"There is no Performance Insights data of {identifier!r}: expected the DbiResourceId of a PostgreSQL "
                "DB instance with Performance Insights enabled.")
        if period not in PERIODS:
            raise InvalidArgumentException(f"PeriodInSeconds {period} is not valid: one of {PERIODS}.")
        start, end = (params[name].timestamp() // period * period for name in ("StartTime", "EndTime"))
        periods = defaultdict(list)
        for time, sessions in list(self.monitor.load[identifier]):
            if start <= time < end:
                periods[time // period * period].append(sessions)
        return ActionResult({"Identifier": identifier, "AlignedStartTime": start, "AlignedEndTime": end,
                             "MetricList": [row for query in params["MetricQueries"] for row in _rows(query, periods)]})


def _rows(query: dict, periods: dict[float, list[list[Session]]]) -> list[dict]:
    """Return the load as a whole, then its parts, the greatest first: a data point for each period."""
    if query["Metric"] not in STATISTICS:
        raise InvalidArgumentException(f"minicloud has no metric {query['Metric']}, only {', '.join(STATISTICS)}.")
    statistic, by = STATISTICS[query["Metric"]], query.get("GroupBy", {})

    def row(counts_of, dimensions=None):
        points = [{"Timestamp": time, "Value": statistic([counts_of(sessions) for sessions in samples])}
                  for time, samples in sorted(periods.items())]
        return {"Key": {"Metric": query["Metric"]} | ({"Dimensions": dimensions} if dimensions else {}),
                "DataPoints": points}

    rows = [row(len)]
    if by:
        if by["Group"] not in GROUPS:
            raise InvalidArgumentException(f"minicloud has no group {by['Group']}, only {', '.join(GROUPS)}.")
        key = GROUPS[by["Group"]]
        parts = Counter(tuple(key(session).items()) for samples in periods.values() for one in samples for session in one)
        for part, _ in parts.most_common(by.get("Limit", 10)):
            rows.append(row(lambda sessions, part=part: sum(tuple(key(s).items()) == part for s in sessions), dict(part)))
    return rows
