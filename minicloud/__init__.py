"""minicloud: the AWS API on this machine, with real database engines behind it."""

from minicloud.claims import ClaimError, claim
from minicloud.local import Cloud, CloudError
from minicloud.local import connect as _connect_local

__all__ = ["ClaimError", "Cloud", "CloudError", "claim", "connect"]


def connect(where: str = "local", **options):
    """Return the cloud that the cells of this notebook talk to.

    `connect()` starts the local cloud (or returns the running one); `region` chooses the default Region.
    `connect("aws", budget=5)` uses the reader's own AWS account, carefully: see `minicloud.live.connect`.
    Everything else stays plain boto3. Raises CloudError.
    """
    if where == "local":
        return _connect_local(**options)
    if where == "aws":
        from minicloud import live

        return live.connect(**options)
    raise CloudError(f'connect() takes "local" or "aws", not {where!r}.')
