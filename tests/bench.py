"""Measure what the README promises: `make bench`, or `python tests/bench.py NAME…` for some of it.

Each measurement compares two things in one run, because machines differ and are noisy: read the ratios.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import psutil
import psycopg
import pymysql
from conftest import PASSWORD, available, in_sync, instance, sql, until
from test_aurora import global_database, lose_a_region
from test_dynamodb import table, write_batches
from test_rds import check_restores, fail_over_under_load

from minicloud import local, platforms
from minicloud.dynamodb import server as dynoxide
from minicloud.engines import mariadb, postgres


def say(what: str, measured: str, bar: str, holds: bool) -> bool:
    """Print a line of the report; return whether the bar holds."""
    print(f"{'ok  ' if holds else 'MISS'}  {what:<66} {measured:<34} bar: {bar}", flush=True)
    return holds


def seconds_of(code: str) -> float:
    """Return how long a fresh Python takes to run `code`, which says itself when it is done."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code + "\nprint('done', flush=True)"], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    taken = time.perf_counter() - begin
    process.communicate()
    return taken


def connect() -> bool:
    """connect() in a fresh process against the import of moto's server alone."""
    pairs = [(seconds_of("from minicloud import connect; cloud = connect()"), seconds_of("import moto.server, moto.rds.models"))
             for _ in range(5)]
    ours, moto = (statistics.median(times) for times in zip(*pairs))
    return say("connect() against importing moto's server", f"{ours:.2f} s / {moto:.2f} s = {ours / moto:.2f}", "2", ours <= 2 * moto)


def create() -> bool:
    """From create_db_instance to the first answered query, against the bare programs doing the same work."""
    with contextlib.closing(local.Cloud()):
        rds, holds = boto3.client("rds"), True
        for engine, bare in (("postgres", bare_postgres), ("mariadb", bare_mariadb)):
            pairs = []
            for n in range(3):
                begin = time.perf_counter()
                with instance(rds, f"new-{engine}-{n}", engine) as db:
                    sql(db, "SELECT 1")
                    pairs.append((time.perf_counter() - begin, bare()))
            ours, theirs = (statistics.median(times) for times in zip(*pairs))
            holds &= say(f"{engine}: created, backed up and queried, against bare programs",
                         f"{ours:.2f} s / {theirs:.2f} s = {ours / theirs:.2f}", "1.5", ours <= 1.5 * theirs)
        return holds


@contextlib.contextmanager
def bare_directory():
    """A directory of the engines' account, and the options that run a program as that account."""
    account = platforms.engine_account()
    with tempfile.TemporaryDirectory() as path:
        platforms.give_to_engine(Path(path))
        yield Path(path), {"user": account and account.pw_uid, "group": account and account.pw_gid, "cwd": path,
                           "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def bare_postgres() -> float:
    """Return the seconds that PostgreSQL's programs need for: initdb, start, user and database, base backup, a query."""
    begin, bin = time.perf_counter(), postgres.programs()
    with bare_directory() as (path, options):
        subprocess.run([bin / "initdb", "-D", path / "data", "-U", "boss", "--wal-segsize=1", "--no-sync"], check=True, **options)
        server = subprocess.Popen([bin / "postgres", "-D", path / "data", "-k", path, "-h", "", "-c", "shared_buffers=16MB"],
                                  **options)
        with retry(lambda: psycopg.connect(host=str(path), user="boss", dbname="postgres", autocommit=True)) as connection:
            connection.execute("CREATE ROLE shopadmin LOGIN PASSWORD 'x'")
            connection.execute("CREATE DATABASE shop OWNER shopadmin")
        subprocess.run([bin / "pg_basebackup", "-D", path / "copy", "-h", path, "-U", "boss", "-c", "fast", "--no-sync"],
                       check=True, **options)
        with psycopg.connect(host=str(path), user="shopadmin", dbname="shop") as connection:
            connection.execute("SELECT 1")
        taken = time.perf_counter() - begin
        server.terminate()
        server.wait()
    return taken


def bare_mariadb() -> float:
    """Return the seconds that MariaDB's programs need for: install-db, start, user and database, backup, a query."""
    begin, programs = time.perf_counter(), mariadb.programs()
    with bare_directory() as (path, options):
        where = [f"--datadir={path}/data", f"--socket={path}/sock"]
        subprocess.run([programs["mariadb-install-db"], "--no-defaults", where[0], "--skip-test-db",
                        "--auth-root-authentication-method=normal"], check=True, **options)
        server = subprocess.Popen([programs["mariadbd"], "--no-defaults", *where, "--skip-networking", "--log-bin",
                                   "--innodb-buffer-pool-size=32M", "--innodb-use-native-aio=OFF"], **options)
        with retry(lambda: pymysql.connect(unix_socket=f"{path}/sock", user="root")) as connection:
            with connection.cursor() as cursor:
                cursor.execute("CREATE USER shopadmin IDENTIFIED BY 'x'")
                cursor.execute("CREATE DATABASE shop")
        backup = [programs["mariadb-backup"], "--no-defaults", f"--target-dir={path}/copy"]
        subprocess.run([*backup, "--backup", *where, "--user=root"], check=True, **options)
        subprocess.run([*backup, "--prepare"], check=True, **options)
        pymysql.connect(unix_socket=f"{path}/sock", user="shopadmin", password="x").close()
        taken = time.perf_counter() - begin
        server.terminate()
        server.wait()
    return taken


def retry(connect):
    """Return the connection that `connect` gives as soon as the server takes it."""
    while True:
        try:
            return connect()
        except (psycopg.OperationalError, pymysql.OperationalError):
            time.sleep(0.01)


def endpoint() -> bool:
    """A round trip through the endpoint against one straight to the server's socket."""
    with contextlib.closing(local.Cloud()) as cloud, instance(boto3.client("rds"), "near", "postgres") as db:
        socket = next(Path(cloud.run).glob("n*/.s.PGSQL.5432"))
        with sql(db) as through, psycopg.connect(host=str(socket.parent), user="shopadmin", password=PASSWORD,
                                                 dbname="shop") as straight:
            rounds = [(round_trip(through), round_trip(straight)) for _ in range(5000)]
        with_it, without = (statistics.median(times) * 1e3 for times in zip(*rounds))
        return say("a round trip through the endpoint against the socket", f"{with_it:.3f} ms / {without:.3f} ms = "
                   f"+{with_it - without:.3f} ms", "+0.2 ms", with_it - without < 0.2)


def round_trip(connection) -> float:
    begin = time.perf_counter()
    connection.execute("SELECT 1").fetchone()
    return time.perf_counter() - begin


def failover() -> bool:
    """Failovers under load in a row; fail_over_under_load asserts that nothing acknowledged is lost."""
    with contextlib.closing(local.Cloud()) as cloud:
        rds, holds = boto3.client("rds"), True
        for engine, number in (("postgres", 50), ("mariadb", 20)):
            with instance(rds, f"ha-{engine}", engine, MultiAZ=True) as db:
                gaps = []
                for _ in range(number):
                    in_sync(cloud, db["DBInstanceIdentifier"])
                    gaps.append(fail_over_under_load(cloud, rds, db))
            holds &= say(f"{engine}: {len(gaps)} failovers under load, no acknowledged row lost",
                         f"outage {statistics.median(gaps):.2f} s (longest {max(gaps):.2f})", f"{number} in a row",
                         len(gaps) == number)
        return holds


def global_failover() -> bool:
    """Unplanned failovers between two Regions whose link is cut; lose_a_region asserts that the rows counted as lost are
    those that only the old primary has."""
    with contextlib.closing(local.Cloud()) as cloud:
        rds, west = boto3.client("rds"), boto3.client("rds", region_name="us-west-2")
        lost = []
        with global_database(rds, west, "aurora-postgresql") as regions:
            for number in range(20):
                pair = ("east", "west") if number % 2 == 0 else ("west", "east")
                lost.append(lose_a_region(cloud, rds, regions, *pair))
        return say("unplanned global failovers, lost rows counted twice", f"{len(lost)}, {min(lost)} to {max(lost)} rows each",
                   "20, the counts equal", len(lost) == 20 and min(lost) > 0)


def restore() -> bool:
    """Point-in-time restores to random seconds; check_restores asserts that exactly the acknowledged rows are back."""
    with contextlib.closing(local.Cloud()):
        rds, holds = boto3.client("rds"), True
        for engine in ("postgres", "mariadb"):
            with instance(rds, f"past-{engine}", engine) as db:
                begin = time.perf_counter()
                check_restores(rds, db, number=20, seconds=20)
                taken = (time.perf_counter() - begin - 20) / 20
            holds &= say(f"{engine}: 20 restores to random seconds of 20 s of writes", f"{taken:.1f} s each", "exact", True)
        return holds


def memory() -> bool:
    """A Multi-AZ PostgreSQL and a MariaDB, idle: all processes of the cloud, shared pages counted once (PSS)."""
    with contextlib.closing(local.Cloud()) as cloud:
        rds = boto3.client("rds")
        with instance(rds, "a", "postgres", MultiAZ=True), instance(rds, "b", "mariadb"):
            in_sync(cloud, "a")
            available(rds, "b")
            time.sleep(6)
            family = psutil.Process(cloud._process.pid)
            mine = family.memory_full_info().pss
            total = mine + sum(p.memory_full_info().pss for p in family.children(recursive=True))
        return say("idle Multi-AZ PostgreSQL and MariaDB, with the cloud itself", f"{total / 1e6:.0f} MB, of which the API "
                   f"{mine / 1e6:.0f}", "400 MB", total < 400e6)


def datasets() -> bool:
    """Ten million order lines written to Parquet, against DuckDB alone writing as many rows of as many integers."""
    with tempfile.TemporaryDirectory() as path:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "datasets", "--scale", "1", "--only", "order_lines", "--out", path], check=True,
                       stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        ours = time.perf_counter() - begin
        begin = time.perf_counter()
        copy = (f"COPY (SELECT range a, range*7 % 240 b, range % 9 c, range % 1999 d, range % 3 e FROM range(10318023)) "
                f"TO '{path}/plain.parquet'")
        subprocess.run([sys.executable, "-c", f"import duckdb; duckdb.sql({copy!r})"], check=True)
        plain = time.perf_counter() - begin
    return say("ten million order lines, against DuckDB writing plain numbers", f"{ours:.1f} s / {plain:.1f} s = {ours / plain:.1f}",
               "60 s", ours < 60)


@contextlib.contextmanager
def bare_dynoxide():
    """The address of a Dynoxide that runs alone, with a file as the cloud's has."""
    with tempfile.TemporaryDirectory() as path:
        server = subprocess.Popen([dynoxide.program(), "serve", "--port", "0", "--db-path", f"{path}/tables.db"],
                                  stderr=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{until(lambda: dynoxide.port_of(server.pid), 'Dynoxide listens')}"
        finally:
            server.kill()
            server.wait()


@contextlib.contextmanager
def moto_server():
    """The address of moto's own server, as it is."""
    code = """if True:
        import time
        from moto.server import ThreadedMotoServer
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        print(*server.get_host_and_port(), flush=True)
        time.sleep(3600)"""
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield "http://127.0.0.1:" + server.stdout.readline().split()[1]
    finally:
        server.kill()
        server.wait()


def rate(call) -> float:
    """Return the calls per second of 100 calls."""
    begin = time.perf_counter()
    for number in range(100):
        call(number)
    return 100 / (time.perf_counter() - begin)


def dynamodb() -> bool:
    """Puts and gets through boto3 against the bare engine and against moto's server; Query in a small and a large table."""
    with contextlib.closing(local.Cloud()) as cloud, bare_dynoxide() as bare, moto_server() as moto, contextlib.ExitStack() as stack:
        clients = [boto3.client("dynamodb", endpoint_url=url) for url in (cloud.url, bare, moto)]
        for client in clients:
            stack.enter_context(table(client, "speeds", "id"))
        item, holds = {"note": {"S": "x" * 100}}, True
        calls = {"put": lambda client: lambda n: client.put_item(TableName="speeds", Item=item | {"id": {"S": str(n)}}),
                 "get": lambda client: lambda n: client.get_item(TableName="speeds", Key={"id": {"S": str(n)}})}
        for name, call in calls.items():
            rounds = [[rate(call(client)) for client in clients] for _ in range(15)]
            ours = statistics.median(rates[0] for rates in rounds)
            for other, what, bar in ((1, "the bare engine", 0.8), (2, "moto's server", 3)):
                ratio = statistics.median(rates[0] / rates[other] for rates in rounds)
                holds &= say(f"DynamoDB {name}s a second, against {what}", f"{ours:.0f}, {ratio:.2f} times", str(bar), ratio >= bar)
        return holds & dynamodb_query(clients[0])


def dynamodb_query(client) -> bool:
    """A Query for one key's ten items, in a table of 1,000 items and in one of 100,000."""
    with table(client, "small", "customer", "order"), table(client, "large", "customer", "order"):
        for name, size in (("small", 1_000), ("large", 100_000)):
            write_batches(client, name, [{"customer": {"S": str(n // 10)}, "order": {"S": str(n)}} for n in range(size)])
        pairs = [[1 / rate(lambda n: client.query(TableName=name, KeyConditionExpression="customer = :c",
                                                  ExpressionAttributeValues={":c": {"S": str(n % 100)}}))
                  for name in ("large", "small")] for _ in range(7)]
        large, small = (statistics.median(times) * 1000 for times in zip(*pairs))
        return say("DynamoDB Query at 100,000 items, against 1,000", f"{large:.2f} ms / {small:.2f} ms = {large / small:.2f}", "2",
                   large <= 2 * small)


ALL = {f.__name__: f for f in (connect, create, endpoint, memory, failover, global_failover, restore, datasets, dynamodb)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(ALL)} (default: all)")
    names = parser.parse_args().names
    unknown = set(names) - ALL.keys()
    if unknown:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are {', '.join(ALL)}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {psutil.virtual_memory().total / 1e9:.0f} GB")
    return 0 if all([ALL[name]() for name in names or ALL]) else 1


if __name__ == "__main__":
    sys.exit(main())
