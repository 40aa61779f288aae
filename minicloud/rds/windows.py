"""The backup window (daily) and the maintenance window (weekly) of a DB instance: minutes of the week, in UTC."""

import datetime
import random
import re

from minicloud.rds.limits import refuse

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY, WEEK = 24 * 60, 7 * 24 * 60

# The eight hours in which RDS chooses a window when none is named begin at this hour (UTC), as of 2026-11-24.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ManagingAutomatedBackups.html
BLOCKS = {"us-east-1": 3, "us-west-2": 6}


def backup(text: str) -> tuple[int, int]:
    """Return begin and length of a window such as "03:00-03:30", in minutes. Refuses what is none."""
    part = r"([01]\d|2[0-3]):([0-5]\d)"
    found = re.fullmatch(f"{part}-{part}", text)
    if not found:
        refuse("InvalidParameterValue", f"Invalid backup window format: {text}. Should be specified as a range "
               "hh24:mi-hh24:mi (24H Clock UTC). Example: 04:00-04:30")
    from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
    return _length("backup", from_hour * 60 + from_minute, to_hour * 60 + to_minute, DAY)


def maintenance(text: str) -> tuple[int, int]:
    """Return begin and length of a window such as "sun:23:45-mon:00:15", in minutes. Refuses what is none."""
    part = rf"({'|'.join(DAYS)}):([01]\d|2[0-3]):([0-5]\d)"
    found = re.fullmatch(f"{part}-{part}", text.lower())
    if not found:
        refuse("InvalidParameterValue", f"Invalid maintenance window format: {text}. Should be specified as a range "
               "ddd:hh24:mi-ddd:hh24:mi (24H Clock UTC). Example: Sun:23:45-Mon:00:15")
    begin, end = (DAYS.index(day) * DAY + int(hour) * 60 + int(minute)
                  for day, hour, minute in (found.groups()[:3], found.groups()[3:]))
    begin, length = _length("maintenance", begin, end, WEEK)
    if length > DAY:
        refuse("InvalidParameterValue", "Maintenance window must be less than 24 hours.")
    return begin, length


def _length(kind: str, begin: int, end: int, cycle: int) -> tuple[int, int]:
    length = (end - begin) % cycle
    if length < 30:
        refuse("InvalidParameterValue", f"The {kind} window must be at least 30 minutes.")
    return begin, length


def check(daily: str, weekly: str) -> None:
    """Refuse a backup window and a maintenance window that are malformed or overlap."""
    if _clash(backup(daily), maintenance(weekly)):
        refuse("InvalidParameterValue", "The backup window and maintenance window must not overlap.")


def _clash(daily: tuple[int, int], weekly: tuple[int, int]) -> bool:
    begins = (daily[0] + day * DAY for day in range(7))
    return any((weekly[0] - begin) % WEEK < daily[1] or (begin - weekly[0]) % WEEK < weekly[1] for begin in begins)


def choose(region: str, daily: str | None, weekly: str | None) -> tuple[str, str]:
    """Return both windows; one that is not named is 30 minutes at random in the Region's eight hours, clear of the other.

    A maintenance window so chosen is not open now or soon, so that no experiment is surprised by it.
    """
    first = BLOCKS.get(region, 3) * 60
    begins = range(first, first + 8 * 60 - 29)
    if daily is None:
        clear = [at for at in begins if weekly is None or not _clash((at, 30), maintenance(weekly))]
        daily = _text(random.choice(clear or begins), days=False)
    if weekly is None:
        now, day = minute(datetime.datetime.now(datetime.UTC)), DAY * random.randrange(7)
        clear = [day + at for at in begins if not _clash(backup(daily), (day + at, 30))]
        later = [at for at in clear if 120 <= (at - now) % WEEK < WEEK - 30]
        weekly = _text(random.choice(later or clear or begins), days=True)
    return daily, weekly


def _text(begin: int, *, days: bool) -> str:
    ends = [f"{DAYS[at // DAY % 7]}:" * days + f"{at % DAY // 60:02}:{at % 60:02}" for at in (begin, begin + 30)]
    return "-".join(ends)


def minute(time: datetime.datetime) -> int:
    """Return a time's minute of the week."""
    return time.weekday() * DAY + time.hour * 60 + time.minute


def is_open(weekly: str) -> bool:
    """Say whether it is now within a maintenance window."""
    begin, length = maintenance(weekly)
    return (minute(datetime.datetime.now(datetime.UTC)) - begin) % WEEK < length
