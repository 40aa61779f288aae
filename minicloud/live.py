"""Live mode: the same boto3 cells on the reader's own AWS account, carefully.

`connect(budget=5)` shows whose account it is and then stands before every boto3 call of this Python process, whichever
Session or client makes it. Reads pass. Anything else must be named in prices.yml and must touch only what live mode
created. Its price is stated before it is sent; it is refused when it could take the bill over the budget; it is tagged.
`close()` finds by tag what was created, deletes it and waits until it is gone. `sweep()` does so for a session whose
kernel died.

Not guarded, and said so on connect: programs outside this Python process (another notebook, the console, the AWS CLI;
in a notebook, `!aws` lines that change anything are refused), data sent to the internet, API requests, KMS, and tax.
"""

import datetime
import functools
import gc
import html
import os
import re
import secrets
import tempfile
import threading
import urllib.request

import boto3
import botocore
import botocore.client
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.validate import ParamValidator
from IPython import get_ipython
from IPython.display import display

from minicloud import local
from minicloud.live_leftovers import EXPIRES, KINDS, MARK, SESSION, delete_all, left_behind
from minicloud.prices import CREATES, PRICES, RULES, Meter, Refused, described, dollars

FORGOTTEN = 24  # hours: the budget must also cover everything being left to run until this time tomorrow
READS = ("Describe", "List", "Get", "Head", "Download")
CLI_READS = ("describe-", "list-", "get-", "head-", "download-", "ls", "wait", "help")
SIGN_IN = {"sts", "sso", "sso-oidc", "signin"}  # what boto3 itself calls to get credentials
CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD", "BUILDKITE", "CODEBUILD_BUILD_ID")

_open = None  # the Live of this process: live mode is one for all of its sessions and clients


# -- who and where --


def refuse_unattended(env):
    """Refuse live mode where nobody watches the bill (CI) or where the machine is not the reader's own (Binder)."""
    for name in CI:
        if env.get(name, "").lower() not in ("", "0", "false"):
            raise Refused(f"Live mode does not run in CI ({name} is set). Use connect(): the local cloud is free.")
    if any(name.startswith("BINDER_") for name in env):
        raise Refused("Live mode does not run on Binder: AWS credentials have no place there. Use connect().")


def who(session):
    """Return account number and ARN of a boto3 Session's identity; refuse the root user and bad credentials."""
    try:
        identity = session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise Refused(f"AWS did not say who you are ({error}). Sign in: `aws sso login` or `aws configure`.") from None
    if identity["Arn"].endswith(":root"):
        raise Refused("These are the root user's credentials, which can do anything. Sign in as an IAM user or role.")
    return identity["Account"], identity["Arn"]


def budget_of(value):
    """Return the budget in US dollars, None when there is none; refuse what is not a positive number."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6):
        raise Refused(f'The budget {value!r} is not an amount. Give US dollars as a number: connect("aws", budget=5).')
    return value


def own_session(region):
    """Return a boto3 Session for live mode's own calls, the one that is not guarded. Region: the reader's, if None."""
    session = boto3.Session(region_name=region, botocore_session=botocore.session.Session())
    for event, handler in HOOKS.items():
        session.events.unregister(event, handler, unique_id=f"minicloud-{event}")
    if session.region_name is None:
        raise Refused('No Region is set. Say which: connect("aws", region="us-east-1").')
    if session.region_name not in PRICES["regions"]:
        raise Refused(
            f"There are no prices for the Region {session.region_name}. Say one of {', '.join(PRICES['regions'])}: "
            'connect("aws", region="us-east-1").'
        )
    return session


def _read(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


# -- the guard --

TARGETS = {
    "DBInstanceIdentifier": "db",
    "DBSnapshotIdentifier": "snapshot",
    "DBParameterGroupName": "pg",
    "DBSubnetGroupName": "subgrp",
    "SecretId": "secret",
}


class Live:
    """A live session, shown as who, where and the bill so far. Made by `connect`, ended by `close`."""

    minute = 60  # seconds from one data point of a service's metrics to the next; in the local cloud it is 1

    def __init__(self, session, account, arn, budget):
        self.session, self.account, self.arn, self.budget = session, account, arn, budget
        self.id, self.meter, self._lock, self._clients = secrets.token_hex(4), Meter(), threading.Lock(), {}
        self.earlier = self._left_over()
        self._keys = {session.get_credentials().get_frozen_credentials().access_key}  # known to be this account's
        self._region_before, self._left = os.environ.get("AWS_DEFAULT_REGION"), []
        os.environ["AWS_DEFAULT_REGION"] = session.region_name

    @functools.cached_property
    def ca_bundle(self):
        """File of the authorities that sign the databases' certificates, as AWS publishes them for all Regions."""
        with tempfile.NamedTemporaryFile(prefix="rds-", suffix=".pem", delete=False) as file:
            file.write(_read("https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"))
        return file.name

    @functools.cached_property
    def address(self):
        """This notebook's public address, as security groups see it."""
        return _read("https://checkip.amazonaws.com").decode().strip()

    def _left_over(self):
        """Return what earlier sessions left; refuse an identity that may not even list what close() has to delete."""
        try:
            return left_behind(self.client)
        except (BotoCoreError, ClientError) as error:
            raise Refused(f"Live mode could not list what it may have to delete later: {error}.") from None

    def client(self, service, region):
        """Return live mode's own, unguarded boto3 client."""
        if (service, region) not in self._clients:
            self._clients[service, region] = self.session.client(service, region_name=region)
        return self._clients[service, region]

    def judge(self, model, params, region):
        """Return the cost (or None) and the target (or None) of a call and tag it in `params`; or refuse it."""
        operation = model.name
        price, rule = self._allowed(model.service_model.service_name, operation, region)
        for name, free in price.get("free_only_at", {}).items():
            if params.get(name) not in (None, free):
                raise Refused(f"{name}={params[name]!r} costs extra and has no price in prices.yml. Leave {name} out.")
        if not operation.startswith(CREATES):
            target = self._own(model, params, region)
            return RULES[rule](price, self.client, region, operation, params), target
        cost = RULES[rule](price, self.client, region, operation, params)
        forced = cost.force if cost else {}
        params.update({name: value for name, value in forced.items() if name in model.input_shape.members})
        tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])} | self.tags()
        params["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
        return cost, None

    def _allowed(self, service, operation, region):
        """Return the service's prices and the operation's rule; refuse what is not in prices.yml or has no budget."""
        price = PRICES["services"].get(service, {"operations": {}})
        if operation not in price["operations"]:
            raise Refused(
                f"{service} {operation} is not in minicloud/prices.yml, so live mode does not send it. "
                "No chapter needs it on AWS. To allow it, add it there with its price, source and date."
            )
        if region not in PRICES["regions"]:
            raise Refused(f"There are no prices for the Region {region}. Use one of {', '.join(PRICES['regions'])}.")
        if self.budget is None and not operation.startswith(("Delete", "Stop")):
            raise Refused(f'No budget is set, so {operation} is refused. Set US dollars: connect("aws", budget=5).')
        return price, price["operations"][operation]

    def tags(self):
        """Return the tags of all that this session creates."""
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=FORGOTTEN)
        return {MARK: "minicloud", SESSION: self.id, EXPIRES: until.strftime("%Y-%m-%dT%H:%MZ")}

    def _own(self, model, params, region):
        """Return the (Region, kind, name) that a call changes; refuse what is there and not live mode's."""
        member = next(name for name in model.input_shape.required_members if name in TARGETS)
        kind, name = TARGETS[member], params.get(member, "")
        if kind in ("db", "snapshot"):
            tags = described(self.client, region, name, kind)["TagList"]
        elif kind == "secret":
            tags = self.client("secretsmanager", region).describe_secret(SecretId=name).get("Tags", [])
        else:
            arn = f"arn:{self.arn.split(':')[1]}:rds:{region}:{self.account}:{kind}:{name}"
            tags = self.client("rds", region).list_tags_for_resource(ResourceName=arn)["TagList"]
        if {"Key": MARK, "Value": "minicloud"} not in tags:
            raise Refused(f"{KINDS[kind][1]} {name} was not created by live mode, so {model.name} leaves it alone.")
        return region, kind, name

    def afford(self, cost, operation):
        """State the price of a call and take it into the bill; refuse it when the budget would not cover it."""
        with self._lock:
            before = self.meter.running.get(cost.key, (0, 0))[0]
            hour = self.meter.hour() - before + cost.hour
            reach = self.meter.total() + cost.once + hour * FORGOTTEN
            text = f"{operation} {cost.key[2]} ({cost.key[0]}): about {dollars(cost.hour)} per hour: {cost.words}."
            if self.budget is None or reach > self.budget:
                raise Refused(
                    f"{text} With what runs already and {FORGOTTEN} hours forgotten it could cost {dollars(reach)}; "
                    f"the budget is {dollars(self.budget or 0)}. Delete something, or connect with a larger budget."
                )
            if cost.hour != before or cost.once:
                print(f"{text} Together {dollars(hour)} per hour; {dollars(reach)} if forgotten for a day.", flush=True)
            self.meter.start(cost.key, cost.hour)
            self.meter.ended += cost.once
            return before

    def same_account(self, credentials):
        """Refuse a call that is signed with another account's credentials, or with the root user's."""
        key = credentials.get_frozen_credentials()
        if key.access_key not in self._keys:
            account, _ = who(boto3.Session(key.access_key, key.secret_key, key.token, self.session.region_name))
            if account != self.account:
                raise Refused(f"This client is signed in to the account {account}; live mode is for {self.account}.")
            self._keys.add(key.access_key)

    def close(self):
        """Delete all that this session created and wait until it is gone; return a sentence for each thing left."""
        global _open
        if self is not _open:
            return self._left
        self._left = delete_all(self.client, self.id)
        spent = f"This session cost about {dollars(self.meter.total())}."
        print("\n".join(self._left) or f"Nothing of this session is left. {spent}", flush=True)
        if not self._left:
            _open = None
            if self._region_before is None:
                os.environ.pop("AWS_DEFAULT_REGION", None)
            else:
                os.environ["AWS_DEFAULT_REGION"] = self._region_before
            boto3.DEFAULT_SESSION = None
        return self._left

    def _rows(self):
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        yield "Account", self.account
        yield "Identity", self.arn
        yield "Region", self.session.region_name
        if endpoint:
            yield "Endpoint", f"{endpoint} (AWS_ENDPOINT_URL): not AWS itself"
        yield "Budget", dollars(self.budget) if self.budget else 'none: nothing is created; connect("aws", budget=5)'
        yield "Running", f"{dollars(self.meter.hour())} per hour, {dollars(self.meter.total())} so far (about)"
        dates = {f"{price['read']:%d %B %Y}" for price in PRICES["services"].values()}
        yield "Prices", f"US list prices, about, as of {', '.join(dates)}; before tax and free tier; see prices.yml"
        yield "Tags", f"{MARK}=minicloud, {SESSION}={self.id}"
        yield "Not guarded", "other programs, the AWS CLI among them; traffic to the internet, requests, tax"
        yield (
            "Firewall",
            "the default security group lets in nobody from outside: in the console, admit your own address",
        )
        if self.earlier:
            yield (
                "Left over",
                f"{len(self.earlier)} from an earlier session, costing on: minicloud.live.sweep() shows them",
            )
        yield "At the end", "cloud.close() deletes all of it" if self is _open else "closed"

    def __repr__(self):
        return "\n".join(f"{name:13} {value}" for name, value in self._rows())

    def _repr_html_(self):
        cell = "<tr><th scope='row'>{}</th><td>{}</td></tr>"
        rows = "".join(cell.format(name, html.escape(value)) for name, value in self._rows())
        return f"<table class='minicloud'><caption>Your own AWS account</caption>{rows}</table>"


def _before_parameter_build(params, model, context, **_):
    if _open and model.service_model.service_name not in SIGN_IN and not model.name.startswith(READS):
        report = ParamValidator().validate(params, model.input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())  # botocore's own words, and before ours
        if "client_region" not in context:
            raise Refused(f"A presigned {model.name} would be sent past live mode. Call the operation itself.")
        context["minicloud"] = [model.name, *_open.judge(model, params, context["client_region"])]


def _before_call(request_signer, context, **_):
    if _open and "minicloud" in context:
        if request_signer._credentials:  # botocore has no public name for them; an unsigned call changes nothing
            _open.same_account(request_signer._credentials)
        operation, cost, target = context["minicloud"]
        if cost is None and target is None:
            print(f"{operation}: costs nothing by itself.", flush=True)
        context["minicloud"].append(_open.afford(cost, operation) if cost else 0)


def _after_call(http_response, context, **_):
    """Correct the bill by AWS's answer; when none comes (a time-out) the resource may exist and stays in the bill."""
    if not (_open and len(context.get("minicloud", ())) == 4):
        return
    operation, cost, target, before = context["minicloud"]
    if http_response.status_code >= 300 and cost:
        _open.meter.running.pop(cost.key)
        _open.meter.ended -= cost.once
        if before:
            _open.meter.start(cost.key, before)
    elif http_response.status_code < 300 and (operation.startswith("Delete") or cost and target and cost.key != target):
        _open.meter.stop(target)  # deleted, or renamed


HOOKS = {
    "before-parameter-build": _before_parameter_build,
    "before-call": _before_call,
    "after-call": _after_call,
}


def _hook(session):
    """Put the guard into a botocore Session's (or a client's) events; doing it twice changes nothing."""
    events = session.meta.events if hasattr(session, "meta") else session
    for event, handler in HOOKS.items():
        events.register(event, handler, unique_id=f"minicloud-{event}")


def _refuse_cli(lines):
    """Return a cell's lines for IPython; refuse a cell that would change the account through the AWS CLI."""
    shell = bool(lines) and lines[0].startswith("%%")
    for line in lines if _open else ():
        command = re.search(r"\baws(?:\s+--\S+(?:[\s=][^-\s]\S*)?)*\s+([a-z0-9-]+)\s+([a-z0-9-]+)", line)
        if command and (shell or re.match(r"\s*(\w+\s*=\s*)?(!|%sx|%system)", line)):
            service, verb = command.groups()
            if service not in {"configure", *SIGN_IN} and not verb.startswith(CLI_READS):
                raise Refused(f"`aws {service} {verb}` is another program, which is not guarded. Do it with boto3.")
    return lines


def _hook_everything():
    """Put the guard into every Session and client there is, into every one to come, and into IPython."""
    for thing in gc.get_objects():
        if issubclass(type(thing), (botocore.session.Session, botocore.client.BaseClient)):
            _hook(thing)
    if _hook not in botocore._INITIALIZERS:
        botocore.register_initializer(_hook)
    shell = get_ipython()
    if shell and _refuse_cli not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(_refuse_cli)


def connect(budget=None, region=None):
    """Return the open Live after showing whose account it is and where.

    `budget`: US dollars; None looks but creates nothing. `region`: by default the reader's own. Called again, it keeps
    the open session and takes the new budget. Raises Refused, with what to do, for CI, Binder, root or no credentials.
    """
    global _open
    budget = budget_of(budget)
    refuse_unattended(os.environ)
    if local._cloud and local._cloud.is_running:
        raise Refused("The local cloud runs in this kernel. Close it first: cloud.close().")
    if _open is None:
        _hook_everything()
        session = own_session(region)
        _open = Live(session, *who(session), budget)
        boto3.DEFAULT_SESSION = None  # the next one reads the Region anew
    elif region not in (None, _open.session.region_name):
        raise Refused(f"Live mode is open in {_open.session.region_name}. Call cloud.close() to change the Region.")
    _open.budget = budget
    display(_open)
    return _open


def sweep(session=None, delete=False, region=None):
    """Show what live sessions left on this account and, with `delete`, delete it; return a sentence for what stays.

    `session`: the id in the tag minicloud-session, for one session only. A session that still runs elsewhere is shown
    too: ids and expiry times tell.
    """
    refuse_unattended(os.environ)
    own = own_session(region)
    account, arn = who(own)

    def client(service, place):
        return own.client(service, region_name=place)

    found = left_behind(client, session)
    print(f"Account {account}, {arn}: {len(found)} left by live mode.")
    for left in found:
        print(f"  {left}, session {left.tags.get(SESSION)}, expires {left.tags.get(EXPIRES)}")
    if not delete:
        return [f"{left} is left." for left in found]
    return delete_all(client, session)
