"""Leftovers: what live mode created on the reader's account and is still there. Found by tag, never by name."""

import time
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from minicloud.prices import PRICES

MARK, SESSION, EXPIRES = "created-by", "minicloud-session", "minicloud-expires"  # the tags
KINDS = {  # in the order of deletion: (service, AWS's name for it, page of the console)
    "db": ("rds", "DB instance", "databases:"),
    "snapshot": ("rds", "DB snapshot", "snapshots-list:"),
    "pg": ("rds", "DB parameter group", "parameter-groups:"),
    "subgrp": ("rds", "DB subnet group", "db-subnet-groups-list:"),
    "secret": ("secretsmanager", "secret", ""),
}
GIVE_UP, POLL = 45 * 60, 15  # seconds: a Multi-AZ DB instance needs about ten minutes to go


@dataclass
class Left:
    """Something that live mode created and that is still there."""

    kind: str
    name: str
    region: str
    tags: dict
    status: str = ""
    protected: bool = False
    replica: bool = False

    def __str__(self):
        return f"{KINDS[self.kind][1]} {self.name} in {self.region}" + (f" ({self.status})" if self.status else "")


def _listed(client, region):
    """Yield (kind, name, tags as AWS lists them, description) of everything in a Region that could be live mode's."""
    rds = client("rds", region)

    def pages(operation, key, **params):
        for page in rds.get_paginator(operation).paginate(**params):
            yield from page[key]

    for db in pages("describe_db_instances", "DBInstances"):
        yield "db", db["DBInstanceIdentifier"], db["TagList"], db
    for snapshot in pages("describe_db_snapshots", "DBSnapshots", SnapshotType="manual"):
        yield "snapshot", snapshot["DBSnapshotIdentifier"], snapshot["TagList"], snapshot
    for group in pages("describe_db_parameter_groups", "DBParameterGroups"):
        if not group["DBParameterGroupName"].startswith("default."):
            tags = rds.list_tags_for_resource(ResourceName=group["DBParameterGroupArn"])["TagList"]
            yield "pg", group["DBParameterGroupName"], tags, {}
    for group in pages("describe_db_subnet_groups", "DBSubnetGroups"):
        tags = rds.list_tags_for_resource(ResourceName=group["DBSubnetGroupArn"])["TagList"]
        yield "subgrp", group["DBSubnetGroupName"], tags, {}
    manager = client("secretsmanager", region).get_paginator("list_secrets")
    for page in manager.paginate(Filters=[{"Key": "tag-key", "Values": [SESSION]}]):
        for one in page["SecretList"]:
            yield "secret", one["Name"], one["Tags"], {}


def left_behind(client, session=None):
    """Return the `Left` of one session (None: of all) in the order of deletion."""
    found = []
    for region in PRICES["regions"]:
        for kind, name, tags, about in _listed(client, region):
            tags = {tag["Key"]: tag["Value"] for tag in tags}
            if tags.get(MARK) == "minicloud" and session in (None, tags.get(SESSION)):
                status = about.get("DBInstanceStatus") or about.get("Status") or ""
                replica = bool(about.get("ReadReplicaSourceDBInstanceIdentifier"))
                protected = about.get("DeletionProtection", False)
                found.append(Left(kind, name, region, tags, status, protected, replica))
    return sorted(found, key=lambda left: (list(KINDS).index(left.kind), not left.replica))


def delete(client, left):
    """Ask AWS to delete one thing; return None, or why that will never work as a sentence."""
    aws = client(KINDS[left.kind][0], left.region)
    try:
        if left.kind == "db":
            if left.protected:
                print(f"Deletion protection of {left.name} is on: turning it off.", flush=True)
                aws.modify_db_instance(DBInstanceIdentifier=left.name, DeletionProtection=False, ApplyImmediately=True)
            aws.delete_db_instance(DBInstanceIdentifier=left.name, SkipFinalSnapshot=True, DeleteAutomatedBackups=True)
        elif left.kind == "snapshot":
            aws.delete_db_snapshot(DBSnapshotIdentifier=left.name)
        elif left.kind == "pg":
            aws.delete_db_parameter_group(DBParameterGroupName=left.name)
        elif left.kind == "subgrp":
            aws.delete_db_subnet_group(DBSubnetGroupName=left.name)
        elif left.kind == "secret":
            aws.delete_secret(SecretId=left.name, ForceDeleteWithoutRecovery=True)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if not ("NotFound" in code or "State" in code or "Throttling" in code):  # gone, or not yet: the next look tells
            return f"{left} could not be deleted: {error}. {_console(left)}"
    return None


def _console(left):
    service, _, page = KINDS[left.kind]
    url = f"https://{left.region}.console.aws.amazon.com/{service}/home?region={left.region}#{page}"
    return f"It goes on costing. Delete it in the console: {url}"


def delete_all(client, session=None):
    """Delete what sessions left until nothing of it is there; return a sentence for each thing that stays."""
    stuck, said, wait, began = {}, None, 0, time.monotonic()
    while True:
        try:
            found = left_behind(client, session)
        except (BotoCoreError, ClientError) as error:
            return [f"What is left could not be listed: {error}. Look for the tag {MARK}=minicloud in the console."]
        todo = [left for left in found if (left.region, left.kind, left.name) not in stuck]
        late = time.monotonic() - began > GIVE_UP
        for left in todo:
            why = None if left.status == "deleting" else delete(client, left)
            if late and not why:
                why = f"{left} is still there after {GIVE_UP // 60} minutes. {_console(left)}"
            if why:
                stuck[left.region, left.kind, left.name] = why
        if not todo or late:
            return list(stuck.values())
        now = f"Deleting {len(todo)}, {(time.monotonic() - began) // 60:.0f} min: {'; '.join(map(str, todo))}"
        if now != said:
            print(now, flush=True)
        said = now
        time.sleep(wait)
        wait = POLL
