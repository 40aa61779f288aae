"""MariaDB servers keep what `engine.Server` promises, while faults are injected."""

import concurrent.futures
import datetime
import itertools
import random
import shutil
import threading
import time

import psutil
import pymysql
import pytest

from minicloud import endpoint, platforms, rundir
from minicloud.endpoint import Endpoints
from minicloud.engines import mariadb
from minicloud.engines.engine import EngineFailed, EngineUnavailable, Link
from minicloud.engines.mariadb import MariaDB
from minicloud.supervisor import ProgramFailed, Supervisor

pytestmark = pytest.mark.skipif(shutil.which("mariadbd", path="/usr/sbin:/usr/bin:/opt/homebrew/bin") is None,
                                reason="apt-get install mariadb-server-core mariadb-backup mariadb-client-core")
MASTER = {"user": "shop", "password": "a master's \"password\""}
SECRET = "the administrator's \\ secret"


def scenario(test):
    """Run a test in a thread with a `Cloud`, while the main thread supervises its processes as in the cloud process."""

    def run():
        supervisor, directory = Supervisor(), rundir.create()
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                outcome = pool.submit(lambda: test(Cloud(supervisor, directory)))
                outcome.add_done_callback(lambda _: supervisor.shutdown())
                supervisor.serve()
            outcome.result()
        finally:
            supervisor.kill_everything()
            rundir.remove(directory)

    run.__doc__ = test.__doc__
    return run


class Cloud:
    """Servers of one instance behind one endpoint, "shop-db"."""

    def __init__(self, supervisor, directory):
        self.supervisor, self.directory = supervisor, directory
        self.endpoints = Endpoints(supervisor, directory / "endpoint.log")
        self.archive = directory / "archive"
        self.archive.mkdir()
        platforms.give_to_engine(self.archive)
        self.numbers = itertools.count(1)

    def server(self):
        return MariaDB(self.supervisor, self.directory / f"n{next(self.numbers)}", SECRET, archive_to=self.archive)

    def primary(self):
        """A started primary with a table, at the endpoint."""
        server = self.server()
        server.create()
        server.start()
        server.create_master(**MASTER, database="shop")
        self.port = self.endpoints.open("shop-db", server.socket)
        with self.connect() as connection:
            do(connection, "CREATE TABLE orders (id INT PRIMARY KEY)")
        return server

    def follower(self, source, *, synchronous):
        """A started standby or replica of `source`; its link has its name."""
        server = self.server()
        server.clone(source)
        port = self.endpoints.open(server.node.name, source.socket)
        server.follow(Link(endpoint.HOST, port, server.node.name), synchronous=synchronous)
        server.start()
        until(server.is_following)
        return server

    def standby(self, source):
        """A started standby that `source` waits for."""
        server = self.follower(source, synchronous=True)
        source.wait_for(server.node.name)
        until(lambda: source.is_in_sync(server, server.node.name))
        return server

    def fail_over(self, lost, standby):
        """Lose the primary, promote the standby behind the same endpoint."""
        lost.kill()
        standby.promote()
        self.endpoints.point("shop-db", standby.socket)

    def connect(self, **changes):
        options = MASTER | {"port": self.port, "database": "shop", "autocommit": True, "connect_timeout": 5} | changes
        return pymysql.connect(host=endpoint.HOST, **options)


class Load:
    """Four clients that insert orders through the endpoint and note when each began and was acknowledged."""

    def __init__(self, cloud):
        self.cloud, self.begun, self.acknowledged = cloud, {}, {}
        self.ids, self.ending = itertools.count(1), False
        self.threads = [threading.Thread(target=self.work) for _ in range(4)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending = True
        for thread in self.threads:
            thread.join()

    def work(self):
        while not self.ending:
            try:
                with self.cloud.connect(read_timeout=5) as connection:
                    while not self.ending:
                        number = next(self.ids)
                        self.begun[number] = time.time()
                        do(connection, f"INSERT INTO orders VALUES ({number})")
                        self.acknowledged[number] = time.time()
                        time.sleep(0.005)
            except pymysql.MySQLError:
                time.sleep(0.02)


def do(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def orders(server):
    """The numbers of the orders that a server holds."""
    with server.connect("shop") as connection:
        return {row[0] for row in do(connection, "SELECT id FROM orders")}


def until(done, seconds=15):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s: {done}"
        time.sleep(0.02)


@scenario
def test_login(cloud):
    """The endpoint lets in the master user with the password, and nobody else; no SUPER, no FILE."""
    server = cloud.primary()
    with cloud.connect() as connection:
        grants = do(connection, "SHOW GRANTS")[0][0]
    assert "CREATE USER" in grants and not {"SUPER", "FILE", "ALL"} & set(grants.replace(",", "").split())
    client = ["mariadb", "--no-defaults", "-h", endpoint.HOST, "-P", cloud.port, "-u", MASTER["user"], "-e", "SELECT 1"]
    cloud.supervisor.run([*client, f"-p{MASTER['password']}"], log=cloud.directory / "client.log")
    with pytest.raises(ProgramFailed, match="Access denied"):
        cloud.supervisor.run([*client, "-pwrong"], log=cloud.directory / "client.log")
    for stranger in ({"password": "wrong"}, {"user": "root", "password": ""}, {"user": "", "password": ""}):
        with pytest.raises(pymysql.OperationalError, match="Access denied"):
            cloud.connect(**stranger)
    server.set_password(MASTER["user"], "another")
    cloud.connect(password="another").close()
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        cloud.connect()
    assert not [log for log in server.data.glob("binlog.*") if MASTER["password"][:8].encode() in log.read_bytes()]


@scenario
def test_failover_loses_nothing(cloud):
    """Five primaries in a row are killed under load: each standby, late with its replay, still has all acknowledged."""
    primary = cloud.primary()
    with Load(cloud) as load:
        for _ in range(5):
            standby = cloud.standby(primary)
            before = len(load.acknowledged)
            reader = standby.connect("shop")
            do(reader, "LOCK TABLES orders READ")  # acknowledged rows pile up in the standby's relay log
            until(lambda: len(load.acknowledged) > before + 50)
            time.sleep(random.random() / 10)
            threading.Timer(1, reader.close).start()
            cloud.fail_over(primary, standby)
            assert set(load.acknowledged) <= orders(standby)
            primary = standby
    assert set(load.acknowledged) <= orders(primary)


@scenario
def test_commit_waits_for_standby(cloud):
    """With the standby out of reach a commit is not answered; if the primary dies then, it never was, in no restore."""
    primary = cloud.primary()
    standby = cloud.standby(primary)
    base = cloud.directory / "base"
    primary.backup_to(base)
    primary.wait_for(None)
    cloud.endpoints.cut(standby.node.name)
    with cloud.connect() as connection:
        do(connection, "INSERT INTO orders VALUES (1)")
    primary.wait_for(standby.node.name)
    assert not primary.is_in_sync(standby, standby.node.name)
    cloud.endpoints.heal(standby.node.name)
    until(lambda: primary.is_in_sync(standby, standby.node.name))
    cloud.endpoints.cut(standby.node.name)
    with cloud.connect(read_timeout=1) as connection, pytest.raises(pymysql.OperationalError, match="timed out"):
        do(connection, "INSERT INTO orders VALUES (2)")
    primary.ship_log()
    cloud.fail_over(primary, standby)
    with cloud.connect() as connection:
        do(connection, "INSERT INTO orders VALUES (3)")
    assert orders(standby) == {1, 3}
    standby.ship_log()
    restored = cloud.server()
    restored.restore(base, cloud.archive, None)
    restored.start()
    assert orders(restored) == {1, 3}


@scenario
def test_replica_catches_up(cloud):
    """A read replica does not take writes, notices a cut link within seconds and catches up when it is healed."""
    primary = cloud.primary()
    replica = cloud.follower(primary, synchronous=False)
    port = cloud.endpoints.open("replica", replica.socket)
    with cloud.connect() as writer, cloud.connect(port=port) as reader:
        do(writer, "INSERT INTO orders VALUES (1)")
        until(lambda: do(reader, "SELECT id FROM orders") == ((1,),))
        with pytest.raises(pymysql.OperationalError, match="read-only"):
            do(reader, "INSERT INTO orders VALUES (2)")
        cloud.endpoints.cut(replica.node.name)
        do(writer, "INSERT INTO orders VALUES (2), (3)")
        until(lambda: not replica.is_following(), 8)
        assert replica.position() < primary.position()
        cloud.endpoints.heal(replica.node.name)
        until(lambda: do(reader, "SELECT id FROM orders") == ((1,), (2,), (3,)))
    until(replica.is_following)
    replica.promote()
    replica.stop()
    replica.start()
    with cloud.connect(port=port) as writer:
        do(writer, "INSERT INTO orders VALUES (4)")
    assert orders(replica) == {1, 2, 3, 4}


@scenario
def test_restore_to_a_second(cloud):
    """Under load, across a failover, a restore brings what was acknowledged by the second asked for, nothing later."""
    primary = cloud.primary()
    base = cloud.directory / "base"
    primary.backup_to(base)
    first = time.time()
    with Load(cloud) as load:
        standby = cloud.standby(primary)
        time.sleep(1)
        primary.ship_log()
        time.sleep(1)
        cloud.fail_over(primary, standby)
        time.sleep(3)
        last = standby.ship_log().timestamp()
    assert last - first > 5
    for second in random.sample(range(int(first) + 1, int(last) + 1), 5):
        restored = cloud.server()
        restored.restore(base, cloud.archive, datetime.datetime.fromtimestamp(second, datetime.UTC))
        restored.start()
        found = orders(restored)
        assert found >= {number for number, at in load.acknowledged.items() if at < second}
        assert not [number for number in found if load.begun[number] >= second]
        restored.remove()


# What is logged in a way of its own: DDL, savepoints, XA, temporary tables, MyISAM, procedures, sequences, statements.
KINDS = """CREATE TABLE m (id INT) ENGINE = MyISAM; INSERT INTO m VALUES (1); CREATE TABLE copied SELECT id FROM m;
START TRANSACTION; INSERT INTO orders VALUES (1); INSERT INTO m VALUES (2); SAVEPOINT x; INSERT INTO orders VALUES (2);
ROLLBACK TO x; COMMIT; XA START 'a'; INSERT INTO orders VALUES (3); XA END 'a'; XA PREPARE 'a'; XA COMMIT 'a';
CREATE TEMPORARY TABLE t (id INT); INSERT INTO t VALUES (4); INSERT INTO orders SELECT id FROM t; DROP TABLE t;
TRUNCATE copied; CREATE PROCEDURE p() INSERT INTO orders VALUES (5); CALL p(); CREATE SEQUENCE q; DO NEXTVAL(q);
START TRANSACTION; INSERT INTO m VALUES (3); ROLLBACK; SET SESSION binlog_format = 'STATEMENT'; SET @n = 6;
INSERT INTO orders VALUES (@n); INSERT INTO orders VALUES (LAST_INSERT_ID(7)); ANALYZE TABLE orders; DELETE FROM m
WHERE id = 1"""


@scenario
def test_restore_of_every_kind(cloud):
    """A restore replays every kind of transaction, on an instance that has backups from its first moment."""
    server = cloud.server()
    server.create()
    server.start()
    base = cloud.directory / "base"
    server.backup_to(base)
    server.create_master(**MASTER, database="shop")
    with server.connect("shop") as connection:
        for statement in ["CREATE TABLE orders (id INT PRIMARY KEY)", *KINDS.split(";")]:
            do(connection, statement)
    server.ship_log()
    restored = cloud.server()
    restored.restore(base, cloud.archive, None)
    restored.start()
    assert orders(restored) == orders(server) == {1, 3, 4, 5, 6, 7}
    assert restored.position() == server.position()
    with restored.connect("shop") as connection:
        assert do(connection, "SELECT id FROM m") == ((2,), (3,)) and not do(connection, "SELECT * FROM copied")


@scenario
def test_kill_leaves_nothing(cloud):
    """A killed server leaves no process and no socket, and starts again with every acknowledged row."""
    server = cloud.primary()
    with Load(cloud) as load:
        until(lambda: len(load.acknowledged) > 50)
        server.kill()
    assert not server.socket.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(server.node) in " ".join(p.info["cmdline"] or [])]
    server.start()
    assert set(load.acknowledged) <= orders(server)


@scenario
def test_parameters(cloud):
    """Parameters reach the server: dynamic ones at once, static ones at the next start; a bad one is named."""
    server = cloud.primary()
    about = {parameter["ParameterName"]: parameter for parameter in server.parameters()}
    assert about["max_connections"]["ApplyType"] == "dynamic" and about["max_connections"]["ParameterValue"] == "100"
    assert about["back_log"]["ApplyType"] == "static" and about["back_log"]["IsModifiable"]
    assert not about["datadir"]["IsModifiable"] and mariadb.RESERVED <= about.keys()

    def now():
        with cloud.connect() as connection:
            return do(connection, "SELECT @@max_connections, @@back_log, @@character_set_server")[0]

    server.write_parameters({"max_connections": "50", "back_log": "60", "character_set_server": "latin1"})
    server.reload()
    assert now() == (50, 70, "latin1")
    server.stop()
    server.start()
    assert now() == (50, 60, "latin1")
    server.write_parameters({})
    server.reload()
    assert now() == (100, 60, "utf8mb4")
    server.stop()
    server.write_parameters({"no_such_setting": "1"})
    with pytest.raises(EngineFailed, match="MariaDB did not start: .*unknown variable 'no_such_setting=1'"):
        server.start()
    assert not server.is_running


def test_missing_programs(monkeypatch):
    """Without MariaDB's programs one sentence says what to install."""
    monkeypatch.setattr(platforms, "find_program", lambda *names, **_: None)
    mariadb.programs.cache_clear()
    try:
        with pytest.raises(EngineUnavailable, match="looked for mariadbd, .*apt-get install mariadb-server-core"):
            mariadb.programs()
    finally:
        mariadb.programs.cache_clear()
