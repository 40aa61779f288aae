"""What RDS measures of its DB instances: CloudWatch metrics, Enhanced Monitoring, database load.

Each server is asked once a second by a thread of its own, which holds no lock and may hang with the server without
holding up anything else. The figures are the engine's own and the operating system's, of the server's processes.
"""

import contextlib
import datetime
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import psutil
from moto.core import DEFAULT_ACCOUNT_ID
from moto.rds.models import DBInstance

from minicloud import cloudwatch
from minicloud.engines.engine import EngineFailed, Server, Statistics
from minicloud.rds.cluster import Member
from minicloud.rds.instance import Instance
from minicloud.rds.limits import refuse

INTERVALS = (0, 1, 5, 10, 15, 30, 60)  # what MonitoringInterval may be, in seconds
LOOK_AT_FILES = 10  # seconds between two looks at the size of a server's files
ENGINES = {"postgres": "POSTGRES", "mysql": "MYSQL", "mariadb": "MARIADB"}  # as Enhanced Monitoring writes them

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-metrics.html, and what the figures are here:
UNITS = {
    "CPUUtilization": "Percent",  # of all CPUs of this machine, by the server's processes
    "DatabaseConnections": "Count",  # of clients
    "FreeStorageSpace": "Bytes",  # the allocated storage less the server's files
    "FreeableMemory": "Bytes",  # available on this machine, which has one memory for all
    "ReadIOPS": "Count/Second",  # reads that the engine asks the operating system for: its memory may answer them
    "WriteIOPS": "Count/Second",  # likewise writes, with those of the log (PostgreSQL before 18: without)
    "ReadLatency": "Seconds",  # of such a read, on average since the last data point; PostgreSQL's only
    "WriteLatency": "Seconds",  # of such a write with its share of the fsyncs; PostgreSQL's only
    "ReplicaLag": "Seconds",  # of a read replica: the age of its data
    "AuroraReplicaLag": "Milliseconds",  # of a reader in a cluster
    "DBLoad": "None",  # sessions at work, where Performance Insights is enabled; PostgreSQL's only
    "DBLoadCPU": "None",  # those of them that wait for nothing
    "DBLoadNonCPU": "None",
}


class Monitored(NamedTuple):
    """A server to be watched: what it is called, which one it is now (None: none), what is to be told of it."""

    region: str
    identifier: str  # of the DB instance
    resource_id: str
    engine: str  # as the API calls it
    server: Server | None
    storage_gib: int | None  # None: a cluster's, which grows as needed
    is_replica: bool = False
    interval: int = 0  # of Enhanced Monitoring, in seconds; 0: off
    insights: bool = False  # whether its load is told


def of_instances(instances: dict[DBInstance, Instance]) -> Iterator[Monitored]:
    """Yield what is to be watched of the DB instances of the API."""
    for db, instance in list(instances.items()):
        yield _monitored(db, instance.primary, db.allocated_storage, is_replica=instance.source is not None)


def of_members(members: dict[DBInstance, Member]) -> Iterator[Monitored]:
    """Yield what is to be watched of the DB instances of clusters."""
    for db, member in list(members.items()):
        yield _monitored(db, member.server, None)


def _monitored(db: DBInstance, server: Server | None, storage_gib: int | None, **more) -> Monitored:
    return Monitored(db.region, db.db_instance_identifier, db.dbi_resource_id, db.engine, server, storage_gib,
                     interval=db.monitoring_interval, insights=getattr(db, "performance_insights_enabled", False), **more)


class Session(NamedTuple):
    """A session that was at work at the moment of a sample."""

    wait_type: str
    wait: str
    user: str
    statement: str


class Monitor:
    """Watches the servers that `targets` (asked each second) names; keeps their load for `insights`."""

    def __init__(self, targets: Callable[[], Iterable[Monitored]], record_failure: Callable[[], None]):
        self.targets, self.record_failure = targets, record_failure
        self.load: dict[str, deque[tuple[float, list[Session]]]] = {}  # by resource id: (time, sessions at work)
        self._watches: dict[tuple[str, str], _Watch] = {}
        threading.Thread(target=self._tick, daemon=True, name="rds-monitor").start()

    def _tick(self) -> None:
        pause = threading.Event()
        while not pause.wait(cloudwatch.MINUTE):
            try:
                targets = {(target.region, target.identifier): target for target in self.targets()}
            except Exception:
                self.record_failure()
                continue
            for key in self._watches.keys() - targets.keys():
                gone = self._watches.pop(key)
                gone.ended.set()
                self.load.pop(gone.target.resource_id, None)  # the metrics stay, as on AWS
            for key, target in targets.items():
                if key not in self._watches:
                    self._watches[key] = _Watch(self, target)
                    self._watches[key].start()
                self._watches[key].target = target


class _Watch(threading.Thread):
    """The thread that samples one DB instance, whichever server stands behind it."""

    def __init__(self, monitor: Monitor, target: Monitored):
        super().__init__(daemon=True, name=f"watch {target.identifier}")
        self.monitor, self.target, self.ended = monitor, target, threading.Event()
        self.server: Server | None = None
        self.before: tuple[float, float, Statistics] | None = None  # time, CPU seconds, statistics of the last sample
        self.processes: dict[int, psutil.Process] = {}
        self.machine, self.next_record = psutil.cpu_times(), 0.0
        self.file_bytes, self.next_look = 0, 0.0

    def run(self) -> None:
        due = time.monotonic()
        while not self.ended.wait(max(0, due - time.monotonic())):
            due = max(due + cloudwatch.MINUTE, time.monotonic())
            target = self.target
            if target.server is not self.server:
                self.server, self.before, self.processes, self.next_look = target.server, None, {}, 0
            if not (target.server and target.server.is_running):
                continue
            try:
                self.sample(target, target.server.statistics())
            except (EngineFailed, psutil.Error, AttributeError, OSError):
                self.before = None  # the server is going or gone: a gap in its metrics
            except Exception:
                self.monitor.record_failure()

    def sample(self, target: Monitored, said: Statistics) -> None:
        """Publish what a server has said of itself and what the operating system says of it."""
        now = time.time()
        cpu, before = self._cpu_seconds(said.processes), self.before
        self.before = (now, cpu, said)
        series = cloudwatch.Metrics.add(target.region, "AWS/RDS", {"DBInstanceIdentifier": target.identifier}, UNITS)
        values = self._levels(target, said)
        if before:
            values |= _rates(before, self.before)
        series.points.append((now, values))
        if target.insights:
            sessions = [Session(*session) for session in said.sessions]
            self.monitor.load.setdefault(target.resource_id, deque(maxlen=cloudwatch.KEPT)).append((now, sessions))
        if target.interval and now >= self.next_record:
            self.next_record = now + target.interval - 0.1
            _log_record(target, self._record(target))

    def _cpu_seconds(self, pids: list[int]) -> float:
        """Return the CPU seconds of the server's processes, and of those that have ended, which the first one knows."""
        known, self.processes, total = self.processes, {}, 0.0
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.processes[pid] = known.get(pid) or psutil.Process(pid)
                times = self.processes[pid].cpu_times()
                total += times.user + times.system + (times.children_user + times.children_system) * (pid == pids[0])
        return total

    def _levels(self, target: Monitored, said: Statistics) -> dict[str, float]:
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK_AT_FILES
            self.file_bytes = _size(str(target.server.node))
        values = {"DatabaseConnections": said.connections, "FreeableMemory": psutil.virtual_memory().available}
        if target.storage_gib:
            values["FreeStorageSpace"] = target.storage_gib * 2**30 - self.file_bytes
        if said.lag is not None and not target.storage_gib:
            values["AuroraReplicaLag"] = said.lag * 1000
        elif said.lag is not None and target.is_replica:
            values["ReplicaLag"] = said.lag
        if target.insights and said.sessions:  # AWS publishes these only while there is load
            on_cpu = sum(session[0] == "CPU" for session in said.sessions)
            values |= {"DBLoad": len(said.sessions), "DBLoadCPU": on_cpu, "DBLoadNonCPU": len(said.sessions) - on_cpu}
        return values

    def _record(self, target: Monitored) -> dict:
        """Return Enhanced Monitoring's record: CPU, memory, load of this machine, and the server's processes.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Monitoring-Available-OS-Metrics.html
        """
        before, self.machine = self.machine, psutil.cpu_times()
        spent = {name: now - then for name, now, then in zip(before._fields, self.machine, before, strict=True)}
        whole = sum(spent.values()) - spent.get("guest", 0) - spent.get("guest_nice", 0) or 1  # those are in user, nice
        cpu = {ours: round(100 * spent.get(theirs, 0) / whole, 2) for ours, theirs in (
            ("user", "user"), ("system", "system"), ("idle", "idle"), ("wait", "iowait"), ("nice", "nice"),
            ("irq", "softirq"), ("steal", "steal"), ("guest", "guest"))}
        memory, load = psutil.virtual_memory(), os.getloadavg()
        up = datetime.timedelta(seconds=int(time.time() - self.processes[target.server.process.pid].create_time()))
        return {
            "engine": ENGINES.get(target.engine, target.engine), "instanceID": target.identifier, "version": 1,
            "instanceResourceID": target.resource_id, "numVCPUs": psutil.cpu_count(), "uptime": str(up),
            "timestamp": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
            "cpuUtilization": cpu | {"total": round(100 - cpu["idle"], 2)},
            "loadAverageMinute": dict(zip(("one", "five", "fifteen"), load, strict=True)),
            "memory": {"total": memory.total // 1024, "free": memory.free // 1024,
                       "cached": getattr(memory, "cached", 0) // 1024, "active": getattr(memory, "active", 0) // 1024},
            "fileSys": [{"name": "rdsfilesys", "mountPoint": "/rdsdbdata", "used": self.file_bytes // 1024}],
            "processList": [row for row in map(_row, self.processes.values()) if row]}


def _row(process: psutil.Process) -> dict | None:
    """Return a row of Enhanced Monitoring's processList: memory in KiB, shares in percent; None: it has ended."""
    try:
        with process.oneshot():
            memory, title = process.memory_info(), process.cmdline()[:1]  # PostgreSQL's processes say there what they do
            return {"id": process.pid, "tgid": process.pid, "parentID": process.ppid(),
                    "name": title[0].strip() if title and ": " in title[0] else process.name(),
                    "cpuUsedPc": round(process.cpu_percent() / psutil.cpu_count(), 2),
                    "memoryUsedPc": round(process.memory_percent(), 2), "rss": memory.rss // 1024,
                    "vss": memory.vms // 1024}
    except psutil.Error:
        return None


def _rates(before: tuple[float, float, Statistics], now: tuple[float, float, Statistics]) -> dict[str, float]:
    """Return the metrics that are differences between two samples of the same server process."""
    seconds, (_, _, then), (_, _, said) = now[0] - before[0], before, now
    reads, writes = said.reads - then.reads, said.writes - then.writes
    values = {"CPUUtilization": max(0, 100 * (now[1] - before[1]) / seconds / psutil.cpu_count()),
              "ReadIOPS": reads / seconds, "WriteIOPS": writes / seconds}
    if said.read_seconds is not None:
        values["ReadLatency"] = (said.read_seconds - then.read_seconds) / reads if reads else 0
        values["WriteLatency"] = (said.write_seconds - then.write_seconds) / writes if writes else 0
    return values


def _size(directory: str) -> int:
    """Return the bytes of the files below a directory, some of which may go while they are counted."""
    total, left = 0, [directory]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            pass
    return total


# Enhanced Monitoring

GROUP = "RDSOSMetrics"


def check_monitoring(params: dict, db: DBInstance | None = None) -> None:
    """Refuse what RDS refuses of a request's monitoring parameters, given the record `db` that it would change."""
    interval, mode = params.get("MonitoringInterval"), params.get("DatabaseInsightsMode")
    if interval not in (None, *INTERVALS):
        refuse("InvalidParameterValue", f"Invalid value {interval} for MonitoringInterval. "
                                        f"Valid values: {', '.join(map(str, INTERVALS))}.")
    if interval and not (params.get("MonitoringRoleArn") or db and db.monitoring_role_arn):
        refuse("InvalidParameterCombination", "A MonitoringRoleARN value is required if you specify a MonitoringInterval "
                                              "value other than 0.")
    if mode not in (None, "standard", "advanced"):
        refuse("InvalidParameterValue", f"DatabaseInsightsMode {mode!r} is not valid: it is standard or advanced.")
    if mode == "advanced" and not (params.get("EnablePerformanceInsights")
                                   and params.get("PerformanceInsightsRetentionPeriod", 0) >= 465):
        refuse("InvalidParameterCombination", "To enable the Advanced mode of Database Insights, set "
               "EnablePerformanceInsights, and PerformanceInsightsRetentionPeriod to at least 465 days.")


class MonitoringParameters:
    """The part of the RDS API's operations that is about monitoring; to be inherited before moto's."""

    def create_db_instance(self):
        return self._with_monitoring(super().create_db_instance)

    def create_db_instance_read_replica(self):
        return self._with_monitoring(super().create_db_instance_read_replica)

    def restore_db_instance_from_db_snapshot(self):
        return self._with_monitoring(super().restore_db_instance_from_db_snapshot)

    def restore_db_instance_to_point_in_time(self):
        return self._with_monitoring(super().restore_db_instance_to_point_in_time)

    def modify_db_instance(self):
        db = self.backend.describe_db_instances(self.params["DBInstanceIdentifier"])[0]
        return self._with_monitoring(super().modify_db_instance, db)

    def _with_monitoring(self, operation, db=None):
        check_monitoring(self.params, db)
        answer = operation()
        for name, (attribute, default) in RECORDED.items():
            if name in self.params or db is None:
                setattr(answer.result["DBInstance"], attribute, self.params.get(name, default))
        return answer


# Parameters, the attribute of moto's record for each, and what a new DB instance has.
RECORDED = {"MonitoringInterval": ("monitoring_interval", 0), "MonitoringRoleArn": ("monitoring_role_arn", None),
            "EnablePerformanceInsights": ("performance_insights_enabled", False),
            "PerformanceInsightsRetentionPeriod": ("performance_insights_retention_period", None),
            "DatabaseInsightsMode": ("database_insights_mode", "standard")}

DBInstance.enhanced_monitoring_resource_arn = property(lambda db: (
    f"arn:aws:logs:{db.region}:{db.account_id}:log-group:{GROUP}:log-stream:{db.dbi_resource_id}"
    if db.monitoring_interval else None))


def _log_record(target: Monitored, record: dict) -> None:
    """Append a record to the instance's stream of the log group, and drop the oldest beyond an hour of them."""
    from moto.logs.models import logs_backends  # imported when needed: the start of the cloud need not wait for it

    backend = logs_backends[DEFAULT_ACCOUNT_ID][target.region]
    if GROUP not in backend.groups:
        backend.create_log_group(GROUP, tags={})
        backend.groups[GROUP].set_retention_policy(30)
    if target.resource_id not in backend.groups[GROUP].streams:
        backend.create_log_stream(GROUP, target.resource_id)
    event = {"timestamp": int(time.time() * 1000), "message": json.dumps(record)}
    backend.put_log_events(GROUP, target.resource_id, [event])
    events = backend.groups[GROUP].streams[target.resource_id].events
    del events[:-3600]
