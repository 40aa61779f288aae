"""What RDS refuses: the checks of a request's values that AWS makes and moto does not.

Each refusal says what was wrong and what is expected, in AWS's words where they are known. The limits are those of
botocore's RDS model (CreateDBInstanceMessage) and of the RDS user guide, as of 2026-11.
"""

import datetime
import re

from moto.rds.exceptions import RDSClientError

# Class families of each engine in us-east-1, after the list that cfn-lint 1.58.0 takes from AWS's API.
_OPEN = ("m3 m4 m5 m5d m6g m6gd m6i m6id m6idn m6in m7g m7i m8a m8g m8gd m9g r3 r4 r5 r5b r5d r6g r6gd r6i r6id r6idn r6in "
         "r7g r7i r8a r8g r8gd t2 t3 t4g x2g x2iedn")
_SQLSERVER = "m4 m5 m5d m6i m7i m8a m8i r4 r5 r5b r5d r6i r7i r8a r8i t3 z1d"
FAMILIES = {
    "postgres": _OPEN, "mysql": _OPEN, "mariadb": _OPEN,
    "oracle": "m3 m4 m5 m5d m6i m6id m6in m7i m8i r3 r4 r5 r5b r5d r6i r6id r6in r7i r8i t2 t3 x1 x1e x2idn x2iedn x2iezn z1d",
    "sqlserver": f"{_SQLSERVER} x1 x1e x2iedn x2m", "sqlserver-web": f"{_SQLSERVER} r3 t2", "sqlserver-ex": "t2 t3",
    "db2": "m6i m6idn m6in m7i r6i r6idn r6in r7i t3 x2iedn",
}
WITH_MICRO = ("postgres", "mysql", "mariadb", "sqlserver-ex")

# GiB by storage type; RDS for Db2 has gp3, io1 and io2 only.
_GP, _IO, _MAGNETIC = (20, 65536), (100, 65536), (5, 3072)
STORAGE = {
    "postgres": {"gp": _GP, "io": _IO, "st": _MAGNETIC}, "mysql": {"gp": _GP, "io": _IO, "st": _MAGNETIC},
    "mariadb": {"gp": _GP, "io": _IO, "st": _MAGNETIC}, "oracle": {"gp": _GP, "io": _IO, "st": (10, 3072)},
    "sqlserver": {"gp": (20, 16384), "io": (100, 16384), "st": (20, 1024)}, "db2": {"gp": _GP, "io": _IO},
}
STRIPED_FROM = {"oracle": 200, "sqlserver": 0}  # GiB from which gp3's IOPS can be chosen; 400 on the other engines
PASSWORD_MAX = {"mysql": 41, "mariadb": 41, "oracle": 30, "db2": 255}  # 128 on the others
USER_MAX = {"postgres": 63, "oracle": 30, "sqlserver": 128}  # 16 on the others
RESERVED_USERS = {"postgres": ("admin",), "sqlserver": ("sa",)}
DATABASE_MAX = {"postgres": 63, "oracle": 8}  # 64 on the others
REPLICAS_MAX = {"oracle": 5, "sqlserver": 5, "db2": 3}  # 15 on the others
INSTANCES_MAX = 40  # in a Region, until you ask for more
STORAGE_CHANGES_A_DAY = 4


def refuse(code: str, message: str):
    """Raise the API error `code` with a sentence."""
    raise RDSClientError(code, message)


def product(engine: str) -> str:
    """Return an engine without its edition: "oracle" of oracle-se2."""
    return engine.split("-")[0]


def check_create(params, version: str, license_model: str) -> None:
    """Refuse the values of a CreateDBInstance that the engine does not take."""
    engine = params["Engine"]
    check_class(params.get("DBInstanceClass"), engine, version, license_model)
    check_password(params.get("MasterUserPassword"), bool(params.get("ManageMasterUserPassword")), engine)
    check_user(params.get("MasterUsername"), engine)
    check_retention(params.get("BackupRetentionPeriod"))
    check_storage(engine, params.get("AllocatedStorage"), params.get("StorageType"), params.get("Iops"),
                  params.get("StorageThroughput"))
    check_database(params.get("DBName"), engine)
    check_port(params.get("Port"), engine)


def check_class(name: str | None, engine: str, version: str = "", license_model: str = "") -> None:
    """Refuse what is no DB instance class, or none that the engine runs on."""
    found = re.fullmatch(r"db\.([a-z]+\d[a-z0-9]*)\.(micro|small|medium|large|\d*xlarge|metal-\d+xl)(\.tpc\d\.mem\dx)?",
                         name or "")
    every = {family for families in FAMILIES.values() for family in families.split()}
    if not found or found[1] not in every:
        refuse("InvalidParameterValue", f"Invalid DB Instance class: {name}. A class reads like db.t4g.micro.")
    families = (FAMILIES.get(engine) or FAMILIES.get(product(engine), " ".join(every))).split()
    if found[1] not in families or found[2] == "micro" and engine not in WITH_MICRO:
        refuse("InvalidParameterCombination", "RDS does not support creating a DB instance with the following combination: "
               f"DBInstanceClass={name}, Engine={engine}, EngineVersion={version}, LicenseModel={license_model}. For "
               "supported combinations of instance class and database engine version, see the documentation.")


def check_password(password: str | None, managed: bool, engine: str) -> None:
    """Refuse a master password of a wrong length or with a character that RDS does not take; `managed` ones RDS makes."""
    if managed:
        return
    most = PASSWORD_MAX.get(product(engine), 128)
    if not password or not 8 <= len(password) <= most:
        wrong = f"longer than {most}" if password and len(password) > most else "shorter than 8"
        refuse("InvalidParameterValue", "The parameter MasterUserPassword is not a valid password because it is "
               f"{wrong} characters.")
    if re.search(r"[/@\" ]|[^\x21-\x7e]", password) or product(engine) == "oracle" and re.search("[&']", password):
        refuse("InvalidParameterValue", "The parameter MasterUserPassword is not a valid password. Only printable ASCII "
               "characters besides '/', '@', '\"', ' ' may be used (for Oracle not '&' and ''' either).")


def check_user(name: str | None, engine: str) -> None:
    """Refuse a master user name that is malformed or reserved."""
    most = USER_MAX.get(product(engine), 16)
    if not name or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > most:
        refuse("InvalidParameterValue", f"The parameter MasterUsername is not valid: {name!r}. It must begin with a letter "
               f"and hold letters, digits and underscores, at most {most} for {engine}.")
    reserved = ("rdsadmin", "root", "rds_superuser", *RESERVED_USERS.get(product(engine), ()))
    if name.lower() in reserved or name.lower().startswith("pg_"):
        refuse("InvalidParameterValue", f"MasterUsername {name} cannot be used as it is a reserved word used by the engine")


def check_database(name: str | None, engine: str) -> None:
    """Refuse a first database's name that is malformed or reserved; None is no database."""
    if name is None:
        return
    most = DATABASE_MAX.get(product(engine), 64)
    if product(engine) == "sqlserver":
        refuse("InvalidParameterValue", f"DBName must be null for engine: {engine}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > most:
        refuse("InvalidParameterValue", f"DBName must begin with a letter and contain only alphanumeric characters, at most "
               f"{most} for {engine}; {name!r} does not.")
    if name.lower() in ("template0", "template1", "rdsadmin", "mysql", "sys", "information_schema", "null"):
        refuse("InvalidParameterValue", f"DBName {name} cannot be used as it is a reserved word used by the engine")


def check_port(port: int | None, engine: str) -> None:
    """Refuse a port that RDS does not open."""
    taken = (1234, 1434, 3260, 3343, 3389, 47001, *range(49152, 49157)) if product(engine) == "sqlserver" else ()
    if port is not None and (not 1150 <= port <= 65535 or port in taken):
        refuse("InvalidParameterValue", f"Invalid port: {port}. Must be between 1150 and 65535"
               + (f" and none of {', '.join(map(str, taken))}." if taken else "."))


def check_identifier(name: str, parameter: str = "DBInstanceIdentifier") -> None:
    """Refuse a DB instance identifier that is malformed."""
    if len(name) > 63:
        refuse("InvalidParameterValue", f"The parameter {parameter} is not a valid identifier because it is longer than 63 "
               "characters.")
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9]|-(?=[A-Za-z0-9]))*", name):
        refuse("InvalidParameterValue", f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a "
               "letter; must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two "
               "consecutive hyphens.")


def check_retention(days: int | None) -> None:
    """Refuse a backup retention period outside 0 to 35 days."""
    if days is not None and not 0 <= days <= 35:
        refuse("InvalidParameterValue", f"Invalid backup retention period: {days}. Must be between 0 and 35.")


def check_license(model: str, valid: tuple[str, ...], engine: str) -> None:
    """Refuse a licence model that the engine is not sold under."""
    if model not in valid:
        refuse("InvalidParameterCombination", f"Invalid license model '{model}' for engine '{engine}'. Valid license models "
               f"are: {', '.join(valid)}.")


def check_storage(engine: str, gib: int | None, kind: str | None, iops: int | None = None, throughput: int | None = None):
    """Refuse a size, type or speed of storage that the engine does not take; None is RDS's own choice."""
    kind, ranges = kind or ("io1" if iops else "gp3"), STORAGE.get(product(engine), STORAGE["postgres"])
    if kind not in ("gp2", "gp3", "io1", "io2", "standard") or kind[:2] not in ranges or (product(engine), kind) == (
            "db2", "gp2"):
        refuse("InvalidParameterValue", f"Invalid storage type: {kind} for engine {engine}.")
    if gib is None:
        return
    least, most = ranges[kind[:2]]
    if not least <= gib <= most:
        refuse("InvalidParameterCombination", f"Invalid storage size for engine name {engine} and storage type {kind}: {gib}. "
               f"It takes {least} to {most} GiB.")
    striped = STRIPED_FROM.get(product(engine), 400)
    if kind == "gp3" and gib < striped and (iops or throughput):
        refuse("InvalidParameterCombination", f"You can't specify IOPS or storage throughput for engine {engine} and a storage "
               f"size less than {striped}.")
    if kind in ("io1", "io2"):
        ratio = 1 if product(engine) == "sqlserver" else 0.5
        if not iops or not ratio * gib <= iops <= 50 * gib:
            refuse("InvalidParameterCombination", f"The storage type {kind} requires Iops to be specified, from {ratio} to 50 "
                   f"times the {gib} GiB: {round(ratio * gib)} to {50 * gib}; {iops} was asked for.")


def check_growth(now: int, asked: int, changes: list[datetime.datetime]) -> None:
    """Refuse to shrink storage, or to change it for the fifth time in 24 hours; `changes` are the times it was changed."""
    if asked < now:
        refuse("InvalidParameterCombination", f"You can't reduce the storage: it was {now} GiB and {asked} GiB was asked for.")
    day_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    # Until 2025 a change had to be six hours old before the next: https://repost.aws/knowledge-center/rds-stuck-in-storage-optimization
    if asked != now and sum(time > day_ago for time in changes) >= STORAGE_CHANGES_A_DAY:
        refuse("InvalidParameterCombination", "You can't currently modify the storage of this DB instance: it was modified "
               f"{STORAGE_CHANGES_A_DAY} times within 24 hours.")


def check_replicas(engine: str, there: int) -> None:
    """Refuse a read replica of an edition that has none, or one more than the engine may have; `there` are the source's."""
    if not has_replicas(engine):
        refuse("InvalidDBInstanceState", f"Read replicas are not supported for engine {engine}: they need Enterprise Edition.")
    most = REPLICAS_MAX.get(product(engine), 15)
    if there >= most:
        refuse("InvalidDBInstanceState", f"The source has {there} read replicas; {most} are the most for {engine}.")


def has_replicas(engine: str) -> bool:
    """Say whether an engine can have read replicas: of Oracle and SQL Server, only Enterprise Edition."""
    return product(engine) not in ("oracle", "sqlserver") or "-ee" in engine


def check_quota(there: int) -> None:
    """Refuse one more DB instance than an account may have in a Region; `there` are there."""
    if there >= INSTANCES_MAX:
        refuse("InstanceQuotaExceeded", f"DB Instance quota exceeded: {INSTANCES_MAX} in a Region, unless AWS grants more.")


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
