"""Prices: what a call on the reader's own AWS account would cost, and the bill so far.

The figures are in prices.yml, with sources and date. Here are the rules that turn a request into dollars per hour. They
look up on AWS what the request leaves out (a replica has the class of its source) and estimate high where AWS's bill
depends on what is not known yet: a snapshot counts as full, an instance as publicly reachable unless it says not.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

PRICES = yaml.safe_load(Path(__file__).with_name("prices.yml").read_text(encoding="utf-8"))
CREATES = ("Create", "Restore", "Copy")  # how AWS names the operations that make something new


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


def described(client, region, identifier, kind):
    """Return AWS's description of the DB instance or snapshot with this identifier or ARN; or AWS's error."""
    if identifier.startswith("arn:"):
        region, identifier = identifier.split(":")[3], identifier.split(":", 6)[6]
    rds = client("rds", region)
    if kind == "db":
        found = rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]
        return {**found, **found.get("PendingModifiedValues", {}), "region": region}
    return {**rds.describe_db_snapshots(DBSnapshotIdentifier=identifier)["DBSnapshots"][0], "region": region}


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
    force = {"CopyTagsToSnapshot": True}  # so that its snapshots, the final one too, can be found by tag
    if want["Engine"] != "mariadb":  # MariaDB has no Extended Support
        force["EngineLifecycleSupport"] = price["free_only_at"]["EngineLifecycleSupport"]
    return Cost(
        (region, "db", name),
        copies * (compute + storage + address),
        words + ("; all twice for Multi-AZ" if copies == 2 else ""),
        force=force if operation.startswith(CREATES) else {},
    )


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


RULES = {rule.__name__: rule for rule in (db_instance, db_snapshot, final_db_snapshot, secret, free)}


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
