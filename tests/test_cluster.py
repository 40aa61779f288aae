"""Clusters without the API. (The supervisor here is the test process itself: no local cloud may run beside it.)"""

import contextlib
import threading

import pytest
from botocore.credentials import Credentials
from conftest import PASSWORD, until

from minicloud import rundir
from minicloud.endpoint import Endpoints
from minicloud.engines.mariadb import MariaDB
from minicloud.engines.postgres import Postgres
from minicloud.rds import cluster
from minicloud.rds.cluster import Cluster, Member
from minicloud.rds.instance import Host
from minicloud.supervisor import Supervisor


@pytest.mark.parametrize("engine", [Postgres, MariaDB], ids=["postgres", "mariadb"])
def test_who_takes_over_has_what_it_had_not_received(engine):
    """A reader that got none of the last rows has all of them when it is promoted: the log is on the shared volume."""
    with _host() as host:
        group = Cluster(host, "us-east-1/shop", engine)
        first, second = Member("shop-1", "us-east-1a"), Member("shop-2", "us-east-1b")
        for member in (first, second):
            group.add(member, lambda server: server.create_master("shopadmin", PASSWORD, "shop"))
        with contextlib.closing(first.server.connect("shop")) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (i int)")
            until(lambda: second.server.position() >= first.server.position(), "the reader has the table")
            if engine is Postgres:
                host.endpoints.cut(group._link(second))
            else:
                second.server._tell("STOP SLAVE IO_THREAD")
            for i in range(300):
                cursor.execute(f"INSERT INTO t VALUES ({i})")
        assert _count(second.server) == 0
        group.crash(first)
        until(lambda: group.head is second, "the reader has taken over")
        assert _count(second.server) == 300


@pytest.mark.parametrize("engine", [Postgres, MariaDB], ids=["postgres", "mariadb"])
def test_a_switchover_waits_for_what_is_under_way(engine, monkeypatch):
    """Over a distance of half a second, a switchover begun right after the last commit still loses no row."""
    monkeypatch.setattr(cluster, "DISTANCE_SECONDS", 0.5)
    with _host() as host:
        east, west = Cluster(host, "us-east-1/shop", engine), Cluster(host, "us-west-2/shop", engine)
        first, far = Member("east-1", "us-east-1a"), Member("west-1", "us-west-2a")
        east.add(first, lambda server: server.create_master("shopadmin", PASSWORD, "shop"))
        west.join(east)
        west.add(far, lambda server: None)
        with contextlib.closing(first.server.connect("shop")) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (i int)")
            for i in range(100):
                cursor.execute(f"INSERT INTO t VALUES ({i})")
        west.switch_over(east)
        assert _count(far.server) == 100


def _count(server) -> int:
    with contextlib.closing(server.connect("shop")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
        return cursor.fetchone()[0]


@contextlib.contextmanager
def _host():
    """A Host for the length of a `with` block: what clusters are built from, without the API."""
    supervisor, run = Supervisor(), rundir.create()
    thread = threading.Thread(target=supervisor.serve, daemon=True)
    try:
        endpoints = Endpoints(supervisor, run / "endpoint.log")
        thread.start()
        yield Host(supervisor, endpoints, run, PASSWORD, Credentials("owner", PASSWORD))
    finally:
        supervisor.shutdown()
        thread.join()
        supervisor.kill_everything()
        rundir.remove(run)
