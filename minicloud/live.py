"""Live mode: the same boto3 cells on the reader's own AWS account, carefully.

`connect(budget=5)` shows whose account it is and then stands before every boto3 call of this Python process, whichever
Session or client makes it. Reads pass. Anything else must be named in prices.yml and must touch only what live mode
created. Its price is stated before it is sent; it is refused when it could take the bill over the budget; it is tagged.
`close()` finds by tag what was created, deletes it and waits until it is gone. `sweep()` does so for a session whose
kernel died.

Not guarded, and said so on connect: programs outside this Python process (another notebook, the console, the AWS CLI;
in a notebook, `!aws` lines that change anything are refused), data sent to the internet, API requests, and tax.
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
from minicloud.live_kinds import JOINS, KINDS, TARGETS, described
from minicloud.live_leftovers import EXPIRES, MARK, SESSION, delete_all, left_behind
from minicloud.prices import CREATES, PRICES, RULES, Meter, Refused, dollars

FORGOTTEN = 24  # hours: the budget must also cover everything being left to run until this time tomorrow
READS = ("Describe", "List", "Get", "Head", "Download", "GenerateDataKey", "Decrypt")  # KMS keeps nothing of the last two
ENDS = ("Delete", "Stop", "Schedule")
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

def tag(model, params, tags):
    """Add tags to the parameters of an operation, in the form that its service has for them."""
    members = model.input_shape.members
    if "Tags" in members:  # of Key and Value; KMS says TagKey and TagValue
        key, value = members["Tags"].member.members
        tags = {one[key]: one[value] for one in params.get("Tags", [])} | tags
        params["Tags"] = [{key: name, value: content} for name, content in tags.items()]
    elif "TagSpecifications" in members:  # EC2
        kind = botocore.xform_name(model.name.removeprefix("Create"), "-")
        own = {"ResourceType": kind, "Tags": [{"Key": name, "Value": content} for name, content in tags.items()]}
        params["TagSpecifications"] = [*params.get("TagSpecifications", []), own]


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

    def _only_local(self, *_):
        raise Refused(
            "AWS lets nobody kill its hosts, cut its links or look at its processes: this is for the local cloud. "
            "Skip the cell. A failover can be asked for, with RebootDBInstance or FailoverDBCluster."
        )

    crash = cut = heal = resources = _only_local

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
        """Return the cost (or None) and the targets of a call and tag it in `params`; or refuse it."""
        operation = model.name
        price, rule = self._allowed(model.service_model.service_name, operation, region)
        for name, free in price.get("free_only_at", {}).items():
            if params.get(name) not in (None, free):
                raise Refused(f"{name}={params[name]!r} costs extra and has no price in prices.yml. Leave {name} out.")
        targets = self._own(model, params, region)
        cost = RULES[rule](price, self.client, region, operation, params)
        if not operation.startswith(CREATES):
            self._tag_green(targets)
            return cost, targets
        forced = cost.force if cost else {}
        params.update({name: value for name, value in forced.items() if name in model.input_shape.members})
        tag(model, params, self.tags())
        return cost, []

    def _allowed(self, service, operation, region):
        """Return the service's prices and the operation's rule; refuse what is not in prices.yml or has no budget."""
        price = PRICES["services"].get(service, {"operations": {}})
        if service in PRICES["refused"]:
            raise Refused(f"{service} {operation} is not sent. {PRICES['refused'][service]} Skip the cell.")
        if operation not in price["operations"]:
            raise Refused(
                f"{service} {operation} is not in minicloud/prices.yml, so live mode does not send it. "
                "No chapter needs it on AWS. To allow it, add it there with its price, source and date."
            )
        if region not in PRICES["regions"]:
            raise Refused(f"There are no prices for the Region {region}. Use one of {', '.join(PRICES['regions'])}.")
        if self.budget is None and not operation.startswith(ENDS):
            raise Refused(f'No budget is set, so {operation} is refused. Set US dollars: connect("aws", budget=5).')
        return price, price["operations"][operation]

    def _tag_green(self, targets):
        """Tag the green environments of deployments, which AWS makes itself, before they are let go."""
        for region, kind, name in targets:
            if kind == "deployment":
                made = described(self.client, region, name, kind)
                if made.get("Target") and made["Status"] != "SWITCHOVER_COMPLETED":
                    tags = [{"Key": key, "Value": value} for key, value in self.tags().items()]
                    self.client("rds", region).add_tags_to_resource(ResourceName=made["Target"], Tags=tags)

    def tags(self):
        """Return the tags of all that this session creates."""
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=FORGOTTEN)
        return {MARK: "minicloud", SESSION: self.id, EXPIRES: until.strftime("%Y-%m-%dT%H:%MZ")}

    def _own(self, model, params, region):
        """Return the (Region, kind, name) of all that a call changes; refuse what is there and not live mode's."""
        operation, targets = model.name, []
        members = JOINS.get(operation, {})
        if not operation.startswith(CREATES):
            required = TARGETS.keys() & model.input_shape.required_members
            members = {name: TARGETS[name] for name in required or TARGETS.keys() & params}
            if not members:
                raise Refused(f"{operation} does not say what it changes. Name it by its identifier.")
        for member, kind in members.items():
            names = params.get(member, [])
            for name in [names] if isinstance(names, str) else names:
                if not self._has_mark(kind, name, region):
                    words = KINDS[kind].words
                    raise Refused(f"{words} {name} was not created by live mode, so {operation} leaves it alone.")
                targets.append((region, kind, name))
        return targets

    def _has_mark(self, kind, name, region):
        """Return whether live mode's tag is on what is there; there may be nothing, with no error either."""
        if kind == "pg" and name.startswith("default."):  # AWS changes none of these for anybody, and says it better
            return True
        try:
            about = described(self.client, region, name, kind)
        except IndexError:  # an alarm that is not there
            return True
        tags = KINDS[kind].tags(self.client(KINDS[kind].service, about["region"]), about)
        return {"Key": MARK, "Value": "minicloud"} in tags

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
        operation, cost, targets = context["minicloud"]
        if cost is None and not targets:
            print(f"{operation}: costs nothing by itself.", flush=True)
        context["minicloud"].append(_open.afford(cost, operation) if cost else 0)


def _after_call(http_response, context, **_):
    """Correct the bill by AWS's answer; when none comes (a time-out) the resource may exist and stays in the bill."""
    if not (_open and len(context.get("minicloud", ())) == 4):
        return
    operation, cost, targets, before = context["minicloud"]
    if http_response.status_code >= 300 and cost:
        _open.meter.running.pop(cost.key)
        _open.meter.ended -= cost.once
        if before:
            _open.meter.start(cost.key, before)
    elif http_response.status_code < 300:
        for target in targets:
            if operation.startswith("Delete") or cost and cost.key != target:
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
