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
    with _pair(engine) as (_, east, west):
        with contextlib.closing(east.head.server.connect("shop")) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (i int)")
            for i in range(100):
                cursor.execute(f"INSERT INTO t VALUES ({i})")
        west.switch_over(east)
        assert _count(west.head.server) == 100


def test_a_switchover_that_cannot_end_is_taken_back(monkeypatch):
    """With the link between the Regions cut, a switchover is given up, and the old primary cluster takes writes again."""
    monkeypatch.setattr(cluster, "SWITCHOVER_SECONDS", 1)
    with _pair(Postgres) as (host, east, west):
        host.endpoints.cut(west.far_link)
        _execute(east.head.server, "CREATE TABLE t (i int)")
        with pytest.raises(TimeoutError, match="receive all of the log"):
            west.switch_over(east)
        assert _targets(host, east) == [str(east.head.server.socket)] and west.source is east


def test_a_lost_region_that_recovers_takes_no_writes():
    """A primary cluster whose writer recovers while another Region takes over stays closed: nobody writes to both."""
    with _pair(Postgres) as (host, east, west):
        _execute(east.head.server, "CREATE TABLE t (i int)")
        west.fail_over_from(east)
        east.crash(east.head)
        until(lambda: east.head.is_up and east.head.server.answers(), "the old writer has recovered")
        east.watch()
        assert _targets(host, east) == [] and _targets(host, west) == [str(west.head.server.socket)]
        assert host.endpoints._state[f"{east.name}.{east.head.name}"]["targets"] == []
        east.rejoin(west)
        assert east.head.server.is_following() and _targets(host, east) == []


def _targets(host, group) -> list[str]:
    """Return where a cluster's writer endpoint leads."""
    return host.endpoints._state[group.writer_endpoint]["targets"]


def _execute(server, statement: str) -> None:
    with contextlib.closing(server.connect("shop")) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


@contextlib.contextmanager
def _pair(engine):
    """A Host, and the clusters of a global database of two Regions on it, an instance each."""
    with _host() as host:
        east, west = Cluster(host, "us-east-1/shop", engine), Cluster(host, "us-west-2/shop", engine)
        east.add(Member("east-1", "us-east-1a"), lambda server: server.create_master("shopadmin", PASSWORD, "shop"))
        west.join(east)
        west.add(Member("west-1", "us-west-2a"), lambda server: None)
        yield host, east, west


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
