"""What RDS offers as `Engine`: which server program answers for it here, or that none can.

Oracle, SQL Server and Db2 need their vendor's program and licence, so the API keeps their records and nothing runs: their
endpoint is a name that says so in any client's error message.
"""

import contextlib
from typing import NamedTuple

from minicloud.engines.engine import EngineUnavailable, Server
from minicloud.engines.mariadb import MariaDB
from minicloud.engines.postgres import Postgres
from minicloud.rds.limits import has_replicas, refuse

MYSQL_VERSION = "8.4.7"  # what the API offers as MySQL; MariaDB answers for it


class Offer(NamedTuple):
    """An engine of the API and the server class that runs it, None where only its record is here."""

    server: type[Server] | None
    description: str
    default_port: int
    licenses: tuple[str, ...]  # valid LicenseModels, the default first
    forced_version: str | None = None
    forced_major: str | None = None

    @property
    def version(self) -> str:
        return self.forced_version or self.server.version()

    @property
    def vendor(self) -> str:
        """The engine's name without its edition, as a word of a host name: "sql-server" of SQL Server 2025 Express."""
        return "-".join(self.description.split()[:2 if self.description.startswith("SQL") else 1]).lower()


BYOL, INCLUDED = "bring-your-own-license", "license-included"

# Versions that RDS offered in 2026: SQL Server and Db2 from the list that cfn-lint 1.58.0 takes from AWS's API (SQL Server
# 2025 has no Web edition there), Oracle from https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_UpgradeDBInstance.Oracle.Minor.html
ORACLE, SQLSERVER_2025, SQLSERVER_2022, DB2 = (
    "19.0.0.0.ru-2026-01.rur-2026-01.r1", "17.00.5005.3.v1", "16.00.4295.3.v1", "12.1.5.0.sb00088454.r1")

OFFERS = {
    "postgres": Offer(Postgres, "PostgreSQL", 5432, ("postgresql-license",)),
    "mariadb": Offer(MariaDB, "MariaDB", 3306, ("general-public-license",)),
    "mysql": Offer(MariaDB, "MySQL (here MariaDB answers for it)", 3306, ("general-public-license",), MYSQL_VERSION),
    "oracle-ee": Offer(None, "Oracle Enterprise Edition", 1521, (BYOL,), ORACLE, "19"),
    "oracle-ee-cdb": Offer(None, "Oracle Enterprise Edition CDB", 1521, (BYOL,), ORACLE, "19"),
    "oracle-se2": Offer(None, "Oracle Standard Edition 2", 1521, (INCLUDED, BYOL), ORACLE, "19"),
    "oracle-se2-cdb": Offer(None, "Oracle Standard Edition 2 CDB", 1521, (INCLUDED, BYOL), ORACLE, "19"),
    "sqlserver-ee": Offer(None, "SQL Server Enterprise Edition", 1433, (INCLUDED,), SQLSERVER_2025, "17.00"),
    "sqlserver-se": Offer(None, "SQL Server Standard Edition", 1433, (INCLUDED,), SQLSERVER_2025, "17.00"),
    "sqlserver-ex": Offer(None, "SQL Server Express Edition", 1433, (INCLUDED,), SQLSERVER_2025, "17.00"),
    "sqlserver-web": Offer(None, "SQL Server Web Edition", 1433, (INCLUDED,), SQLSERVER_2022, "16.00"),
    "db2-se": Offer(None, "Db2 Standard Edition", 50000, (BYOL, "marketplace-license"), DB2, "12.1"),
    "db2-ae": Offer(None, "Db2 Advanced Edition", 50000, (BYOL, "marketplace-license"), DB2, "12.1"),
}


def offered() -> list[str]:
    """Return the engines that run here: those of OFFERS whose programs are on this machine."""
    names = []
    for name, offer in OFFERS.items():
        with contextlib.suppress(EngineUnavailable):
            names += [name] if offer.server and offer.version else []
    return names


def recorded() -> list[str]:
    """Return the engines of which the API keeps records only."""
    return [name for name, offer in OFFERS.items() if offer.server is None]


def family(engine: str) -> str:
    """Return an engine's parameter group family, such as "postgres18" or "sqlserver-ex-17.0"."""
    number = major(engine, OFFERS[engine].version)
    return f"{engine}{number}" if OFFERS[engine].server else f"{engine}-{number.replace('.00', '.0')}"


def major(engine: str, version: str) -> str:
    """Return the major part of a version, as the engine counts: "18" of 18.6, "10.11" of 10.11.19."""
    parts = version.split(".")
    return OFFERS[engine].forced_major or (parts[0] if engine == "postgres" else ".".join(parts[:2]))


def offer_of(engine: str, version: str | None) -> Offer:
    """Return the offer of an engine. Refuses a version that it does not have, and an engine that is not installed."""
    offer = OFFERS[engine]
    try:
        known = offer.version
    except EngineUnavailable as error:
        refuse("InsufficientDBInstanceCapacity", str(error))
    if version not in (None, known, major(engine, known)):
        refuse("InvalidParameterCombination", f"Cannot find version {version} for {engine}. Here is {known}; "
               "DescribeDBEngineVersions lists what can be had.")
    return offer


def engine_version(name: str) -> dict:
    """Return an offer in DescribeDBEngineVersions' shape. Raises EngineUnavailable."""
    offer = OFFERS[name]
    about = offer.description if offer.server else f"{offer.description} (record only)"
    return {"Engine": name, "EngineVersion": offer.version, "MajorEngineVersion": major(name, offer.version),
            "DBParameterGroupFamily": family(name), "DBEngineDescription": offer.description,
            "DBEngineVersionDescription": f"{about} {offer.version}", "Status": "available",
            "ValidUpgradeTarget": [], "SupportsReadReplica": has_replicas(name), "SupportsGlobalDatabases": False}


def absent_address(engine: str) -> str:
    """Return the endpoint of an engine that does not run here: a name that is never resolved (RFC 2606) and says why."""
    return f"{OFFERS[engine].vendor}-does-not-run-here.minicloud.invalid"


def absent_notice(engine: str) -> str:
    """Return the sentence that tells the same in the events, and what to do instead."""
    name = OFFERS[engine].description
    return (f"No {name} runs in minicloud: this instance is a record of the API, and connecting to it fails. On AWS the same "
            "call starts one; take its address from DescribeDBInstances there.")
