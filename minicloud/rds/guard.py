"""The guard of a DB instance's endpoints: whom the cloud lets in, and on what terms."""

from collections.abc import Callable
from pathlib import Path

from botocore.credentials import Credentials

from minicloud.rds import iam_auth, network

# What RDS for MySQL and for MariaDB answer a client that comes without TLS where `require_secure_transport` is on:
# number, SQLSTATE, message. Read 2026-11-24:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mysql-ssl-connections.require-ssl.html
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mariadb-ssl-connections.require-ssl.html
INSECURE = {
    "mysql": (3159, "HY000", "Connections using insecure transport are prohibited while --require_secure_transport=ON."),
    "mariadb": (1045, "28000", "Access denied: this server takes encrypted connections only (require_secure_transport)."),
}


class Guard:
    """Guards the endpoints of `record`: a DBInstance, or, for the endpoints of an Aurora cluster, the DBCluster.

    `parameters()` returns the values that its parameter group sets; `owner` are the cloud's owner's credentials.
    """

    def __init__(self, record, parameters: Callable[[], dict[str, str]], owner: Credentials, log: Path):
        self.record, self.parameters, self.owner, self.log = record, parameters, owner, log

    def admit(self, port: int) -> dict | None:
        """Return None when the security groups let no packet of the notebook through to the endpoint, else the terms.

        `port` is the endpoint's; a rule can also mean the one asked for at creation, which on AWS is the same. Terms are
        `host`, the address the client comes from, and `tls`: whether it is demanded (for MySQL: by what error).
        """
        if not network.admits(self.record, {port, self.record.port}):
            return None
        engine, values = self.record.engine.removeprefix("aurora-"), self.parameters()
        if engine.startswith("postgres"):
            tls = _is_on(values.get("rds.force_ssl", "1"))  # the default of RDS for PostgreSQL since version 15
        else:
            tls = _is_on(values.get("require_secure_transport", "0")) and INSECURE[engine]
        return {"host": network.NOTEBOOK, "tls": tls}

    def accepts(self, user: str, token: str, address: str) -> bool:
        """Say whether the database user may come in at `address` with this token."""
        db = self.record
        try:
            if not db.iam_database_authentication_enabled:
                raise iam_auth.Refused("IAM database authentication is off")
            resource = getattr(db, "db_cluster_resource_id", None) or db.dbi_resource_id
            iam_auth.check(token, user, address, resource, db.account_id, db.region, self.owner)
        except iam_auth.Refused as reason:
            with open(self.log, "a") as log:
                print(f"IAM database authentication of {user!r} at {address}: the token is refused, as {reason}.", file=log)
            return False
        return True


def _is_on(value: str) -> bool:
    return value.lower() not in ("0", "off", "false")
