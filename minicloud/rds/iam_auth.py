"""IAM database authentication: is this password a token that AWS would take for this database user?

A token is a request to `rds-db:connect`, signed (Signature Version 4) by an IAM identity and presigned as a URL without
its scheme. Nothing is asked of anybody when one is made; what is checked, the database does when it gets one.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

import datetime
import hmac
import re
import urllib.parse
from collections.abc import Iterator

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core.utils import utcnow
from moto.iam.access_control import IAMPolicy
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

LIFETIME = datetime.timedelta(minutes=15)
SKEW = datetime.timedelta(minutes=5)  # how far ahead a client's clock may be, as in AWS's other signed requests
ACTION = "rds-db:connect"
FIELDS = {"Action", "DBUser", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
          "X-Amz-SignedHeaders", "X-Amz-Signature"}
OPTIONAL = {"X-Amz-Security-Token"}


class Refused(Exception):
    """The token is not accepted; the message says why, for the cloud's log: the client is not told."""


def check(token: str, user: str, address: str, resource_id: str, account: str, region: str, owner: Credentials) -> None:
    """Raise Refused unless `token` lets the database user in at `address` ("host:port") now.

    `owner`: the credentials that the cloud gave its owner, who may do everything. `resource_id`: DbiResourceId.
    """
    host, _, query = token.partition("/?")
    if host != address:
        raise Refused(f"it is for {host!r}, and this is {address}")
    fields = _fields(query)
    if fields["Action"] != "connect" or fields["DBUser"] != user:
        raise Refused(f"it is for the user {fields['DBUser']!r}, not {user!r}")
    _check_time(fields)
    key = fields["X-Amz-Credential"].partition("/")[0]  # the rest is in the signature
    identity = _identity(key, fields.get("X-Amz-Security-Token"), account, owner)
    signature = _sign(host, query, fields, region, identity.credentials)
    if not hmac.compare_digest(signature.encode(), fields["X-Amz-Signature"].encode()):
        raise Refused("its signature is wrong")
    resource = f"arn:aws:rds-db:{region}:{account}:dbuser:{resource_id}/{user}"
    if identity.statements is not None and not allows(identity.statements, ACTION, resource):
        raise Refused(f"no policy allows {key} {ACTION} on {resource}")


def _fields(query: str) -> dict[str, str]:
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise Refused("it is no token") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or not FIELDS <= fields.keys() <= FIELDS | OPTIONAL:
        raise Refused(f"its fields are {[name for name, _ in pairs]}")
    if (fields["X-Amz-Algorithm"], fields["X-Amz-SignedHeaders"]) != ("AWS4-HMAC-SHA256", "host"):
        raise Refused("it is signed in another way")
    return fields


def _check_time(fields: dict[str, str]) -> None:
    try:
        signed = datetime.datetime.strptime(fields["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        lifetime = min(datetime.timedelta(seconds=int(fields["X-Amz-Expires"])), LIFETIME)
    except (ValueError, OverflowError):
        raise Refused("its times are no times") from None
    age = datetime.datetime.now(datetime.UTC) - signed
    if not -SKEW <= age < lifetime:
        raise Refused(f"it was made {age.total_seconds():.0f} s ago")


def _sign(host: str, query: str, fields: dict[str, str], region: str, credentials: Credentials) -> str:
    """Return the signature that these credentials give a request with this query."""
    unsigned = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
    request = AWSRequest("GET", f"https://{host}/?{unsigned}")
    request.context["timestamp"] = fields["X-Amz-Date"]
    signer = SigV4QueryAuth(credentials, "rds-db", region)
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)


class _Identity:
    """Who signed: the credentials, and the statements of all its policies (None: the owner, who may do everything)."""

    def __init__(self, credentials: Credentials, statements: list[dict] | None):
        self.credentials, self.statements = credentials, statements


def _identity(key: str, session: str | None, account: str, owner: Credentials) -> _Identity:
    """Return whose access key this is: the cloud's owner's, an IAM user's, or that of a session of a role."""
    if session is None and key == owner.access_key:
        return _Identity(owner, None)
    iam = iam_backends[account]["aws"]
    if session is None:
        for user in iam.users.values():
            for own in user.access_keys:
                if own.access_key_id == key and own.status == "Active":
                    return _Identity(Credentials(key, own.secret_access_key), list(_of_user(iam, user.name)))
    for role in sts_backends[account]["aws"].assumed_roles if session else []:
        if role.access_key_id == key and role.session_token == session:
            name = role.role_arn.split("/")[-1]
            if role.expiration <= utcnow():
                raise Refused("its session has ended")
            if role.policy or iam.get_role(name).permissions_boundary_arn:
                raise Refused("what bounds its session or role beyond the role's policies is not evaluated here")
            return _Identity(Credentials(key, role.secret_access_key), list(_of_role(iam, name)))
    raise Refused(f"nobody has the access key {key}")


def _of_user(iam, name: str) -> Iterator[dict]:
    """Yield the statements of a user's policies, its groups' among them."""
    yield from _statements(iam.get_user_policy(name, policy) for policy in iam.list_user_policies(name))
    yield from _statements(iam.list_attached_user_policies(name)[0])
    for group in iam.get_groups_for_user(name):
        yield from _statements(iam.get_group_policy(group.name, policy) for policy in iam.list_group_policies(group.name))
        yield from _statements(iam.list_attached_group_policies(group.name)[0])


def _of_role(iam, name: str) -> Iterator[dict]:
    """Yield the statements of a role's policies."""
    yield from _statements(iam.get_role_policy(name, policy)[1] for policy in iam.list_role_policies(name))
    yield from _statements(iam.list_attached_role_policies(name)[0])


def _statements(policies) -> Iterator[dict]:
    for policy in policies:
        found = IAMPolicy(policy)._policy_json["Statement"]  # moto reads each of its own forms of a policy
        yield from found if isinstance(found, list) else [found]


def allows(statements: list[dict], action: str, resource: str) -> bool:
    """Say whether policies allow an action: one must, and none may deny it.

    moto's own evaluation takes a denial of all but some resources (NotResource) for a permission. Conditions are not
    evaluated here: what holds only on a condition allows nothing, and denies.
    """
    effects = {statement["Effect"] for statement in statements
               if _matches(statement, "Action", action.lower(), str.lower) and _matches(statement, "Resource", resource)
               and not (statement["Effect"] == "Allow" and "Condition" in statement)}
    return effects == {"Allow"}


def _matches(statement: dict, element: str, value: str, fold=str) -> bool:
    """Say whether a statement's element, or its opposite (NotAction, NotResource), covers `value`."""
    name = element if element in statement else f"Not{element}"
    patterns = statement.get(name, [])
    patterns = [patterns] if isinstance(patterns, str) else patterns
    found = any(re.fullmatch(re.escape(fold(p)).replace(r"\*", ".*").replace(r"\?", "."), value, re.DOTALL)
                for p in patterns)
    return found == (name == element)
