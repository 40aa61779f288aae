"""What RDS refuses: the checks of a request's values that AWS makes and moto does not.

Each refusal says what was wrong and what is expected, in AWS's words where they are known. The limits are those of
botocore's RDS model (CreateDBInstanceMessage) and of the RDS user guide, as of 2026-11.
"""

import re

from moto.rds.exceptions import RDSClientError


def refuse(code: str, message: str):
    """Raise the API error `code` with a sentence."""
    raise RDSClientError(code, message)


def check_class(name: str | None) -> None:
    """Refuse what does not read like a DB instance class."""
    if not name or not re.fullmatch(r"db\.[a-z]+\d[a-z0-9-]*\.(micro|small|medium|large|\d*xlarge|metal.*)", name):
        refuse("InvalidParameterValue", f"Invalid DB Instance class: {name}. A class reads like db.t4g.micro.")


def check_password(password: str | None, managed: bool) -> None:
    """Refuse a master password of a wrong length or with a character that RDS does not take; `managed` ones RDS makes."""
    if managed:
        return
    if not password or not 8 <= len(password) <= 128:
        refuse("InvalidParameterValue", "The parameter MasterUserPassword is not a valid password: it needs 8 to 128 "
                "characters (for MySQL and MariaDB at most 41).")
    if re.search(r"[/@\" ]|[^\x21-\x7e]", password):
        refuse("InvalidParameterValue", "The parameter MasterUserPassword is not a valid password. Only printable ASCII "
                "characters besides '/', '@', '\"', ' ' may be used.")


def check_user(name: str | None) -> None:
    """Refuse a master user name that is malformed or reserved."""
    if not name or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        refuse("InvalidParameterValue", f"The parameter MasterUsername is not valid: {name!r}. It must begin with a letter "
                "and hold letters, digits and underscores, at most 63.")
    if name.lower() in ("rdsadmin", "root", "rds_superuser") or name.lower().startswith("pg_"):
        refuse("InvalidParameterValue", f"MasterUsername {name} cannot be used as it is a reserved word used by the engine")


def check_database(name: str | None) -> None:
    """Refuse a first database's name that is malformed or reserved; None is no database."""
    if name is None:
        return
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        refuse("InvalidParameterValue", f"DBName {name!r} is not valid: it must begin with a letter and hold letters, "
                "digits and underscores, at most 63.")
    if name.lower() in ("template0", "template1", "rdsadmin", "mysql", "sys", "information_schema"):
        refuse("InvalidParameterValue", f"DBName {name} cannot be used as it is a reserved word used by the engine")


def check_retention(days: int | None) -> None:
    """Refuse a backup retention period outside 0 to 35 days."""
    if days is not None and not 0 <= days <= 35:
        refuse("InvalidParameterValue", f"Invalid backup retention period: {days}. Must be between 0 and 35.")


def check_storage(gib: int | None) -> None:
    """Refuse a storage size outside what gp3 takes, in GiB."""
    if gib is not None and not 20 <= gib <= 65536:
        refuse("InvalidParameterValue", f"Invalid storage size: {gib} GiB. General Purpose (gp3) storage takes 20 to 65536 GiB.")


def check_parameter(known: dict[str, dict], parameter: dict) -> None:
    """Refuse a parameter that the catalogue `known` lacks or reserves, or whose value or apply method does not fit."""
    name, value = parameter["ParameterName"], parameter.get("ParameterValue")
    if name not in known:
        refuse("InvalidParameterValue", f"Could not find parameter with name: {name}")
    row = known[name]
    if not row["IsModifiable"]:
        refuse("InvalidParameterValue", f"The parameter {name} cannot be modified.")
    if row["ApplyType"] == "static" and parameter.get("ApplyMethod") == "immediate":
        refuse("InvalidParameterCombination", f"cannot use immediate apply method for static parameter {name}; "
                "use pending-reboot.")
    allowed = row.get("AllowedValues")
    if allowed and row["DataType"] in ("boolean", "string", "list"):
        words = {*allowed.lower().split(","), *(("on", "off", "true", "false") if row["DataType"] == "boolean" else ())}
        asked = str(value).lower()
        if not words.issuperset(filter(None, asked.split(",")) if row["DataType"] == "list" else [asked]):
            refuse("InvalidParameterValue", f"Invalid parameter value: {value} for: {name} allowed values are: {allowed}")
    if allowed and row["DataType"] in ("integer", "float"):
        low, high = (float(part) for part in re.fullmatch(r"(-?[\d.e+]+)-(-?[\d.e+]+)", allowed).groups())
        try:
            fits = low <= float(value) <= high
        except (TypeError, ValueError):
            fits = False
        if not fits:
            refuse("InvalidParameterValue", f"Invalid parameter value: {value} for: {name} allowed values are: {allowed}")
