"""Leftovers: what live mode created on the reader's account and is still there. Found by tag, never by name."""

import time
from dataclasses import dataclass, field

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from minicloud.live_kinds import KINDS, call
from minicloud.prices import PRICES

MARK, SESSION, EXPIRES = "created-by", "minicloud-session", "minicloud-expires"  # the tags
GIVE_UP, POLL = 45 * 60, 15  # seconds: a Multi-AZ DB instance needs about ten minutes to go
NOT_YET = ("NotFound", "State", "Throttling", "DependencyViolation")  # in the codes of errors: gone, or asked too early


@dataclass
class Left:
    """Something that live mode created and that is still there."""

    kind: str
    name: str
    region: str
    tags: dict
    about: dict = field(default_factory=dict, repr=False)  # AWS's description

    @property
    def status(self):
        return self.about.get("DBInstanceStatus") or self.about.get("Status") or ""

    @property
    def order(self):
        """Return what sorts by the order of deletion: by kind, and replicas before their source."""
        return list(KINDS).index(self.kind), not self.about.get("ReadReplicaSourceDBInstanceIdentifier")

    def __str__(self):
        return f"{KINDS[self.kind].words} {self.name} in {self.region}" + (f" ({self.status})" if self.status else "")


def _listed(client, region):
    """Yield (kind, description, tags as AWS lists them) of everything in a Region that could be live mode's."""
    for name, kind in KINDS.items():
        aws = client(kind.service, region)
        for page in aws.get_paginator(xform_name(kind.lists)).paginate(**kind.only):
            for about in page[kind.key]:
                if name == "key":
                    about = _key(aws, about["KeyId"])
                if about and not about[kind.name].startswith("default."):
                    yield name, about, kind.tags(aws, about)


def _key(kms, key):
    """Return KMS's description of a key; None when it is AWS's, not for this identity, or on its way out."""
    try:
        about = KINDS["key"].one(kms, key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDeniedException":  # by the key's own policy
            return None
        raise
    return about if about["KeyManager"] == "CUSTOMER" and about["KeyState"] != "PendingDeletion" else None


def left_behind(client, session=None):
    """Return the `Left` of one session (None: of all) in the order of deletion."""
    found = {}
    for region in PRICES["regions"]:
        for kind, about, tags in _listed(client, region):
            tags = {tag["Key"]: tag["Value"] for tag in tags}
            if tags.get(MARK) == "minicloud" and session in (None, tags.get(SESSION)):
                left = Left(kind, about[KINDS[kind].name], region, tags, about)
                found.setdefault((kind, left.name, kind != "global" and region), left)  # a global one is in all Regions
    return sorted(found.values(), key=lambda left: left.order)


def _free(client, aws, left):
    """Do what has to be done before AWS deletes it; return the further parameters of the deletion."""
    kind = KINDS[left.kind]
    if left.about.get("DeletionProtection"):
        print(f"Deletion protection of {left.name} is on: turning it off.", flush=True)
        now = {} if left.kind == "global" else {"ApplyImmediately": True}
        call(aws, kind.deletes.replace("Delete", "Modify"), **{kind.named: left.name}, DeletionProtection=False, **now)
    for member in sorted(left.about.get("GlobalClusterMembers", []), key=lambda member: member["IsWriter"]):
        cluster = member["DBClusterArn"]
        client("rds", cluster.split(":")[3]).remove_from_global_cluster(
            GlobalClusterIdentifier=left.name, DbClusterIdentifier=cluster
        )
    if left.kind == "key":
        for alias in aws.list_aliases(KeyId=left.name)["Aliases"]:
            aws.delete_alias(AliasName=alias["AliasName"])
    if left.kind == "deployment" and left.status != "SWITCHOVER_COMPLETED":
        return {"DeleteTarget": True}  # the green environment, which may not have the tags
    return kind.how


def delete(client, left):
    """Ask AWS to delete one thing; return None, or why that will never work as a sentence."""
    kind = KINDS[left.kind]
    aws = client(kind.service, left.region)
    try:
        more = _free(client, aws, left)
        call(aws, kind.deletes, **{kind.named: [left.name] if kind.named.endswith("s") else left.name}, **more)
    except ClientError as error:
        if not any(code in error.response["Error"]["Code"] for code in NOT_YET):  # else the next look tells
            return f"{left} could not be deleted: {error}. {_console(left)}"
    return None


def _console(left):
    kind = KINDS[left.kind]
    url = f"https://{left.region}.console.aws.amazon.com/{kind.service}/home?region={left.region}#{kind.page}"
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
            early = left.kind == "key" and any(other.kind != "key" for other in todo)
            why = None if early or left.status.lower() == "deleting" else delete(client, left)
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
