"""Prices: what a call on the reader's own AWS account would cost, and the bill so far.

The figures are in prices.yml, with sources and date. Here are the rules that turn a request into dollars per hour. They
look up on AWS what the request leaves out (a replica has the class of its source) and estimate high where AWS's bill
depends on what is not known yet: a snapshot counts as full, an instance as publicly reachable unless it says not.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import yaml

from minicloud.live_kinds import described

PRICES = yaml.safe_load(Path(__file__).with_name("prices.yml").read_text(encoding="utf-8"))
CREATES = ("Create", "Restore", "Copy", "Put")  # how AWS names the operations that make something new


def db_instance_hour(name, gigabytes):
    """Return the dollars per hour of one DB instance of class `name` with gp3 storage and a public IPv4 address."""
    price = PRICES["services"]["rds"]
    storage = gigabytes * price["storage_gb_month"]["gp3"] / PRICES["hours_per_month"]
    return price["class_hour"][name] + storage + PRICES["public_ipv4_hour"]


class Refused(RuntimeError):
    """What live mode does not do: a sentence with what was wrong and what to do. IPython shows only the sentence."""

    def _render_traceback_(self):
        return [f"Refused: {self}"]


@dataclass
class Cost:
    """What one call would cost: `hour` dollars per hour from now on for the resource `key`, and `once` dollars now."""

    key: tuple[str, str, str]  # Region, kind (see KINDS), name
    hour: float
    words: str
    once: float = 0.0
    force: dict = field(default_factory=dict)  # parameters that live mode sets where the operation has them


def dollars(amount):
    """Return an amount of US dollars as text: cents for sums, more digits for what is less than a dollar."""
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def priced(table, name, what):
    """Return `table[name]`, the price of `name`; refuse a name that has none."""
    if name not in table:
        raise Refused(
            f"There is no price for the {what} {name!r}, so it is refused. Use one of {', '.join(table)}, "
            "or add its price with source and date to minicloud/prices.yml."
        )
    return table[name]


def source_of(client, region, operation, params):
    """Return the description of what a DB instance is made from, which fills what the request leaves out."""
    if operation in ("ModifyDBInstance", "StartDBInstance"):
        return described(client, region, params["DBInstanceIdentifier"], "db")
    if operation == "CreateDBInstance":
        return {}
    if "DBSnapshotIdentifier" in params:
        source = described(client, region, params["DBSnapshotIdentifier"], "snapshot")
        if "DBInstanceClass" not in params:  # AWS takes the class of the original: known only while that exists
            for page in client("rds", source["region"]).get_paginator("describe_db_instances").paginate():
                for db in page["DBInstances"]:
                    if db["DBInstanceIdentifier"] == source["DBInstanceIdentifier"]:
                        source["DBInstanceClass"] = db["DBInstanceClass"]
    elif "SourceDBInstanceIdentifier" in params:
        source = described(client, region, params["SourceDBInstanceIdentifier"], "db")
    else:
        raise Refused(f"{operation} names no source DB instance or snapshot, so its price is not known. Name one.")
    return {k: v for k, v in source.items() if k != "MultiAZ"}  # AWS's default for a copy is Single-AZ


def db_instance(price, client, region, operation, params):
    """Return the cost of a DB instance as `operation` leaves it: class, storage and address, doubled by Multi-AZ."""
    want = {**source_of(client, region, operation, params), **params}
    if str(want.get("Engine")).startswith("aurora"):
        return aurora_instance(price["aurora"], client, region, want)
    names = ("NewDBInstanceIdentifier", "TargetDBInstanceIdentifier", "DBInstanceIdentifier")
    name = next(want[member] for member in names if member in want)
    if want.get("Engine") not in price["engines"]:
        engines = ", ".join(price["engines"])
        raise Refused(f"There is no price for the engine {want.get('Engine')!r}. Use one of {engines}.")
    if not want.get("AllocatedStorage"):
        raise Refused(f"{operation} says no AllocatedStorage, so it has no price. Give it in GiB.")
    size = max(want["AllocatedStorage"], want.get("MaxAllocatedStorage") or 0)  # storage autoscaling may use all of it
    kind, copies = want.get("StorageType") or "gp3", 2 if want.get("MultiAZ") else 1
    compute = priced(price["class_hour"], want.get("DBInstanceClass"), "DB instance class")
    storage = size * priced(price["storage_gb_month"], kind, "storage type") / PRICES["hours_per_month"]
    address = PRICES["public_ipv4_hour"] if want.get("PubliclyAccessible", True) else 0
    words = f"{want['DBInstanceClass']} {dollars(compute)}, {size} GB {kind} {dollars(storage)}"
    words += f", public IPv4 address {dollars(address)}" if address else ""
    if want.get("ManageMasterUserPassword") or want.get("MasterUserSecret"):
        address += managed_secret()
        words += f", its secret {dollars(managed_secret())}"
    force = {"CopyTagsToSnapshot": True}  # so that its snapshots, the final one too, can be found by tag
    if want["Engine"] != "mariadb":  # MariaDB has no Extended Support
        force["EngineLifecycleSupport"] = price["free_only_at"]["EngineLifecycleSupport"]
    return Cost(
        (region, "db", name),
        copies * (compute + storage + address),
        words + ("; all twice for Multi-AZ" if copies == 2 else ""),
        force=force if operation.startswith(CREATES) else {},
    )


def managed_secret():
    """Return the dollars per hour of a secret that RDS keeps for a master user."""
    return PRICES["services"]["secretsmanager"]["secret_month"] / PRICES["hours_per_month"]


def green(price, client, region, operation, params):
    """Return the cost of a blue/green deployment: the green instance, like the blue one but for its class."""
    if ":db:" not in params["Source"]:
        raise Refused("Live mode knows blue/green deployments of DB instances only. Give the ARN of one as Source.")
    want = described(client, region, params["Source"], "db")
    want["DBInstanceClass"] = params.get("TargetDBInstanceClass", want["DBInstanceClass"])
    # the name of the blue one after the switchover, when it is the one to be deleted
    want["DBInstanceIdentifier"] += "-old1"
    cost = db_instance(price, client, region, "CreateDBInstance", want)
    return Cost(cost.key, cost.hour, f"the green instance: {cost.words}")


def switchover(price, client, region, operation, params):
    """Return the cost of the green instance under the name that it takes over from the blue one."""
    made = described(client, region, params["BlueGreenDeploymentIdentifier"], "deployment")
    want = described(client, region, made["Target"], "db") | {"DBInstanceIdentifier": made["Source"].split(":")[-1]}
    return db_instance(price, client, region, "CreateDBInstance", want)


def aurora_instance(aurora, client, region, want):
    """Return the cost of an instance in a DB cluster; a serverless one counts at its maximum, in the cluster's cost."""
    if "DBClusterIdentifier" not in want:
        raise Refused(f"An instance of {want['Engine']} is in a DB cluster. Name it: DBClusterIdentifier.")
    name = want.get("NewDBInstanceIdentifier") or want["DBInstanceIdentifier"]
    if want.get("DBInstanceClass") == "db.serverless":
        cluster = described(client, region, want["DBClusterIdentifier"], "cluster")
        return aurora_cluster(aurora, client, region, cluster, {name})
    compute = priced(aurora["class_hour"], want.get("DBInstanceClass"), "Aurora instance class")
    address = PRICES["public_ipv4_hour"] if want.get("PubliclyAccessible", True) else 0
    words = f"{want['DBInstanceClass']} {dollars(compute)}"
    words += f", public IPv4 address {dollars(address)}" if address else ""
    return Cost((region, "db", name), compute + address, words)


def aurora_cluster(aurora, client, region, want, joining=frozenset()):
    """Return the cost of a DB cluster: its volume, I/O and serverless instances, those of names `joining` included."""
    if want.get("StorageType") == "aurora-iopt1":
        raise Refused("There is no price for I/O-Optimized storage. Leave StorageType out.")
    size, requests = aurora["assumed_gb"], aurora["assumed_million_io_hour"]
    requests *= 2 if want.get("GlobalClusterIdentifier") else 1  # writes are billed once more, as replicated
    hour = size * aurora["storage_gb_month"] / PRICES["hours_per_month"] + requests * aurora["million_io"]
    words = f"{size} GB and {requests:.1f} million I/O requests per hour {dollars(hour)}"
    if want.get("ManageMasterUserPassword") or want.get("MasterUserSecret"):
        hour += managed_secret()
        words += f", its secret {dollars(managed_secret())}"
    names = joining | {member["DBInstanceIdentifier"] for member in want.get("DBClusterMembers", [])
                       if described(client, region, member["DBInstanceIdentifier"], "db")["DBInstanceClass"]
                       == "db.serverless"}
    if names:
        most = want["ServerlessV2ScalingConfiguration"]["MaxCapacity"]
        each = most * aurora["acu_hour"] + PRICES["public_ipv4_hour"]
        hour += len(names) * each
        words += f", {len(names)} serverless at {most:g} ACUs at most {dollars(len(names) * each)}"
    return Cost((region, "cluster", want.get("NewDBClusterIdentifier") or want["DBClusterIdentifier"]), hour, words)


def db_cluster(price, client, region, operation, params):
    """Return the cost of a DB cluster as `operation` leaves it; its instances come with their own."""
    source = {}
    if operation == "ModifyDBCluster":
        source = described(client, region, params["DBClusterIdentifier"], "cluster")
    elif "SourceDBClusterIdentifier" in params:
        copied = described(client, region, params["SourceDBClusterIdentifier"], "cluster")
        source = {"Engine": copied["Engine"], "StorageType": copied.get("StorageType")}
    want = {**source, **params}
    if want.get("Engine") not in price["aurora"]["engines"]:
        engines = ", ".join(price["aurora"]["engines"])
        raise Refused(f"There is no price for a DB cluster of {want.get('Engine')!r}. Use one of {engines}.")
    cost = aurora_cluster(price["aurora"], client, region, want)
    cost.force = {"CopyTagsToSnapshot": True}
    return cost


def db_cluster_snapshot(price, client, region, operation, params):
    """Return the cost of a DB cluster snapshot: the assumed size of a volume at the backup price."""
    name = params.get("DBClusterSnapshotIdentifier") or params["FinalDBSnapshotIdentifier"]
    size = price["aurora"]["assumed_gb"]
    hour = size * price["aurora"]["snapshot_gb_month"] / PRICES["hours_per_month"]
    return Cost((region, "cluster-snapshot", name), hour, f"{size} GB of backup storage")


def final_db_cluster_snapshot(price, client, region, operation, params):
    """Return the cost of the final snapshot that a cluster's deletion asks for, None without one."""
    if params.get("FinalDBSnapshotIdentifier"):
        return db_cluster_snapshot(price, client, region, operation, params)
    return None


def db_snapshot(price, client, region, operation, params):
    """Return the cost of a DB snapshot: its whole size at the backup price, and the transfer from another Region."""
    if "SourceDBSnapshotIdentifier" in params:
        name = params["TargetDBSnapshotIdentifier"]
        source = described(client, region, params["SourceDBSnapshotIdentifier"], "snapshot")
    else:
        name = params.get("DBSnapshotIdentifier") or params["FinalDBSnapshotIdentifier"]
        source = described(client, region, params["DBInstanceIdentifier"], "db")
    size = source["AllocatedStorage"]
    once = size * price["between_regions_gb"] if source["region"] != region else 0
    words = f"at most {size} GB of backup storage" + (f", from {source['region']} {dollars(once)} once" if once else "")
    return Cost((region, "snapshot", name), size * price["snapshot_gb_month"] / PRICES["hours_per_month"], words, once)


def final_db_snapshot(price, client, region, operation, params):
    """Return the cost of the final snapshot that a deletion asks for, None without one."""
    if params.get("FinalDBSnapshotIdentifier"):
        return db_snapshot(price, client, region, operation, params)
    return None


def free(price, client, region, operation, params):
    """Return None: the operation costs nothing by itself."""


def secret(price, client, region, operation, params):
    """Return the cost of a secret, whose value is never looked at."""
    return Cost((region, "secret", params["Name"]), price["secret_month"] / PRICES["hours_per_month"], "one secret")


def key(price, client, region, operation, params):
    """Return the cost of a KMS key, which has no name before it is there; its requests are not counted."""
    return Cost((region, "key", token_hex(4)), price["key_month"] / PRICES["hours_per_month"], "one KMS key")


def alarm(price, client, region, operation, params):
    """Return the cost of an alarm on one metric."""
    if "MetricName" not in params:
        raise Refused("Live mode has the price of an alarm on one metric only. Give MetricName, and no Metrics.")
    return Cost((region, "alarm", params["AlarmName"]), price["alarm_month"] / PRICES["hours_per_month"], "one alarm")


RULES = {
    rule.__name__: rule
    for rule in (
        *(db_instance, db_snapshot, final_db_snapshot, green, switchover, db_cluster),
        *(db_cluster_snapshot, final_db_cluster_snapshot, secret, key, alarm, free),
    )
}


class Meter:
    """The bill as far as it can be foreseen: what runs at which price since when, and what is already spent."""

    def __init__(self):
        self.running, self.ended = {}, 0.0

    def start(self, key, hour):
        self.stop(key)
        self.running[key] = (hour, time.time())

    def stop(self, key):
        if key in self.running:
            self.ended += self._so_far(*self.running.pop(key))

    @staticmethod
    def _so_far(hour, since):
        return hour * max((time.time() - since) / 3600, 1 / 6)  # RDS bills ten minutes at least

    def hour(self):
        """Return the dollars per hour of all that runs now."""
        return sum(hour for hour, _ in self.running.values())

    def total(self):
        """Return the dollars spent until now."""
        return self.ended + sum(self._so_far(*run) for run in self.running.values())
