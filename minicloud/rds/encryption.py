"""Encryption at rest, as the control plane knows it: which KMS key a DB instance or snapshot has, and what is refused.

The record is all there is here: PostgreSQL and MariaDB write their files as they always do.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.html
"""

import re

from moto.core.exceptions import JsonRESTError
from moto.kms.models import KmsBackend, kms_backends
from moto.rds.exceptions import KMSKeyNotAccessibleFault

from minicloud.rds.limits import refuse

DEFAULT_KEY = "alias/aws/rds"  # the AWS managed key of the account for RDS, one in each Region


def key_arn(account: str, region: str, name: str | None) -> str:
    """Return the ARN of a KMS key given as id, alias or ARN (None: RDS's own). Refuse one that RDS could not use."""
    name = name or DEFAULT_KEY
    in_arn = re.fullmatch(r"arn:[\w-]+:kms:([\w-]+):(\d+):(.+)", name)
    where = (in_arn[2], in_arn[1]) if in_arn else (account, region)
    kms = kms_backends[account][region]
    try:
        key = kms.describe_key(in_arn[3].removeprefix("key/") if in_arn else name)
    except Exception:  # of several kinds, by the form of the name
        key = None
    if where != (account, region) or key is None or key.key_state != "Enabled":
        raise KMSKeyNotAccessibleFault(name)
    return key.arn


def of_new(account: str, region: str, params: dict) -> str | None:
    """Return the key of a DB instance to be created, None for none."""
    if params.get("KmsKeyId") and not params.get("StorageEncrypted"):
        refuse("InvalidParameterCombination", "KmsKeyId is for an encrypted DB instance: set StorageEncrypted as well.")
    return key_arn(account, region, params.get("KmsKeyId")) if params.get("StorageEncrypted") else None


def of_replica(source, account: str, region: str, asked: str | None) -> str | None:
    """Return the key of a read replica of `source` in that Region, None for none."""
    if not source.storage_encrypted:
        if asked:
            refuse("InvalidParameterCombination", "You can't create an encrypted read replica from an unencrypted DB "
                   "instance. Leave KmsKeyId out, or encrypt a copy of a snapshot, restore that, and replicate it.")
        return None
    if source.region == region:
        if asked and key_arn(account, region, asked) != source.kms_key_id:
            refuse("InvalidParameterCombination", "A read replica in its source's Region is encrypted with the source's "
                   f"KMS key, {source.kms_key_id}. Leave KmsKeyId out.")
        return source.kms_key_id
    return _of_another_region(f"read replica of {source.db_instance_identifier}", account, region, asked)


def of_copy(source, account: str, region: str, asked: str | None) -> str | None:
    """Return the key of a copy of the snapshot `source` in that Region, None for none: a key asked for encrypts it."""
    if source.kms_key_id and source.region != region:
        return _of_another_region(f"copy of {source.db_snapshot_identifier}", account, region, asked)
    return key_arn(account, region, asked) if asked else source.kms_key_id


def _of_another_region(what: str, account: str, region: str, asked: str | None) -> str:
    if not asked:
        refuse("InvalidParameterCombination", f"The {what} is encrypted, and KMS keys do not leave their Region. Name one "
               f"of {region} with KmsKeyId.")
    return key_arn(account, region, asked)


def heed_key_states() -> None:
    """Make moto's KMS use a key only while it is enabled, as AWS's does."""
    errors = {"Disabled": "DisabledException", "PendingDeletion": "KMSInvalidStateException"}

    def heeding(operation):
        def use(kms, *args, **options):
            answer = operation(kms, *args, **options)  # its last part is the ARN of the key that was used
            key = kms.describe_key(answer[-1])
            if key.key_state != "Enabled":
                raise JsonRESTError(errors.get(key.key_state, "KMSInvalidStateException"), f"{key.arn} is {key.key_state}.")
            return answer
        return use

    KmsBackend.encrypt, KmsBackend.decrypt = heeding(KmsBackend.encrypt), heeding(KmsBackend.decrypt)
