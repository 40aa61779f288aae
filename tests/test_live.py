"""Live mode, against a second, plain moto server that plays AWS: nothing here reaches a real account."""

import ast
import datetime
import functools
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import boto3
import botocore
import botocore.session
import nbformat
import pytest
import requests
from botocore.exceptions import ClientError, ParamValidationError

from minicloud import live, local
from minicloud import live_leftovers as leftovers
from minicloud.prices import CREATES, PRICES, RULES, Refused, db_instance_hour

PASSWORD = "never-shown-8261"
NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/**/*.ipynb"))
SHOP = {
    "DBInstanceIdentifier": "shop-db",
    "Engine": "postgres",
    "DBInstanceClass": "db.t4g.micro",
    "AllocatedStorage": 20,
    "MasterUsername": "shop",
    "MasterUserPassword": PASSWORD,
}


AWS = """
import sys
from moto.core.responses import ActionResult
from moto.rds.exceptions import InvalidDBClusterStateFault
from moto.rds.models import DBInstance, RDSBackend, rds_backends
from moto.rds.responses import RDSResponse
from moto.server import ThreadedMotoServer

def remove_replica(source, replica):
    source.replicas[:] = [one for one in source.replicas if one.split(":")[-1] != replica.db_instance_identifier]

DBInstance.remove_replica = remove_replica  # moto 5.2.5 answers 500 when a replica in another Region is deleted

# Global databases: moto 5.2.5 drops their tags, lists all of them whichever is asked for, calls a primary made of a
# cluster no writer, and deletes a member. AWS refuses that, and keeps the primary until its secondaries have left.
create, delete_db_cluster = RDSResponse.create_global_cluster, RDSBackend.delete_db_cluster

def create_global_cluster(response):
    answer = create(response)
    answer.result["GlobalCluster"].tags = response.params.get("Tags", [])
    for primary in answer.result["GlobalCluster"].members:
        primary.is_writer = True
    return answer

def describe_global_clusters(response):
    name = response.params.get("GlobalClusterIdentifier")
    found = response.global_backend.global_clusters.values()
    return ActionResult({"GlobalClusters": [one for one in found if name in (None, one.global_cluster_identifier)]})

def remove_from_global_cluster(response):
    database = response.global_backend.global_clusters[response.params["GlobalClusterIdentifier"]]
    primary, *secondaries = database.members
    if secondaries and primary.db_cluster_arn == response.params["DbClusterIdentifier"]:
        raise InvalidDBClusterStateFault("it is the primary of others")
    database.members = [one for one in database.members if one.db_cluster_arn != response.params["DbClusterIdentifier"]]
    return ActionResult({"GlobalCluster": database})

def delete_unless_member(backend, cluster_identifier, snapshot_name=None):
    for database in rds_backends[backend.account_id]["us-east-1"].global_clusters.values():
        if backend.clusters[cluster_identifier] in database.members:
            raise InvalidDBClusterStateFault("this cluster is a part of a global cluster")
    return delete_db_cluster(backend, cluster_identifier, snapshot_name)

RDSResponse.create_global_cluster = create_global_cluster
RDSResponse.describe_global_clusters = describe_global_clusters
RDSResponse.remove_from_global_cluster = remove_from_global_cluster
RDSBackend.delete_db_cluster = delete_unless_member
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()  # until pytest ends, however it ends
"""


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(
        [sys.executable, "-c", AWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture
def account(server, monkeypatch):
    """The reader's own account: a clean moto server, credentials and a Region; what reached it is in `calls()`."""
    unwanted = (*live.CI, "AWS_", "BINDER_")
    for name in [name for name in os.environ if name.startswith(unwanted)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(leftovers, "POLL", 0.1)
    boto3.DEFAULT_SESSION = None
    requests.post(f"{server}/moto-api/reset", timeout=10)
    yield server
    live._open = boto3.DEFAULT_SESSION = None
    botocore._INITIALIZERS[:] = [one for one in botocore._INITIALIZERS if one is not live._hook]


@functools.cache
def ask(region, service):
    """Returns a client that looks at the account from outside: live mode would let its reads pass anyway."""
    return live.own_session(region).client(service)


def everything(region):
    """Returns the names of all that a Region of the account holds, without the backups of what still is."""
    rds, kms, watch = ask(region, "rds"), ask(region, "kms"), ask(region, "cloudwatch")
    instances = {one["DBInstanceIdentifier"] for one in rds.describe_db_instances()["DBInstances"]}
    groups = {one["DBParameterGroupName"] for one in rds.describe_db_parameter_groups()["DBParameterGroups"]}
    firewalls = {one["GroupName"] for one in ask(region, "ec2").describe_security_groups()["SecurityGroups"]}
    keys = [kms.describe_key(KeyId=one["KeyId"])["KeyMetadata"] for one in kms.list_keys()["Keys"]]
    return {
        *instances,
        *(one["DBClusterIdentifier"] for one in rds.describe_db_clusters()["DBClusters"]),
        *(firewalls - {"default"}),
        *(one["Description"] for one in keys if one["KeyManager"] != "AWS" and one["KeyState"] != "PendingDeletion"),
        *(one["AliasName"] for one in kms.list_aliases()["Aliases"] if not one["AliasName"].startswith("alias/aws/")),
        *(one["AlarmName"] for one in watch.describe_alarms()["MetricAlarms"]),
        *(one["BlueGreenDeploymentName"] for one in rds.describe_blue_green_deployments()["BlueGreenDeployments"]),
        *(one["GlobalClusterIdentifier"] for one in rds.describe_global_clusters()["GlobalClusters"]),
        *(name for name in groups if not name.startswith("default.")),
        *(one["DBSubnetGroupName"] for one in rds.describe_db_subnet_groups()["DBSubnetGroups"]),
        *(one["Name"] for one in ask(region, "secretsmanager").list_secrets()["SecretList"]),
        *(
            one["DBSnapshotIdentifier"]
            for one in rds.describe_db_snapshots()["DBSnapshots"]
            if one["SnapshotType"] == "manual" or one["DBInstanceIdentifier"] not in instances
        ),
        *(
            one["DBClusterSnapshotIdentifier"]
            for one in rds.describe_db_cluster_snapshots()["DBClusterSnapshots"]
            if one["SnapshotType"] == "manual"  # moto keeps the others longer than their cluster, AWS does not
        ),
    }


def build_everything():
    """Creates one of each thing in two Regions, as notebook cells would."""
    east, west = boto3.client("rds"), boto3.client("rds", region_name="us-west-2")
    subnets = [subnet["SubnetId"] for subnet in boto3.client("ec2").describe_subnets()["Subnets"][:2]]
    east.create_db_subnet_group(DBSubnetGroupName="shop-net", DBSubnetGroupDescription="-", SubnetIds=subnets)
    east.create_db_parameter_group(DBParameterGroupName="shop-pg", DBParameterGroupFamily="postgres18", Description="-")
    east.create_db_instance(**SHOP, MultiAZ=True, DeletionProtection=True)
    source = "arn:aws:rds:us-east-1:123456789012:{}:{}".format
    east.create_db_instance_read_replica(DBInstanceIdentifier="near", SourceDBInstanceIdentifier="shop-db")
    west.create_db_instance_read_replica(
        DBInstanceIdentifier="far", SourceDBInstanceIdentifier=source("db", "shop-db"), SourceRegion="us-east-1"
    )
    east.create_db_snapshot(DBSnapshotIdentifier="monday", DBInstanceIdentifier="shop-db")
    west.copy_db_snapshot(
        SourceDBSnapshotIdentifier=source("snapshot", "monday"),
        TargetDBSnapshotIdentifier="monday-west",
        SourceRegion="us-east-1",
    )
    east.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="from-snapshot", DBSnapshotIdentifier="monday")
    east.restore_db_instance_to_point_in_time(
        SourceDBInstanceIdentifier="shop-db", TargetDBInstanceIdentifier="earlier", UseLatestRestorableTime=True
    )
    east.modify_db_instance(DBInstanceIdentifier="earlier", DeletionProtection=False)
    east.delete_db_instance(DBInstanceIdentifier="earlier", FinalDBSnapshotIdentifier="final")
    boto3.client("secretsmanager").create_secret(Name="shop-login", SecretString=PASSWORD)
    build_guards()
    build_aurora(east, west)


AURORA = {"Engine": "aurora-postgresql", "MasterUsername": "shop", "MasterUserPassword": PASSWORD}
WATCH = {"Namespace": "AWS/RDS", "MetricName": "CPUUtilization", "Statistic": "Average", "Period": 60, "Threshold": 9}
WATCH |= {"EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold"}


def build_guards():
    """Creates a security group, a KMS key with a name, and an alarm."""
    ec2, kms = boto3.client("ec2"), boto3.client("kms")
    group = ec2.create_security_group(GroupName="shop-wall", Description="-")["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{"IpProtocol": "-1"}])
    key = kms.create_key(Description="shop-key")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/shop", TargetKeyId=key)
    boto3.client("cloudwatch").put_metric_alarm(AlarmName="shop-alarm", **WATCH)


def build_aurora(east, west):
    """Creates a global database of two clusters, of which the first is protected, a clone, and snapshots of it."""
    shop = east.create_db_cluster(DBClusterIdentifier="shop", DeletionProtection=True, **AURORA)["DBCluster"]
    one = {"Engine": "aurora-postgresql", "DBInstanceClass": "db.t4g.medium"}
    east.create_db_instance(DBInstanceIdentifier="shop-1", DBClusterIdentifier="shop", **one)
    east.create_global_cluster(GlobalClusterIdentifier="world", SourceDBClusterIdentifier=shop["DBClusterArn"])
    west.create_db_cluster(DBClusterIdentifier="shop-west", GlobalClusterIdentifier="world", **AURORA)
    west.create_db_instance(DBInstanceIdentifier="shop-west-1", DBClusterIdentifier="shop-west", **one)
    east.restore_db_cluster_to_point_in_time(
        DBClusterIdentifier="clone", SourceDBClusterIdentifier="shop", UseLatestRestorableTime=True
    )
    east.create_db_cluster_snapshot(DBClusterSnapshotIdentifier="volume", DBClusterIdentifier="shop")
    east.restore_db_cluster_from_snapshot(
        DBClusterIdentifier="from-volume", SnapshotIdentifier="volume", Engine="aurora-postgresql"
    )
    east.modify_db_cluster(DBClusterIdentifier="from-volume", DeletionProtection=False)
    east.delete_db_cluster(DBClusterIdentifier="from-volume", FinalDBSnapshotIdentifier="last-volume")


EAST = {"shop-db", "near", "monday", "from-snapshot", "final", "shop-pg", "shop-net", "shop-login"}
EAST |= {"shop", "shop-1", "clone", "volume", "last-volume", "shop-wall", "shop-key", "alias/shop", "shop-alarm"}
WEST = {"far", "monday-west", "shop-west", "shop-west-1"}
BOTH = {"world"}  # a global database is in every Region


def test_it_shows_who_and_where(account, capsys):
    """connect() shows account, identity, Region and, when it is not AWS itself, the endpoint: as text and as HTML."""
    cloud = live.connect()
    for shown in (capsys.readouterr().out, cloud._repr_html_()):
        for fact in ("123456789012", "arn:aws:sts::123456789012:user/moto", "us-east-1", account):
            assert fact in shown


def test_root_is_refused(account, monkeypatch):
    """The root user's credentials are refused, on connect and in a client made later with other credentials."""
    honest = botocore.client.BaseClient._make_api_call

    def as_root(client, operation, params):
        answer = honest(client, operation, params)
        if operation == "GetCallerIdentity" and client._get_credentials().access_key == "root":
            answer["Arn"] = "arn:aws:iam::123456789012:root"
        return answer

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", as_root)
    live.connect(budget=5)
    with pytest.raises(Refused, match="root user"):
        boto3.Session("root", "root").client("rds").create_db_instance(**SHOP)
    assert everything("us-east-1") == set()
    live._open = None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "root")
    with pytest.raises(Refused, match="root user"):
        live.connect(budget=5)


def test_an_identity_that_cannot_do_it_is_refused(account, monkeypatch):
    """Credentials that AWS does not know, or that may not list what close() has to delete, are refused on connect."""
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "DescribeDBInstances")
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "_listed", lambda *_: (_ for _ in ()).throw(denied))
        with pytest.raises(Refused, match="could not list .*AccessDenied"):
            live.connect(budget=5)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(Refused, match="Sign in"):
        live.connect(budget=5)


@pytest.mark.parametrize("name, place", [("CI", "CI"), ("GITHUB_ACTIONS", "CI"), ("BINDER_REPO_URL", "Binder")])
def test_nobody_watching_is_refused(account, monkeypatch, name, place):
    """Live mode is refused in CI and on Binder, before anything is asked of AWS; CI=false is not CI."""
    monkeypatch.setenv(name, "true")
    monkeypatch.setattr(live, "who", lambda session: pytest.fail("AWS was asked"))
    with pytest.raises(Refused, match=place):
        live.connect(budget=5)
    with pytest.raises(Refused, match=place):
        live.sweep(delete=True)
    live.refuse_unattended({"CI": "false"})


def test_it_is_one_session_in_one_region(account):
    """connect() again keeps the session, refuses to change its Region, and that Region is the default until close()."""
    with pytest.raises(Refused, match="no prices for the Region eu-west-1"):
        live.connect(region="eu-west-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_cloud", types.SimpleNamespace(is_running=True))
        with pytest.raises(Refused, match="The local cloud runs"):
            live.connect()
    cloud = live.connect(region="us-west-2")
    assert live.connect(budget=3, region="us-west-2") is cloud and cloud.budget == 3
    with pytest.raises(Refused, match="open in us-west-2"):
        live.connect(region="us-east-1")
    assert boto3.client("rds").meta.region_name == "us-west-2"
    cloud.close()
    assert boto3.client("rds").meta.region_name == "us-east-1"


def test_nothing_is_created_without_a_budget(account):
    """Without a budget every create is refused and nothing is sent; connecting again with one lets it through."""
    live.connect()
    rds = boto3.client("rds")
    sent = []
    rds.meta.events.register("before-send", lambda request, **_: sent.append(request.url))
    with pytest.raises(Refused, match="budget=5"):
        rds.create_db_instance(**SHOP)
    with pytest.raises(Refused, match="budget=5"):
        rds.create_db_parameter_group(DBParameterGroupName="p", DBParameterGroupFamily="postgres18", Description="-")
    assert sent == []
    live.connect(budget=5)
    rds.create_db_instance(**SHOP)
    assert len(sent) == 1 and everything("us-east-1") == {"shop-db"}


@pytest.mark.parametrize("budget", [0, -1, True, "5", float("nan")])
def test_a_budget_is_an_amount(account, budget):
    """A budget that is not a positive number is refused with a sentence that shows the right form."""
    with pytest.raises(Refused, match=r'connect\("aws", budget=5\)'):
        live.connect(budget=budget)


def test_the_price_is_stated_before_the_call(account, capsys):
    """The hourly price is printed before the request leaves, doubled by Multi-AZ, and no secret is ever in it."""
    live.connect(budget=5)
    rds = boto3.client("rds")
    before = []
    rds.meta.events.register("before-send", lambda request, **_: before.append(capsys.readouterr().out))
    rds.create_db_instance(**SHOP)
    hour = 0.016 + 20 * 0.115 / 730 + 0.005
    assert f"CreateDBInstance shop-db (us-east-1): about ${hour:.4f} per hour" in before[-1]
    rds.modify_db_instance(DBInstanceIdentifier="shop-db", MultiAZ=True)
    assert f"about ${2 * hour:.4f} per hour" in before[-1] and f"Together ${2 * hour:.4f}" in before[-1]
    rds.create_db_parameter_group(DBParameterGroupName="p", DBParameterGroupFamily="postgres18", Description="-")
    assert "costs nothing" in before[-1]
    boto3.client("secretsmanager").create_secret(Name="login", SecretString=PASSWORD)
    live._open.close()
    assert PASSWORD not in "".join(before) + capsys.readouterr().out + repr(live._open)


def test_all_is_tagged_and_close_leaves_nothing(account, capsys):
    """All that cells create in two Regions is tagged; close(), called once or twice, deletes that and no more."""
    boto3.client("rds").create_db_instance(**SHOP | {"DBInstanceIdentifier": "the-readers-own"})
    cloud = live.connect(budget=50)
    build_everything()
    tagged = {left.name: left for left in leftovers.left_behind(cloud.client, cloud.id)}
    title = {"group": "GroupName", "key": "Description"}  # their names are numbers
    names = {left.about[title[left.kind]] if left.kind in title else name for name, left in tagged.items()}
    assert names == (EAST | WEST | BOTH) - {"alias/shop"}  # an alias has no tags; it goes with its key
    assert everything("us-east-1") == EAST | BOTH | {"the-readers-own"} and everything("us-west-2") == WEST | BOTH
    assert all(left.tags[live.EXPIRES].endswith("Z") for left in tagged.values())
    assert list(tagged).index("near") < list(tagged).index("shop-db")  # replicas go before their source
    capsys.readouterr()
    assert cloud.close() == [] and cloud.close() == []
    said = capsys.readouterr().out
    assert said.count("Deleting") == 2  # nothing new came out of the deletions, such as a final snapshot
    assert "Deleting 1, 0 min: KMS key" in said  # it goes when nothing is left that is encrypted with it
    for step in ("Deleting 21", "Deletion protection of shop-db is on", "Deletion protection of shop is on", "Nothing of this session is left"):
        assert step in said
    assert everything("us-east-1") == {"the-readers-own"} and everything("us-west-2") == set()
    boto3.client("rds").delete_db_instance(DBInstanceIdentifier="the-readers-own")  # closed: nothing is guarded


def test_it_changes_only_what_it_created(account):
    """A DB instance of the reader's own, with the name that a cell uses, is neither deleted nor modified."""
    rds = boto3.client("rds")
    rds.create_db_instance(**SHOP)
    rds.create_db_parameter_group(
        DBParameterGroupName="default.mine", DBParameterGroupFamily="postgres18", Description="-"
    )
    live.connect(budget=5)
    for change in (rds.delete_db_instance, rds.modify_db_instance, rds.stop_db_instance, rds.reboot_db_instance):
        with pytest.raises(Refused, match="shop-db was not created by live mode"):
            change(DBInstanceIdentifier="shop-db")
    with pytest.raises(ClientError, match="DBInstanceNotFound"):
        rds.delete_db_instance(DBInstanceIdentifier="no-such-db")
    rds.modify_db_parameter_group(DBParameterGroupName="default.mine", Parameters=[])  # AWS refuses it, not live mode
    assert everything("us-east-1") == {"shop-db"}


def test_nothing_of_the_readers_own_is_joined_or_replaced(account):
    """No instance goes into the reader's own cluster, no cluster into his global database, no alarm of his is lost."""
    rds, kms, watch = boto3.client("rds"), boto3.client("kms"), boto3.client("cloudwatch")
    arn = rds.create_db_cluster(DBClusterIdentifier="mine", **AURORA)["DBCluster"]["DBClusterArn"]
    rds.create_global_cluster(GlobalClusterIdentifier="my-world", Engine="aurora-postgresql")
    mine = rds.create_db_instance(**SHOP)["DBInstance"]["DBInstanceArn"]
    watch.put_metric_alarm(AlarmName="my-alarm", **WATCH)
    key = kms.create_key(Description="my-key")["KeyMetadata"]["KeyId"]
    group = boto3.client("ec2").create_security_group(GroupName="my-wall", Description="-")["GroupId"]
    before = everything("us-east-1")
    live.connect(budget=50)
    one = {"Engine": "aurora-postgresql", "DBInstanceClass": "db.t4g.medium"}
    for change, more in [
        (rds.create_db_instance, {"DBInstanceIdentifier": "in-mine", "DBClusterIdentifier": "mine", **one}),
        (rds.create_db_cluster, {"DBClusterIdentifier": "in-mine", "GlobalClusterIdentifier": "my-world", **AURORA}),
        (rds.create_global_cluster, {"GlobalClusterIdentifier": "of-mine", "SourceDBClusterIdentifier": arn}),
        (rds.create_blue_green_deployment, {"BlueGreenDeploymentName": "of-mine", "Source": mine}),
        (rds.delete_db_cluster, {"DBClusterIdentifier": "mine", "SkipFinalSnapshot": True}),
        (rds.failover_db_cluster, {"DBClusterIdentifier": "mine"}),
        (watch.put_metric_alarm, {"AlarmName": "my-alarm", **WATCH}),
        (watch.delete_alarms, {"AlarmNames": ["no-such-alarm", "my-alarm"]}),
        (kms.create_alias, {"AliasName": "alias/mine", "TargetKeyId": key}),
        (kms.disable_key, {"KeyId": key}),
        (kms.schedule_key_deletion, {"KeyId": key}),
        (boto3.client("ec2").delete_security_group, {"GroupId": group}),
        (boto3.client("ec2").authorize_security_group_ingress, {"GroupId": group, "IpPermissions": []}),
    ]:
        with pytest.raises(Refused, match="was not created by live mode"):
            change(**more)
    with pytest.raises(Refused, match="does not say what it changes"):
        boto3.client("ec2").delete_security_group(GroupName="my-wall")
    live._open.close()
    assert everything("us-east-1") == before


@pytest.mark.parametrize("make", ["second session", "session from before", "client from before", "bare botocore"])
def test_every_way_to_boto3_is_guarded(account, make):
    """A create is refused through any Session or client, made before or after connect, boto3's or botocore's."""
    session, client = boto3.Session(), boto3.client("rds")
    live.connect()
    rds = {
        "second session": lambda: boto3.Session(region_name="us-west-2").client("rds"),
        "session from before": lambda: session.client("rds"),
        "client from before": lambda: client,
        "bare botocore": lambda: botocore.session.get_session().create_client("rds"),
    }[make]()
    with pytest.raises(Refused, match="No budget"):
        rds.create_db_instance(**SHOP)
    with pytest.raises(Refused, match="presigned CreateDBInstance"):
        rds.generate_presigned_url("create_db_instance", SHOP)


def test_what_has_no_price_is_refused(account):
    """An unknown service, operation, class, engine, storage, Region or costly extra is refused with the remedy."""
    live.connect(budget=500)
    rds = boto3.client("rds")
    with pytest.raises(Refused, match="s3 CreateBucket is not in minicloud/prices.yml"):
        boto3.resource("s3").create_bucket(Bucket="shop")
    with pytest.raises(Refused, match="rds CreateDBProxy is not in minicloud/prices.yml"):
        rds.create_db_proxy(DBProxyName="p", EngineFamily="MYSQL", RoleArn="-" * 20, VpcSubnetIds=["-"], Auth=[])
    with pytest.raises(Refused, match="iam CreateUser is not sent. Users, access keys .* Skip the cell"):
        boto3.client("iam").create_user(UserName="clerk")
    for wrong, words in [
        ({"DBInstanceClass": "db.r8g.48xlarge"}, "no price for the DB instance class 'db.r8g.48xlarge'.*db.t4g.micro"),
        ({"Engine": "oracle-ee"}, "no price for the engine 'oracle-ee'"),
        ({"StorageType": "io2"}, "no price for the storage type 'io2'"),
        ({"Iops": 3000}, "Iops=3000 costs extra"),
        ({"MonitoringInterval": 60}, "MonitoringInterval=60 costs extra"),
    ]:
        with pytest.raises(Refused, match=words):
            rds.create_db_instance(**SHOP | wrong)
    with pytest.raises(Refused, match="no prices for the Region eu-west-1"):
        boto3.client("rds", region_name="eu-west-1").create_db_instance(**SHOP)
    with pytest.raises(ParamValidationError, match='Missing required parameter in input: "DBInstanceIdentifier"'):
        rds.create_db_instance(Engine="postgres", DBInstanceClass="db.t4g.micro")  # boto3's own error stays boto3's
    assert everything("us-east-1") == set()


def test_the_budget_holds(account):
    """A create that could take the bill over the budget, forgotten for a day, is refused; deleting makes room again."""
    live.connect(budget=1)  # one instance costs $0.58 in 24 hours
    rds = boto3.client("rds")
    rds.create_db_instance(**SHOP)
    for refused in (
        lambda: rds.create_db_instance(**SHOP | {"DBInstanceIdentifier": "second"}),
        lambda: rds.create_db_instance_read_replica(DBInstanceIdentifier="r", SourceDBInstanceIdentifier="shop-db"),
        lambda: rds.modify_db_instance(DBInstanceIdentifier="shop-db", MultiAZ=True),
        lambda: rds.modify_db_instance(DBInstanceIdentifier="shop-db", DBInstanceClass="db.t4g.medium"),
    ):
        with pytest.raises(Refused, match=r"it could cost \$1\.\d\d; the budget is \$1\.00"):
            refused()
    with pytest.raises(ClientError, match="DBInstanceAlreadyExists"):
        rds.create_db_instance(**SHOP | {"AllocatedStorage": 21})  # a failed create costs nothing
    assert live._open.meter.hour() == pytest.approx(0.016 + 20 * 0.115 / 730 + 0.005)
    rds.delete_db_instance(DBInstanceIdentifier="shop-db", SkipFinalSnapshot=True)
    rds.create_db_instance(**SHOP | {"DBInstanceIdentifier": "second"})


def test_what_aurora_costs(account):
    """A cluster costs its volume and I/O, an instance its class or its cluster's maximum of ACUs; other kinds have no price."""
    cloud, rds = live.connect(budget=500), boto3.client("rds")
    volume, address = 10 * 0.10 / 730 + 0.1 * 0.20, 0.005
    scaling = {"MinCapacity": 0, "MaxCapacity": 8}
    rds.create_db_cluster(DBClusterIdentifier="shop", ServerlessV2ScalingConfiguration=scaling, **AURORA)
    assert cloud.meter.hour() == pytest.approx(volume)
    for name, size, more in [
        ("fixed", "db.r6g.large", 0.26 + address),
        ("first", "db.serverless", 8 * 0.12 + address),
        ("second", "db.serverless", 8 * 0.12 + address),
    ]:
        before = cloud.meter.hour()
        rds.create_db_instance(
            DBInstanceIdentifier=name, DBClusterIdentifier="shop", Engine="aurora-postgresql", DBInstanceClass=size
        )
        assert cloud.meter.hour() - before == pytest.approx(more)
    rds.modify_db_cluster(
        DBClusterIdentifier="shop", ServerlessV2ScalingConfiguration=scaling | {"MaxCapacity": 2}, ApplyImmediately=True
    )
    assert cloud.meter.hour() == pytest.approx(volume + 0.26 + address + 2 * (2 * 0.12 + address))
    rds.delete_db_instance(DBInstanceIdentifier="fixed")
    assert cloud.meter.hour() == pytest.approx(volume + 2 * (2 * 0.12 + address))
    one = {"Engine": "aurora-postgresql", "DBInstanceIdentifier": "third", "DBInstanceClass": "db.r8g.48xlarge"}
    with pytest.raises(Refused, match="no price for the Aurora instance class 'db.r8g.48xlarge'"):
        rds.create_db_instance(DBClusterIdentifier="shop", **one)
    with pytest.raises(Refused, match="is in a DB cluster. Name it: DBClusterIdentifier"):
        rds.create_db_instance(**one)
    with pytest.raises(Refused, match="no price for a DB cluster of 'postgres'. Use one of aurora-postgresql"):
        rds.create_db_cluster(DBClusterIdentifier="other", Engine="postgres")
    with pytest.raises(Refused, match="no price for I/O-Optimized storage"):
        rds.modify_db_cluster(DBClusterIdentifier="shop", StorageType="aurora-iopt1")


@pytest.mark.parametrize("switched", [False, True])
def test_a_green_environment_is_priced_and_found(account, switched):
    """What AWS makes for a blue/green deployment is in the bill, has the tags when it is let go, and is deleted."""
    cloud, rds = live.connect(budget=5), boto3.client("rds")
    blue = rds.create_db_instance(**SHOP)["DBInstance"]["DBInstanceArn"]
    made = rds.create_blue_green_deployment(
        BlueGreenDeploymentName="larger", Source=blue, TargetDBInstanceClass="db.t4g.small"
    )["BlueGreenDeployment"]
    assert cloud.meter.hour() == pytest.approx(0.016 + 0.032 + 2 * (20 * 0.115 / 730 + 0.005))
    which = {"BlueGreenDeploymentIdentifier": made["BlueGreenDeploymentIdentifier"]}
    own = cloud.client("rds", "us-east-1")
    own.remove_tags_from_resource(ResourceName=made["Target"], TagKeys=[live.MARK, live.SESSION])
    if switched:
        rds.switchover_blue_green_deployment(**which)
        rds.delete_blue_green_deployment(**which)
        rds.delete_db_instance(DBInstanceIdentifier="shop-db-old1", SkipFinalSnapshot=True)
        assert cloud.meter.hour() == pytest.approx(0.032 + 20 * 0.115 / 730 + 0.005)
    assert cloud.close() == [] and ask("us-east-1", "rds").describe_db_instances()["DBInstances"] == []


def test_a_managed_password_is_a_secret_more(account):
    """A master password that RDS keeps in Secrets Manager adds a secret to the price, of an instance and a cluster."""
    cloud, rds = live.connect(budget=5), boto3.client("rds")
    managed = {name: value for name, value in SHOP.items() if name != "MasterUserPassword"}
    rds.create_db_instance(ManageMasterUserPassword=True, **managed)
    plain = db_instance_hour(SHOP["DBInstanceClass"], SHOP["AllocatedStorage"])
    assert cloud.meter.hour() == pytest.approx(plain + 0.40 / 730)


def test_what_only_the_local_cloud_has_is_refused(account):
    """Killing a host, cutting a link and looking at processes say that AWS lets nobody, and what to do instead."""
    cloud = live.connect()
    for only_local in (cloud.crash, cloud.cut, cloud.heal, cloud.resources):
        with pytest.raises(Refused, match="for the local cloud. Skip the cell. .* RebootDBInstance or FailoverDBCluster"):
            only_local()


def test_a_dead_session_is_swept(account, capsys):
    """What a killed kernel left is shown by sweep() and deleted by sweep(delete=True), in both Regions."""
    cell = "from minicloud import live; import tests.test_live as t, os, signal; live.connect(budget=50);"
    cell += "t.build_everything(); os.kill(os.getpid(), signal.SIGKILL)"
    root = os.path.dirname(os.path.dirname(__file__))
    kernel = subprocess.run(
        [sys.executable, "-c", cell], check=False, cwd=root, capture_output=True, text=True, timeout=120
    )
    assert kernel.returncode == -signal.SIGKILL, kernel.stderr
    assert PASSWORD not in kernel.stdout + kernel.stderr
    assert len(live.sweep()) == 21 and everything("us-west-2") == WEST | BOTH
    assert "DB snapshot monday-west in us-west-2" in capsys.readouterr().out
    assert "21 from an earlier session" in repr(live.connect())
    assert live.sweep(session="another") == []
    assert live.sweep(session="another", delete=True) == [] and everything("us-west-2") == WEST | BOTH
    assert live.sweep(delete=True) == [] == live.sweep()
    assert everything("us-east-1") == everything("us-west-2") == set()


def test_what_cannot_be_deleted_is_said(account, monkeypatch, capsys):
    """close() names what AWS would not let it delete and where to do it, deletes the rest, and can be tried again."""
    cloud = live.connect(budget=50)
    build_everything()
    rds = cloud.client("rds", "us-west-2")
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "DeleteDBSnapshot")

    def deny(**_):
        raise denied

    with monkeypatch.context() as patch:
        patch.setattr(rds, "delete_db_snapshot", deny)
        (left,) = cloud.close()
    assert "monday-west" in left and "AccessDenied" in left and "https://us-west-2.console.aws.amazon.com/rds" in left
    assert left in capsys.readouterr().out and everything("us-west-2") == {"monday-west"}
    assert cloud.close() == [] and everything("us-west-2") == set()


def test_close_waits_and_has_a_deadline(account, monkeypatch, capsys):
    """close() asks again while AWS says not yet, and after its deadline says what is still there."""
    cloud = live.connect(budget=5)
    boto3.client("rds").create_db_instance(**SHOP)
    rds = cloud.client("rds", "us-east-1")
    delete, refusals = rds.delete_db_instance, 3

    def not_yet(**which):
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise ClientError({"Error": {"Code": "InvalidDBInstanceState", "Message": "creating"}}, "DeleteDBInstance")
        return delete(**which)

    monkeypatch.setattr(rds, "delete_db_instance", not_yet)
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "GIVE_UP", -1)
        (left,) = cloud.close()
        assert "DB instance shop-db in us-east-1" in left and "still there" in left and refusals == 2
    assert cloud.close() == [] and refusals == -1 and everything("us-east-1") == set()
    assert "Deleting 1, 0 min: DB instance shop-db in us-east-1 (available)" in capsys.readouterr().out


def test_the_cli_is_refused_what_it_cannot_be_guarded_for(account):
    """A cell whose `aws` command line would change the account is refused; one that reads with it is not."""
    live.connect(budget=5)
    for cell in ("!aws rds create-db-instance", "x = !aws --region r rds stop-db-instance", "%%sh\naws s3 mb s3://x"):
        with pytest.raises(Refused, match="not guarded"):
            live._refuse_cli(cell.splitlines(True))
    for cell in ("!aws rds describe-db-instances", "!aws sts get-caller-identity", "# aws rds create-db-instance"):
        assert live._refuse_cli([cell]) == [cell]


def test_notebooks_and_live_mode_name_the_same_price():
    """What a notebook says that its DB instance costs is what live mode states before it creates it."""
    cost = RULES["db_instance"](PRICES["services"]["rds"], None, "us-east-1", "CreateDBInstance", SHOP)
    assert cost.hour == pytest.approx(db_instance_hour(SHOP["DBInstanceClass"], SHOP["AllocatedStorage"]))


def calls_of(path):
    """Yields (words, whether live mode sends it, source of the cell) for each change that a notebook asks AWS for."""
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    services = set(re.findall(r'boto3\.client\("([a-z0-9-]+)"', "\n".join(cells)))
    models = [botocore.session.get_session().get_service_model(service) for service in services]
    free = PRICES["services"]["rds"]["free_only_at"]
    for source in cells:
        for node in ast.walk(ast.parse(re.sub(r"(?m)^\s*[%!].*", "", source))):
            if isinstance(node, ast.keyword) and node.arg in free:
                yield ast.unparse(node), ast.unparse(node.value) == repr(free[node.arg]), source
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "cloud":
                there = getattr(live.Live, node.attr, live.Live.crash)
                yield ast.unparse(node), there is not live.Live.crash, source
            elif isinstance(node, ast.Attribute) and "_" in node.attr:
                for model in models:
                    operation = {botocore.xform_name(name): name for name in model.operation_names}.get(node.attr)
                    if operation and not operation.startswith(live.READS):
                        operations = PRICES["services"].get(model.service_name, {}).get("operations", {})
                        yield operation, operation in operations, source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_live_mode_knows_what_notebooks_call(path):
    """Live mode sends each operation of a notebook and has each name of `cloud`, or the cell says `not on AWS`."""
    refused = [f"{words} in:\n{source}" for words, sent, source in calls_of(path) if not sent]
    assert [cell for cell in refused if "not on AWS" not in cell] == []


def test_the_price_file_is_sound():
    """Each operation in prices.yml exists, has a rule, and can be tagged if it creates; each price has its source."""
    for service, price in PRICES["services"].items():
        model = botocore.session.get_session().get_service_model(service)
        assert isinstance(price["read"], datetime.date) and price["sources"] and isinstance(price["verified"], bool)
        assert price["check"].startswith("https://aws.amazon.com/")
        for operation, rule in price["operations"].items():
            members = model.operation_model(operation).input_shape.members
            assert rule in RULES
            if operation.startswith(CREATES) and operation != "CreateAlias":  # it goes with its key
                assert {"Tags", "TagSpecifications"} & set(members), operation
