"""Kinds: the sorts of things that live mode creates on AWS, and how AWS lists, describes, tags and deletes each."""

from collections.abc import Callable
from dataclasses import dataclass, field

from botocore import xform_name


@dataclass(frozen=True)
class Kind:
    """How one sort of thing is handled: operations and members by their names in the API."""

    service: str
    words: str  # AWS's name for it
    page: str  # of the service's console
    lists: str
    key: str  # what the answer of `lists` has them under
    name: str  # the member of a description that names one
    one: Callable[[object, str], dict]  # client, name: returns its description
    tags: Callable[[object, dict], list]  # client, description: returns its tags as AWS lists them
    deletes: str
    named: str  # the member of that request
    how: dict = field(default_factory=dict)  # the others
    only: dict = field(default_factory=dict)  # parameters of `lists`


def call(aws, operation: str, **params) -> dict:
    """Return a client's answer to an operation, by its name in the API."""
    return getattr(aws, xform_name(operation))(**params)


def _rds(words, noun, page="databases:", member="Identifier", tags=lambda rds, about: about.get("TagList", []), **more) -> Kind:
    """Return a kind of RDS, whose API names all operations and members after the noun."""
    lists, key, name = f"Describe{noun}s", f"{noun}s", noun + member
    return Kind("rds", words, page, lists, key, name, lambda rds, one: call(rds, lists, **{name: one})[key][0], tags,
                f"Delete{noun}", name, **more)


def _group(words, noun, page) -> Kind:
    """Return a kind of RDS whose description has no tags."""
    return _rds(words, noun, page, "Name", lambda rds, about: rds.list_tags_for_resource(
        ResourceName=about[f"{noun}Arn"])["TagList"])


_NO_SNAPSHOT = {"SkipFinalSnapshot": True}  # AWS deletes the automated backups as well, unless it is told not to
KINDS = {  # in the order of deletion
    "deployment": _rds("blue/green deployment", "BlueGreenDeployment"),
    "db": _rds("DB instance", "DBInstance", how=_NO_SNAPSHOT),
    "global": _rds("global database", "GlobalCluster"),
    "cluster": _rds("DB cluster", "DBCluster", how=_NO_SNAPSHOT),
    "snapshot": _rds("DB snapshot", "DBSnapshot", "snapshots-list:", only={"SnapshotType": "manual"}),
    "cluster-snapshot": _rds("DB cluster snapshot", "DBClusterSnapshot", "snapshots-list:",
                             only={"SnapshotType": "manual"}),
    "pg": _group("DB parameter group", "DBParameterGroup", "parameter-groups:"),
    "subgrp": _group("DB subnet group", "DBSubnetGroup", "db-subnet-groups-list:"),
    "alarm": Kind(
        "cloudwatch", "alarm", "alarmsV2:", "DescribeAlarms", "MetricAlarms", "AlarmName",
        lambda watch, one: watch.describe_alarms(AlarmNames=[one])["MetricAlarms"][0],
        lambda watch, about: watch.list_tags_for_resource(ResourceARN=about["AlarmArn"])["Tags"],
        "DeleteAlarms", "AlarmNames"),
    "secret": Kind(
        "secretsmanager", "secret", "", "ListSecrets", "SecretList", "Name",
        lambda manager, one: manager.describe_secret(SecretId=one), lambda manager, about: about.get("Tags", []),
        "DeleteSecret", "SecretId", {"ForceDeleteWithoutRecovery": True}),
    "group": Kind(
        "ec2", "security group", "SecurityGroups:", "DescribeSecurityGroups", "SecurityGroups", "GroupId",
        lambda ec2, one: ec2.describe_security_groups(GroupIds=[one])["SecurityGroups"][0],
        lambda ec2, about: about.get("Tags", []), "DeleteSecurityGroup", "GroupId"),
    "key": Kind(  # the last: what is encrypted with it cannot be deleted in order without it
        "kms", "KMS key", "/kms/keys", "ListKeys", "Keys", "KeyId",
        lambda kms, one: kms.describe_key(KeyId=one)["KeyMetadata"],
        lambda kms, about: [{"Key": tag["TagKey"], "Value": tag["TagValue"]}
                            for tag in kms.list_resource_tags(KeyId=about["KeyId"])["Tags"]],
        "ScheduleKeyDeletion", "KeyId", {"PendingWindowInDays": 7}),  # seven days are the least there are
}
TARGETS = {  # what a request names by these members it changes
    "DBInstanceIdentifier": "db",
    "DBClusterIdentifier": "cluster",
    "GlobalClusterIdentifier": "global",
    "DbClusterIdentifier": "cluster",
    "TargetDbClusterIdentifier": "cluster",
    "BlueGreenDeploymentIdentifier": "deployment",
    "DBSnapshotIdentifier": "snapshot",
    "DBClusterSnapshotIdentifier": "cluster-snapshot",
    "DBParameterGroupName": "pg",
    "DBSubnetGroupName": "subgrp",
    "AlarmNames": "alarm",
    "SecretId": "secret",
    "GroupId": "group",
    "KeyId": "key",
    "AliasName": "key",
}
JOINS = {  # what a creation changes, besides
    "CreateDBInstance": {"DBClusterIdentifier": "cluster"},
    "CreateDBCluster": {"GlobalClusterIdentifier": "global"},
    "CreateGlobalCluster": {"SourceDBClusterIdentifier": "cluster"},
    "CreateBlueGreenDeployment": {"Source": "db"},
    "CreateAlias": {"TargetKeyId": "key"},
    "PutMetricAlarm": {"AlarmName": "alarm"},  # which it replaces
}


def described(client, region: str, identifier: str, kind: str) -> dict:
    """Return AWS's description, with its `region`, of the thing with this identifier or ARN; or AWS's error."""
    if identifier.startswith("arn:"):
        _, _, service, place, _, rest = identifier.split(":", 5)
        region = place or region
        identifier = rest.split(":", 1)[-1] if service == "rds" else identifier
    about = KINDS[kind].one(client(KINDS[kind].service, region), identifier)
    return {**about, **about.get("PendingModifiedValues", {}), "region": region}
