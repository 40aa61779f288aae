"""Who gets in: TLS, security groups, IAM database authentication; and what encryption at rest promises in the records."""

import contextlib
import json
import socket
import ssl
import struct
import time
from datetime import UTC, datetime, timedelta
from unittest import mock

import boto3
import botocore.auth
import psycopg
import pymysql
import pytest
from botocore.exceptions import ClientError
from conftest import PASSWORD, available, create, delete, instance, sql, until

from minicloud.rds.iam_auth import allows

WEST = "us-west-2"


@pytest.fixture(scope="module")
def db(rds):
    """A PostgreSQL DB instance with IAM database authentication, and its database users `jane` and `joe` of rds_iam."""
    with instance(rds, "guarded", "postgres", EnableIAMDatabaseAuthentication=True) as db:
        for user in ("jane", "joe"):
            sql(db, f"CREATE ROLE {user} LOGIN")
            sql(db, f"GRANT rds_iam TO {user}")
        yield db


@pytest.fixture(scope="module")
def my(rds):
    """A MySQL DB instance."""
    with instance(rds, "guarded-my", "mysql") as db:
        yield db


@pytest.fixture
def plain(rds, db):
    """The DB instance `db` with rds.force_ssl off."""
    with parameters(rds, db, "postgres18", {"rds.force_ssl": "0"}):
        yield db


@contextlib.contextmanager
def parameters(rds, db, family, values):
    """Give an instance a parameter group with these values for the length of a `with` block."""
    name, identifier = f"of-{db['DBInstanceIdentifier']}", db["DBInstanceIdentifier"]
    rds.create_db_parameter_group(DBParameterGroupName=name, DBParameterGroupFamily=family, Description="a test's")
    rds.modify_db_parameter_group(DBParameterGroupName=name, Parameters=[
        {"ParameterName": key, "ParameterValue": value, "ApplyMethod": "immediate"} for key, value in values.items()])
    before = db["DBParameterGroups"][0]["DBParameterGroupName"]
    try:
        rds.modify_db_instance(DBInstanceIdentifier=identifier, DBParameterGroupName=name, ApplyImmediately=True)
        available(rds, identifier)
        yield
    finally:
        rds.modify_db_instance(DBInstanceIdentifier=identifier, DBParameterGroupName=before, ApplyImmediately=True)
        available(rds, identifier)
        rds.delete_db_parameter_group(DBParameterGroupName=name)


def login(db, user="shopadmin", password=PASSWORD, **options):
    """Log in to a PostgreSQL and return who one is there, encrypted or not; raise psycopg.OperationalError."""
    where = {"host": db["Endpoint"]["Address"], "port": db["Endpoint"]["Port"], "dbname": "shop", "connect_timeout": 5,
             "sslmode": "require"}
    with psycopg.connect(**where | options, user=user, password=password) as connection:
        return connection.execute("SELECT current_user").fetchone()[0], bool(connection.pgconn.ssl_in_use)


def token(db, user="jane", client=None, **changes) -> str:
    """Return what `generate_db_auth_token` gives for the instance."""
    return (client or boto3.client("rds")).generate_db_auth_token(**{
        "DBHostname": db["Endpoint"]["Address"], "Port": db["Endpoint"]["Port"], "DBUsername": user} | changes)


# TLS

@pytest.mark.parametrize("options", [{}, {"sslnegotiation": "direct"}], ids=["SSLRequest", "direct"])
def test_a_client_can_verify_the_server(cloud, db, options):
    """`verify-full` with the cloud's bundle connects, in both ways to begin; another host name or authority is refused."""
    assert login(db, sslmode="verify-full", sslrootcert=cloud.ca_bundle, **options) == ("shopadmin", True)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        login(db, sslmode="verify-full", sslrootcert=cloud.ca_bundle, host="db.example", hostaddr="127.0.0.1", **options)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        login(db, sslmode="verify-full", sslrootcert="system", **options)


def test_unencrypted_connections_are_refused_unless_the_parameter_group_lets_them(rds, db):
    """rds.force_ssl is on by default, refuses in PostgreSQL's words, and is dynamic."""
    with pytest.raises(psycopg.OperationalError, match='no pg_hba.conf entry for host .*"shop", no encryption'):
        login(db, sslmode="disable")
    with parameters(rds, db, "postgres18", {"rds.force_ssl": "0"}):
        assert login(db, sslmode="disable") == ("shopadmin", False)
        rds.modify_db_parameter_group(DBParameterGroupName="of-guarded", Parameters=[
            {"ParameterName": "rds.force_ssl", "ParameterValue": "on", "ApplyMethod": "immediate"}])
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            login(db, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        login(db, sslmode="disable")


def mysql(db, **options):
    """Log in to a MySQL and return the cipher of the connection."""
    with pymysql.connect(host=db["Endpoint"]["Address"], port=db["Endpoint"]["Port"], user="shopadmin",
                         password=PASSWORD, connect_timeout=5, **options) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        return cursor.fetchone()[1]


def test_mysql_speaks_tls_and_can_insist_on_it(cloud, rds, my):
    """MySQL shows the same authority's certificate; require_secure_transport, off by default, refuses the others."""
    assert mysql(my, ssl_ca=cloud.ca_bundle, ssl_verify_cert=True, ssl_verify_identity=True)
    assert mysql(my, ssl_disabled=True) == ""
    with parameters(rds, my, "mysql8.4", {"require_secure_transport": "1"}):
        with pytest.raises(pymysql.OperationalError, match="insecure transport are prohibited"):
            mysql(my, ssl_disabled=True)
        assert mysql(my, ssl_ca=cloud.ca_bundle)
    assert mysql(my, ssl_disabled=True) == ""


def test_a_large_answer_and_a_large_question_pass_tls_whole(db):
    """Nine megabytes go through TLS and come back the same, and a statement can be cancelled."""
    text = "æ" * 4_500_000
    with psycopg.connect(host=db["Endpoint"]["Address"], port=db["Endpoint"]["Port"], dbname="shop", user="shopadmin",
                         password=PASSWORD, sslmode="require", autocommit=True) as connection:
        assert connection.execute("SELECT %s", [text]).fetchone()[0] == text
        connection.execute("SET statement_timeout = 0")
        with connection.cursor() as cursor, pytest.raises(psycopg.errors.QueryCanceled):
            import threading
            threading.Timer(0.3, connection.cancel).start()
            cursor.execute("SELECT pg_sleep(20)")


def test_the_authority_is_described(cloud, rds, db):
    """DescribeCertificates and the instance name the authority whose certificate is in the bundle."""
    described, = rds.describe_certificates()["Certificates"]
    pem = ssl.create_default_context(cafile=cloud.ca_bundle).get_ca_certs()
    assert described["CertificateIdentifier"] == db["CACertificateIdentifier"] == dict(pem[0]["subject"][0])["commonName"]
    assert abs(described["ValidTill"] - datetime.fromtimestamp(ssl.cert_time_to_seconds(pem[0]["notAfter"]), UTC)
               ) < timedelta(seconds=2)


# Security groups

def reachable(db, seconds=2) -> bool:
    """Say whether a login is answered; False when it times out."""
    with contextlib.suppress(psycopg.errors.ConnectionTimeout):
        return login(db, connect_timeout=seconds) is not None
    return False


def test_a_security_group_decides_and_its_change_holds_at_once(cloud, rds, db):
    """Without a rule packets vanish; a rule for the notebook's address or group lets in; open connections stay open."""
    ec2 = boto3.client("ec2")
    before = [group["VpcSecurityGroupId"] for group in db["VpcSecurityGroups"]]
    group = ec2.create_security_group(GroupName="shop-db", Description="a test's")["GroupId"]
    port = db["Endpoint"]["Port"]
    rules = {
        "its address": ({"FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": f"{cloud.address}/32"}]}, True),
        "the port as described": ({"FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "172.31.0.0/16"}]}, True),
        "its group": ({"FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": [{"GroupId": before[0]}]}, True),
        "another address": ({"FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "203.0.113.0/24"}]}, False),
        "another port": ({"FromPort": port + 1, "ToPort": port + 1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, False),
        "another group": ({"FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": [{"GroupId": group}]}, False),
    }
    with sql(db) as open_connection:
        rds.modify_db_instance(DBInstanceIdentifier="guarded", VpcSecurityGroupIds=[group])
        available(rds, "guarded")
        assert not reachable(db)
        for what, (rule, lets_in) in rules.items():
            permission = [{"IpProtocol": "tcp"} | rule]
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permission)
            assert reachable(db) == lets_in, what
            ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=permission)
        assert not reachable(db)
        assert open_connection.execute("SELECT 1").fetchone() == (1,)
    rds.modify_db_instance(DBInstanceIdentifier="guarded", VpcSecurityGroupIds=before)
    available(rds, "guarded")
    assert reachable(db)
    ec2.delete_security_group(GroupId=group)


def test_a_vpc_of_its_own_keeps_the_notebook_out(rds):
    """An instance in other subnets is out of reach, whatever its rules, unless it is publicly accessible."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    a, a2, b = (ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
        "SubnetId"] for n, zone in enumerate("aab"))
    name = {"DBSubnetGroupName": "far", "DBSubnetGroupDescription": "a test's"}
    with pytest.raises(rds.exceptions.DBSubnetGroupDoesNotCoverEnoughAZs, match="at least 2 AZs"):
        rds.create_db_subnet_group(**name, SubnetIds=[a, a2])
    rds.create_db_subnet_group(**name, SubnetIds=[a, b])
    here = next(group for group in ec2.describe_security_groups()["SecurityGroups"] if group["VpcId"] != vpc)
    with pytest.raises(ClientError, match="different VPCs"):
        create(rds, "far", "postgres", DBSubnetGroupName="far", VpcSecurityGroupIds=[here["GroupId"]])
    with instance(rds, "far", "postgres", DBSubnetGroupName="far") as db:
        group = db["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
        assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["VpcId"] == vpc
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
        assert not reachable(db)
        rds.modify_db_instance(DBInstanceIdentifier="far", PubliclyAccessible=True, ApplyImmediately=True)
        until(lambda: reachable(db), "its public address answers")


# IAM database authentication

@pytest.fixture
def user(cloud):
    """An IAM user without policies: its name and an RDS client that signs with its access key."""
    iam = boto3.client("iam")
    iam.create_user(UserName="clerk")
    key = iam.create_access_key(UserName="clerk")["AccessKey"]
    yield "clerk", boto3.client("rds", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
    for policy in iam.list_user_policies(UserName="clerk")["PolicyNames"]:
        iam.delete_user_policy(UserName="clerk", PolicyName=policy)
    iam.delete_access_key(UserName="clerk", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="clerk")


def let(name, effect, resource):
    """Give an IAM user a policy about connecting to a resource."""
    boto3.client("iam").put_user_policy(UserName=name, PolicyName=effect, PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": "rds-db:connect", "Resource": resource}]}))


def test_a_token_is_the_password(cloud, rds, db):
    """A user of rds_iam gets in by a fresh token over verified TLS; everybody else goes on with a password."""
    assert login(db, "jane", token(db), sslmode="verify-full", sslrootcert=cloud.ca_bundle) == ("jane", True)
    assert login(db, "joe", token(db, "joe"), sslnegotiation="direct") == ("joe", True)
    assert login(db) == ("shopadmin", True)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        login(db, password=token(db, "shopadmin"))


def old(db, seconds):
    """Return a token that was made some seconds ago."""
    with mock.patch.object(botocore.auth, "get_current_datetime",
                           lambda remove_tzinfo=True: datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)):
        return token(db)


def stretched(db):
    """Return a token made 20 minutes ago that says, rightly signed, that it is good for an hour."""
    client, where = boto3.client("rds"), db["Endpoint"]
    request = {"url_path": "/", "query_string": "", "headers": {}, "method": "GET", "context": {},
               "url": f"https://{where['Address']}:{where['Port']}/", "body": {"Action": "connect", "DBUser": "jane"}}
    with mock.patch.object(botocore.auth, "get_current_datetime",
                           lambda remove_tzinfo=True: datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=20)):
        return client._request_signer.generate_presigned_url(
            request, operation_name="connect", region_name="us-east-1", expires_in=3600, signing_name="rds-db"
        ).removeprefix("https://")


def altered(text):
    """Return a token with another last digit in its signature."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


BAD = {
    "of another user": lambda db: token(db, "joe"),
    "with the user's name put in": lambda db: token(db, "joe").replace("DBUser=joe", "DBUser=jane"),
    "altered": lambda db: altered(token(db)),
    "unsigned": lambda db: token(db).split("&X-Amz-Signature")[0],
    "too old": lambda db: old(db, 901),
    "too old, and says it is not": stretched,
    "of the future": lambda db: old(db, -400),
    "for another port": lambda db: token(db, Port=db["Endpoint"]["Port"] + 1),
    "for another host": lambda db: token(db, DBHostname="db.example"),
    "for another Region": lambda db: token(db, Region=WEST),
    "with a second user": lambda db: token(db, "joe") + "&DBUser=jane",
    "by nobody's key": lambda db: token(db, client=boto3.client("rds", aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
                                                                aws_secret_access_key="x" * 40)),
    "empty": lambda db: " ",
    "a password": lambda db: PASSWORD,
    "garbage": lambda db: "\x7f/?&=%%\u2603" + "&" * 3000,
}


@pytest.mark.parametrize("what", BAD)
def test_a_token_is_refused(db, what):
    """A token that is not exactly this user's, this endpoint's, and under 15 minutes old is refused, as RDS words it."""
    assert login(db, "jane", old(db, 890)) == ("jane", True)
    with pytest.raises(psycopg.OperationalError, match='PAM authentication failed for user "jane"'):
        login(db, "jane", BAD[what](db))


def test_a_policy_must_allow_the_connection(db, user):
    """An IAM user's token counts only while a policy allows rds-db:connect for that user of that instance."""
    name, client = user
    resource = f"arn:aws:rds-db:us-east-1:123456789012:dbuser:{db['DbiResourceId']}"
    refused = pytest.raises(psycopg.OperationalError, match="PAM")
    with refused:
        login(db, "jane", token(db, client=client))
    let(name, "Allow", f"{resource}/jane")
    assert login(db, "jane", token(db, client=client)) == ("jane", True)
    with refused:
        login(db, "joe", token(db, "joe", client=client))
    let(name, "Allow", "arn:aws:rds-db:*:*:dbuser:*/j*")
    assert login(db, "joe", token(db, "joe", client=client)) == ("joe", True)
    let(name, "Deny", f"{resource}/joe")
    with refused:
        login(db, "joe", token(db, "joe", client=client))
    assert login(db, "jane", token(db, client=client)) == ("jane", True)
    key = client._request_signer._credentials.access_key
    boto3.client("iam").update_access_key(UserName=name, AccessKeyId=key, Status="Inactive")
    with refused:
        login(db, "jane", token(db, client=client))


def test_a_role_signs_with_its_session(db):
    """Credentials of an assumed role count by the role's policies, and only with their session token."""
    iam = boto3.client("iam")
    role = iam.create_role(RoleName="app", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    keys = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    words = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"]}
    client = boto3.client("rds", **words, aws_session_token=keys["SessionToken"])
    with pytest.raises(psycopg.OperationalError, match="PAM"):
        login(db, "jane", token(db, client=client))
    iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": ["rds-db:connect"], "Resource": ["*"]}}))
    assert login(db, "jane", token(db, client=client)) == ("jane", True)
    for other in (None, "another"):
        with pytest.raises(psycopg.OperationalError, match="PAM"):
            login(db, "jane", token(db, client=boto3.client("rds", **words, aws_session_token=other)))


@pytest.mark.parametrize(("statement", "allowed"), [
    ({"Effect": "Allow", "Action": "*", "Resource": "*"}, True),
    ({"Effect": "Allow", "Action": "RDS-DB:Connect", "Resource": "arn:aws:rds-db:r:1:dbuser:db-1/jan?"}, True),
    ({"Effect": "Allow", "Action": "rds-db:connect", "Resource": "arn:aws:rds-db:r:1:dbuser:db-1/jan"}, False),
    ({"Effect": "Allow", "Action": "rds-db:connect", "Resource": "arn:aws:rds-db:r:1:dbuser:db-1/.*"}, False),
    ({"Effect": "Allow", "NotAction": "rds-db:*", "Resource": "*"}, False),
    ({"Effect": "Allow", "Action": "rds-db:*", "NotResource": "arn:aws:rds-db:r:1:dbuser:db-2/*"}, True),
    ({"Effect": "Deny", "Action": "rds-db:*", "NotResource": "arn:aws:rds-db:r:1:dbuser:db-2/*"}, False),
    ({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, False),
])
def test_a_policy_statement_means_what_iam_says(statement, allowed):
    """Wildcards, the Not-elements, denials and conditions are read as IAM reads them, and never more generously."""
    assert allows([statement], "rds-db:connect", "arn:aws:rds-db:r:1:dbuser:db-1/jane") == allowed


def test_a_token_does_not_travel_unencrypted(plain):
    """Where unencrypted connections are let in, a user of rds_iam is still refused there, before its token is asked for."""
    assert login(plain, sslmode="disable") == ("shopadmin", False)
    with pytest.raises(psycopg.OperationalError, match='pg_hba.conf rejects connection for host .* no encryption'):
        login(plain, "jane", token(plain), sslmode="disable")


def test_without_iam_on_the_instance_no_token_counts(rds, db):
    """EnableIAMDatabaseAuthentication can be switched off and on, and off lets no user of rds_iam in."""
    for on in (False, True):
        rds.modify_db_instance(DBInstanceIdentifier="guarded", EnableIAMDatabaseAuthentication=on, ApplyImmediately=True)
        assert available(rds, "guarded")["IAMDatabaseAuthenticationEnabled"] == on
        with contextlib.nullcontext() if on else pytest.raises(psycopg.OperationalError, match="PAM"):
            login(db, "jane", token(db))


@pytest.mark.parametrize(("engine", "code"), [("oracle-se2", "InvalidParameterCombination"), ("mysql", "NotImplemented")])
def test_iam_is_refused_where_it_is_not(rds, engine, code):
    """Oracle has no IAM database authentication on RDS; MySQL has, but not here, and the refusal says so."""
    with pytest.raises(ClientError) as refusal:
        create(rds, "no-iam", engine, EnableIAMDatabaseAuthentication=True, DBName="SHOP", DBInstanceClass="db.t3.small")
    assert refusal.value.response["Error"]["Code"] == code


# The hostile client

def packet(*words: bytes, code: int = 196608) -> bytes:
    """Return a start-up packet."""
    body = struct.pack("!I", code) + b"".join(word + b"\0" for word in words)
    return struct.pack("!I", len(body) + 4) + body


START = packet(b"user", b"jane", b"database", b"shop", b"")
QUERY = b"Q" + struct.pack("!I", 4 + 30) + b"INSERT INTO stolen VALUES (1)\0"


def dial(db) -> socket.socket:
    connection = socket.create_connection((db["Endpoint"]["Address"], db["Endpoint"]["Port"]), timeout=3)
    connection.settimeout(0.5)
    return connection


def encrypted(db, direct=False) -> ssl.SSLSocket:
    connection = dial(db)
    if not direct:
        connection.sendall(packet(code=80877103))
        assert connection.recv(1) == b"S"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"] if direct else [])
    return context.wrap_socket(connection)


def hear(connection) -> bytes:
    """Return what the server says until it is silent or hangs up."""
    heard = b""
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            heard += data
    connection.close()
    return heard


def let_in(heard: bytes) -> bool:
    """Say whether an answer holds AuthenticationOk."""
    return b"R\0\0\0\x08\0\0\0\0" in heard


HOSTILE = {
    "a query behind the start": [START + QUERY],
    "a query after the start": [START, QUERY],
    "an unknown option first": [packet(b"user", b"jane", b"database", b"shop", b"_pq_.x", b"1", b"", code=196610) + QUERY],
    "in single bytes": [bytes([byte]) for byte in START + QUERY],
    "an empty password": [START, b"p\0\0\0\x05\0", QUERY],
    "a password of wrong length": [START, b"p\0\0\0\x04", QUERY],
    "a huge password": [START, b"p" + struct.pack("!I", 1 << 30) + b"x" * 1000, QUERY],
    "no password but a query": [START, QUERY, QUERY],
    "the user named twice": [packet(b"user", b"shopadmin", b"user", b"jane", b"database", b"shop", b"") + QUERY],
    "by replication": [packet(b"user", b"jane", b"database", b"shop", b"replication", b"database", b"") + QUERY],
    "by physical replication": [packet(b"user", b"jane", b"replication", b"true", b"") + QUERY],
    "half a packet": [START[:20]],
    "a packet without end": [packet(b"user", b"jane") + QUERY],
    "an old protocol": [packet(b"user", b"jane", b"", code=131072) + QUERY],
    "a cancellation": [packet(b"\1\2\3\4\5\6\7\1", code=80877102) + START + QUERY],
    "a second request for TLS": [packet(code=80877103) + START + QUERY],
    "GSS, then the start": [packet(code=80877104) + START + QUERY],
}


@pytest.mark.parametrize("how", ["plain", "TLS", "direct TLS"])
@pytest.mark.parametrize("attack", HOSTILE)
def test_no_way_in_without_a_token(plain, attack, how):
    """Whatever a client of rds_iam says in place of a token, it is not let in, and nothing it says reaches the server."""
    sql(plain, "CREATE TABLE IF NOT EXISTS stolen (i int)")
    sql(plain, "GRANT ALL ON stolen TO public")
    connection = dial(plain) if how == "plain" else encrypted(plain, how == "direct TLS")
    with contextlib.suppress(OSError):
        for part in HOSTILE[attack]:
            connection.sendall(part)
            time.sleep(0.05 if len(part) > 1 else 0.001)
    heard = hear(connection)
    assert not let_in(heard) and b"INSERT" not in heard
    until(lambda: sql(plain, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'jane'") == [(0,)], "no session is left")
    assert sql(plain, "SELECT count(*) FROM stolen") == [(0,)]


def test_a_name_that_postgresql_would_cut_off_is_nobodys(db):
    """A token for a name of 64 letters does not let in the user of rds_iam whose name is the first 63."""
    sql(db, f"CREATE ROLE {'j' * 63} LOGIN IN ROLE rds_iam")
    assert login(db, "j" * 63, token(db, "j" * 63)) == ("j" * 63, True)
    with pytest.raises(psycopg.OperationalError, match="closed"):
        login(db, "j" * 64, token(db, "j" * 64))


def test_words_before_the_encryption_do_not_count_within_it(db):
    """A start-up that is smuggled in behind the wish for TLS ends the connection (CVE-2021-23214)."""
    connection = dial(db)
    connection.sendall(packet(code=80877103) + START)
    assert hear(connection) == b""


def test_direct_tls_must_ask_for_postgresql(db):
    """TLS from the first byte without the protocol's name (ALPN) is cut off, as it may be meant for another service."""
    connection = dial(db)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(connection)
    with contextlib.suppress(OSError):
        connection.sendall(START)
    assert hear(connection) == b""


@pytest.mark.parametrize("how", [{"sslmode": "require"}, {"sslmode": "disable"}], ids=["TLS", "plain"])
def test_the_administrator_is_out_of_reach(plain, how):
    """rdsadmin is refused at an instance's endpoint, with whatever password or token."""
    for password in (PASSWORD, token(plain, "rdsadmin")):
        with pytest.raises(psycopg.OperationalError, match="pg_hba.conf rejects connection"):
            login(plain, "rdsadmin", password, **how)


def test_a_link_between_servers_is_for_servers(cloud, rds, db):
    """At the port by which a replica reaches its source nobody else gets in, and no user of rds_iam by trust."""
    rds.create_db_instance_read_replica(DBInstanceIdentifier="copy", SourceDBInstanceIdentifier="guarded")
    replica = available(rds, "copy")
    ports = listening(cloud) - {known["Endpoint"]["Port"] for known in rds.describe_db_instances()["DBInstances"]}
    assert ports
    for port in ports:
        for start in (START, packet(b"user", b"shopadmin", b"database", b"shop", b"")):
            connection = socket.create_connection(("127.0.0.1", port), timeout=3)
            connection.settimeout(1)
            connection.sendall(start + QUERY)
            heard = hear(connection)
            assert not let_in(heard) and heard[:1] in (b"", b"E")
    with pytest.raises(psycopg.OperationalError, match="PAM"):
        login(replica, "jane", token(db))  # a token of the source's endpoint
    delete(rds, "copy")


def listening(cloud) -> set[int]:
    """Return the ports of the forwarder's that speak PostgreSQL."""
    import psutil
    forwarder, = (p for p in psutil.Process(cloud._process.pid).children() if "minicloud.endpoint" in p.cmdline())
    return {c.laddr.port for c in forwarder.net_connections() if c.status == psutil.CONN_LISTEN}


def test_granting_rds_iam_takes_nobody_else_the_password(db):
    """The master user, who creates the users of rds_iam and so is a member of them, still needs its password."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        login(db, password="not-" + PASSWORD)


# Encryption at rest: records

@pytest.fixture(scope="module")
def keys(cloud):
    """Two KMS keys in each of two Regions, by Region."""
    found = {}
    for region in ("us-east-1", WEST):
        kms = boto3.client("kms", region_name=region)
        found[region] = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    boto3.client("kms").create_alias(AliasName="alias/shop", TargetKeyId=found["us-east-1"][0])
    return found


def test_a_key_is_taken_by_any_of_its_names_and_inherited(rds, keys):
    """Alias, id and ARN of a key are recorded as its ARN; snapshots, copies, restores and replicas have the same one."""
    key, other = keys["us-east-1"]
    west = boto3.client("rds", region_name=WEST)
    with instance(rds, "sealed", "postgres", StorageEncrypted=True, KmsKeyId="alias/shop") as db:
        assert (db["StorageEncrypted"], db["KmsKeyId"]) == (True, key)
        snapshot = rds.create_db_snapshot(DBInstanceIdentifier="sealed", DBSnapshotIdentifier="s")["DBSnapshot"]
        rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier="s")
        assert (snapshot["Encrypted"], snapshot["KmsKeyId"]) == (True, key)
        copies = {None: key, other.rsplit("/")[-1]: other, other: other}
        for n, (asked, expected) in enumerate(copies.items()):
            copy = rds.copy_db_snapshot(SourceDBSnapshotIdentifier="s", TargetDBSnapshotIdentifier=f"s{n}",
                                        **({"KmsKeyId": asked} if asked else {}))["DBSnapshot"]
            assert (copy["Encrypted"], copy["KmsKeyId"]) == (True, expected)
        with pytest.raises(ClientError, match="KMS keys do not leave their Region"):
            west.copy_db_snapshot(SourceDBSnapshotIdentifier=snapshot["DBSnapshotArn"], TargetDBSnapshotIdentifier="w")
        replicas = {"here": (rds, {}, key), "far": (west, {"KmsKeyId": keys[WEST][0]}, keys[WEST][0])}
        with pytest.raises(ClientError, match="KMS keys do not leave their Region"):
            west.create_db_instance_read_replica(DBInstanceIdentifier="far",
                                                 SourceDBInstanceIdentifier=db["DBInstanceArn"])
        with pytest.raises(ClientError, match="is encrypted with the source's"):
            rds.create_db_instance_read_replica(DBInstanceIdentifier="here", KmsKeyId=other,
                                                SourceDBInstanceIdentifier=db["DBInstanceArn"])
        for name, (client, asked, expected) in replicas.items():
            client.create_db_instance_read_replica(DBInstanceIdentifier=name, **asked,
                                                   SourceDBInstanceIdentifier=db["DBInstanceArn"])
            replica = available(client, name)
            assert (replica["StorageEncrypted"], replica["KmsKeyId"]) == (True, expected)
        for name, (client, *_) in replicas.items():
            delete(client, name)


def test_encryption_comes_by_a_copy_of_a_snapshot_only(rds, keys):
    """An unencrypted instance has no encrypted replica; an encrypted copy of its snapshot restores to an encrypted one."""
    with instance(rds, "bare", "postgres") as db:
        assert db["StorageEncrypted"] is False and "KmsKeyId" not in db
        with pytest.raises(ClientError, match="encrypted read replica from an unencrypted"):
            rds.create_db_instance_read_replica(DBInstanceIdentifier="r", SourceDBInstanceIdentifier="bare",
                                                KmsKeyId="alias/shop")
        snapshot = rds.create_db_snapshot(DBInstanceIdentifier="bare", DBSnapshotIdentifier="b")["DBSnapshot"]
        assert snapshot["Encrypted"] is False
        rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier="b")
        rds.copy_db_snapshot(SourceDBSnapshotIdentifier="b", TargetDBSnapshotIdentifier="c", KmsKeyId="alias/shop")
        rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier="c")
    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="bare2", DBSnapshotIdentifier="c")
    restored = available(rds, "bare2")
    assert (restored["StorageEncrypted"], restored["KmsKeyId"]) == (True, keys["us-east-1"][0])
    again = rds.copy_db_snapshot(SourceDBSnapshotIdentifier="c", TargetDBSnapshotIdentifier="d")["DBSnapshot"]
    assert again["KmsKeyId"] == keys["us-east-1"][0]
    delete(rds, "bare2")


@pytest.mark.parametrize("name", ["alias/nobody", "11111111-2222-3333-4444-555555555555", "disabled", "of another Region",
                                  f"arn:aws:kms:{WEST}:123456789012:alias/shop"])
def test_a_key_that_cannot_be_used_is_refused(rds, keys, name):
    """An unknown, disabled or foreign key is KMSKeyNotAccessibleFault; a key without StorageEncrypted is refused too."""
    kms = boto3.client("kms")
    if name == "disabled":
        name = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.disable_key(KeyId=name)
    name = keys[WEST][0] if name == "of another Region" else name
    with pytest.raises(rds.exceptions.KMSKeyNotAccessibleFault):
        create(rds, "sealed", "postgres", StorageEncrypted=True, KmsKeyId=name)
    with pytest.raises(ClientError, match="set StorageEncrypted"):
        create(rds, "sealed", "postgres", KmsKeyId="alias/shop")


def test_what_a_key_has_encrypted_is_unreadable_without_it(keys):
    """KMS uses a key while it is enabled, and neither when it is disabled nor when it waits to be deleted."""
    kms = boto3.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"cheese")["CiphertextBlob"]
    uses = [lambda: kms.decrypt(CiphertextBlob=sealed), lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256")]
    for change, error in ((kms.disable_key, kms.exceptions.DisabledException),
                          (kms.enable_key, None),
                          (kms.schedule_key_deletion, kms.exceptions.KMSInvalidStateException)):
        change(KeyId=key)
        for use in uses:
            with pytest.raises(error) if error else contextlib.nullcontext():
                use()


def test_the_master_password_in_secrets_manager_is_rotated(rds):
    """RotateMasterUserPassword puts a new password in the secret and in the engine; the old one opens nothing."""
    store = boto3.client("secretsmanager")

    def password(db):
        return json.loads(store.get_secret_value(SecretId=db["MasterUserSecret"]["SecretArn"])["SecretString"])["password"]

    rds.create_db_instance(DBInstanceIdentifier="managed", Engine="postgres", DBInstanceClass="db.t4g.micro", DBName="shop",
                           AllocatedStorage=20, MasterUsername="shopadmin", ManageMasterUserPassword=True)
    db = available(rds, "managed")
    first = password(db)
    assert login(db, password=first)
    rds.modify_db_instance(DBInstanceIdentifier="managed", RotateMasterUserPassword=True, ApplyImmediately=True)
    db = available(rds, "managed")
    assert password(db) != first and login(db, password=password(db))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        login(db, password=first)
    delete(rds, "managed")
