"""What an RDS request says of security, checked and put in the record: KMS key, security groups, subnets, IAM, certificates.

`Responses` in api.py calls these as "the record", where otherwise moto alone would be.
"""

import secrets

from moto.core.responses import ActionResult

from minicloud import certificates
from minicloud.rds import encryption, network
from minicloud.rds.limits import refuse

IAM_ENGINES = ("postgres", "mysql", "mariadb")


class Security:
    """Operations with a part in security; the rest of each is done by the next class."""

    def create_db_instance(self) -> ActionResult:
        self._check(self.params.get("Engine"))
        key = encryption.of_new(self.current_account, self.region, self.params)
        if key:
            self.params["KmsKeyId"] = key
        answer = super().create_db_instance()
        self._secure(answer)
        return answer

    def create_db_cluster(self) -> ActionResult:
        self._check(self.params.get("Engine"))
        answer = super().create_db_cluster()
        network.place(answer.result["DBCluster"], self.params.get("VpcSecurityGroupIds"))
        return answer

    def modify_db_instance(self) -> ActionResult:
        db = self.backend.describe_db_instances(self.params["DBInstanceIdentifier"])[0]
        self._check(db.engine, getattr(db, "db_subnet_group", None))
        if self.params.get("RotateMasterUserPassword") and not db.manage_master_user_password:
            refuse("InvalidParameterCombination", "RotateMasterUserPassword is for a DB instance whose master password "
                   "Secrets Manager has: set ManageMasterUserPassword first.")
        answer = super().modify_db_instance()
        if self.params.get("RotateMasterUserPassword") or self.params.get("ManageMasterUserPassword"):
            self.params["MasterUserPassword"] = db._master_user_password  # for the engine
        return answer

    def create_db_instance_read_replica(self) -> ActionResult:
        source = self.backend.find_db_from_id(self.params["SourceDBInstanceIdentifier"])
        far = source.region != self.region
        self._check(source.engine, None if far else getattr(source, "db_subnet_group", None))
        key = encryption.of_replica(source, self.current_account, self.region, self.params.pop("KmsKeyId", None))
        answer = super().create_db_instance_read_replica()
        replica = answer.result["DBInstance"]
        replica.kms_key_id = key
        replica.enable_iam_database_authentication = bool(self.params.get("EnableIAMDatabaseAuthentication"))
        if far and not self.params.get("DBSubnetGroupName"):
            replica.db_subnet_group = None  # subnets are a Region's own
        self._secure(answer)
        return answer

    def restore_db_instance_from_db_snapshot(self) -> ActionResult:
        snapshot = self.backend.get_db_snapshot(self.params["DBSnapshotIdentifier"])
        return self._restore(super().restore_db_instance_from_db_snapshot, snapshot)

    def restore_db_instance_to_point_in_time(self) -> ActionResult:
        source = self.backend.describe_db_instances(self.params["SourceDBInstanceIdentifier"])[0]
        return self._restore(super().restore_db_instance_to_point_in_time, source)

    def _restore(self, restore, source) -> ActionResult:
        """Restore `source`, a snapshot or an instance, whose key the new instance has."""
        self._check(source.engine)
        answer = restore()
        db = answer.result["DBInstance"]
        db.storage_encrypted, db.kms_key_id = bool(source.kms_key_id), source.kms_key_id
        db.enable_iam_database_authentication = bool(self.params.get("EnableIAMDatabaseAuthentication"))
        self._secure(answer)
        return answer

    def _check(self, engine: str | None, subnets=None) -> None:
        """Refuse what the request must not say; `subnets`: the DB subnet group when it names none."""
        _check_iam(self.params, engine)
        subnets = self.backend.subnet_groups.get(self.params.get("DBSubnetGroupName") or "") or subnets
        network.check_groups(self.backend, self.params.get("VpcSecurityGroupIds"), subnets)

    def _secure(self, answer: ActionResult) -> None:
        """Complete the record of a new instance."""
        db = answer.result["DBInstance"]
        if db.db_cluster_identifier is None:
            network.place(db, self.params.get("VpcSecurityGroupIds"))
        db.ca_certificate_identifier = certificates.AUTHORITY

    def copy_db_snapshot(self) -> ActionResult:
        source = self.backend.get_db_snapshot(self.params["SourceDBSnapshotIdentifier"])
        key = encryption.of_copy(source, self.current_account, self.region, self.params.pop("KmsKeyId", None))
        answer = super().copy_db_snapshot()
        copy = answer.result["DBSnapshot"]
        copy.kms_key_id, copy.encrypted, copy.storage_encrypted = key, bool(key), bool(key)
        return answer

    def create_db_subnet_group(self) -> ActionResult:
        network.check_subnets(self.backend, self.params.get("SubnetIds", []))
        return super().create_db_subnet_group()

    def describe_certificates(self) -> ActionResult:
        found = certificates.describe(self.plane.host.run / "ca.pem")
        found["CertificateArn"] = f"arn:aws:rds:{self.region}::cert:{found['CertificateIdentifier']}"
        asked = self.params.get("CertificateIdentifier")
        if asked not in (None, found["CertificateIdentifier"]):
            refuse("CertificateNotFound", f"The certificate {asked} is not here; {found['CertificateIdentifier']} is.")
        return ActionResult({"Certificates": [found]})


def _check_iam(params: dict, engine: str | None) -> None:
    """Refuse IAM database authentication where RDS has none, or where only RDS has it."""
    if not params.get("EnableIAMDatabaseAuthentication") or (engine or "").startswith("aurora"):
        return
    if engine not in IAM_ENGINES:
        refuse("InvalidParameterCombination", "IAM Database Authentication is not supported for this configuration. RDS has "
               "it for MariaDB, MySQL and PostgreSQL.")
    if engine != "postgres":
        refuse("NotImplemented", "minicloud has IAM database authentication for PostgreSQL only. On AWS this call works.")


def rotate(secret) -> None:
    """Give a managed master secret a new password, as its current version."""
    secret.secretsmanager.put_secret_value(secret.secret.arn, secret._generate_secret_string(), None,
                                           secrets.token_hex(16), ["AWSCURRENT"])
