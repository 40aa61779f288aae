"""connect(): what a notebook gets, and what it is told when something is wrong."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from minicloud import local, rundir


def run(code: str, **environment) -> subprocess.CompletedProcess:
    """Run code in a fresh Python."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)


def test_connect_again_is_the_same_cloud_and_close_restores_the_environment():
    """A cell that connects can run twice; after close() the environment is as before and a new cloud can be had."""
    done = run("""
import os, boto3
from minicloud import connect
before = dict(os.environ)
cloud = connect()
assert connect() is cloud and os.environ["AWS_ENDPOINT_URL"] == cloud.url
assert boto3.client("rds").describe_db_instances()["DBInstances"] == []
cloud.close(); cloud.close()
assert dict(os.environ) == before and repr(cloud) == "The local cloud has ended."
again = connect()
assert again is not cloud and again.resources() == []
""", AWS_PROFILE="the-readers-own")
    assert done.returncode == 0, done.stderr


def test_an_older_client_is_refused():
    """A client made before connect() would reach the real AWS: connect() names it and says what to do."""
    done = run("import boto3; c = boto3.client('s3', region_name='us-east-1'); import minicloud; minicloud.connect()")
    assert "boto3 clients already (s3)" in done.stderr and "Restart the kernel" in done.stderr


def test_too_little_disk_is_told_before_anything_starts(monkeypatch):
    """Without a gigabyte of free disk the cloud does not start and says how much it found, and where."""
    monkeypatch.setattr(rundir, "NEEDED_BYTES", 10**18)
    with pytest.raises(rundir.NotEnoughDisk, match="GB of free disk under .* set TMPDIR"):
        rundir.create()


def test_other_peoples_directories_are_left_alone(tmp_path, monkeypatch):
    """A sweep deletes the directory of a dead owner, and neither that of a living one nor one it may not look into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living, foreign, dead = rundir.create(), tmp_path / "minicloud-foreign", tmp_path / "minicloud-dead"
    foreign.mkdir()
    os.chown(foreign, 4711, 4711) if os.geteuid() == 0 else foreign.chmod(0)
    dead.mkdir()
    (dead / "owner.json").write_text('[{"pid": 2000000000, "started": 1.0}]')
    assert rundir.sweep() == [dead]
    assert living.exists() and foreign.exists() and not dead.exists()
    foreign.chmod(0o700)
    rundir.remove(living)


def test_unknown_names_are_answered_with_the_known_ones(cloud):
    """crash() of what is not there says which instances there are; so does connect() of an unknown place."""
    with pytest.raises(local.CloudError, match="no DB instance 'shop'.*none"):
        cloud.crash("shop")
    assert "connect() takes" in run("import minicloud; minicloud.connect('mars')").stderr


def test_a_cloud_that_was_killed_is_told():
    """After the cloud process died, using it says so and how to get a new one; the next cloud sweeps what it left."""
    cloud = local.Cloud()
    cloud._process.kill()
    cloud._process.wait()
    with pytest.raises(local.CloudError, match="has ended. Run .cloud = connect"):
        cloud.resources()
    cloud.close()
    assert Path(cloud.run) in rundir.sweep()
