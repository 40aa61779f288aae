"""What the checks of the exercises share: how they ask RDS, and how they answer.

A check asks the API and the database engine for their state and never looks at the learner's code. It uses boto3 and
the engine's driver only, so that it works on the local cloud and on AWS alike. The package lies beside the notebooks
because a notebook's kernel starts in its folder, in JupyterLab, on Binder and in the build: nothing is to be installed.
"""

import html

from botocore.exceptions import BotoCoreError, ClientError

FOURTEEN_DAYS = 14 * 24 * 60  # minutes: RDS remembers events that long


class Hint(Exception):
    """What is missing or wrong, and what to do about it."""


class Verdict:
    """What a check found: the sentences that hold, and the hint for what does not; `passed` if there is none."""

    def __init__(self, steps):
        self.done, self.hint = [], ""
        try:
            for sentence in steps:
                self.done.append(sentence)
        except Hint as hint:
            self.hint = str(hint)
        except (BotoCoreError, ClientError) as error:
            self.hint = f"RDS could not be asked: {error} Run the cell with connect() first."

    @property
    def passed(self):
        """Whether every step holds."""
        return not self.hint

    def _lines(self):
        yield from (("✓", sentence) for sentence in self.done)
        yield ("★", "Passed.") if self.passed else ("→", self.hint)

    def __repr__(self):
        return "\n".join(f"{sign} {sentence}" for sign, sentence in self._lines())

    def _repr_html_(self):
        lines = "".join(f"<div>{sign} {html.escape(sentence)}</div>" for sign, sentence in self._lines())
        return f'<div class="check {"passed" if self.passed else "open"}">{lines}</div>'


def find(rds, name, how, besides=()):
    """Return the description of the DB instance `name`, which is available. Raises Hint.

    `how` says how it is made; `besides` names the instances that the exercise has anyway.
    """
    try:
        (db,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    except rds.exceptions.DBInstanceNotFoundFault:
        raise Hint(_absent(rds, name, how, besides)) from None
    if db["DBInstanceStatus"] != "available":
        raise Hint(
            f"{name} is {db['DBInstanceStatus']}. Wait with rds.get_waiter('db_instance_available'), check again."
        )
    return db


def _absent(rds, name, how, besides):
    if events(rds, name, "deletion"):
        return f"{name} was deleted, and its data with it. Make it again: {how}"
    others = {db["DBInstanceIdentifier"] for db in rds.describe_db_instances()["DBInstances"]}.difference(besides)
    if others:
        return f"There is {', '.join(sorted(others))}, but nothing with the identifier {name}. {how}"
    return f"There is no DB instance {name} yet. {how}"


def events(rds, name, category, words=""):
    """Return the times of the events of the DB instance `name` in a category with these words, whatever their case.

    AWS's words: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html (read 2026-11-24).
    Events are the only place where RDS tells of a failover; it sends them "on a best effort basis".
    """
    pages = rds.get_paginator("describe_events").paginate(
        SourceType="db-instance", SourceIdentifier=name, Duration=FOURTEEN_DAYS
    )
    found = [event for page in pages for event in page["Events"]]
    return sorted(
        event["Date"]
        for event in found
        if category in event["EventCategories"] and words.lower() in event["Message"].lower()
    )
