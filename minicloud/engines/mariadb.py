"""MariaDB: what `engine.Server` promises, with MariaDB's own means (semi-synchronous GTID replication, binary logs).

MariaDB speaks for MySQL here, as the book says. One difference from PostgreSQL shows through: a binary log stamps each
transaction with the whole second its COMMIT began in, so a point-in-time restore is exact to the second, as on RDS.
"""

import contextlib
import datetime
import functools
import math
import re
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import pymysql
from pymysql.converters import escape_string

from minicloud import platforms
from minicloud.engines.engine import EngineFailed, EngineUnavailable, Link, Server, Statistics, write_whole
from minicloud.supervisor import tail

PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb-backup")

# Small on purpose: Binder gives 2 GB of memory to everything together. A lost link is noticed within three seconds. The
# semi-synchronous timeout never comes: a primary that went on without its standby would break Multi-AZ's promise.
# `secure_timestamp` keeps clients from back-dating their transactions, which would spoil a restore to a point in time.
SETTINGS = {
    "aria_log_file_size": "8M",
    "aria_pagecache_buffer_size": "1M",
    "binlog_format": "ROW",
    "character_set_server": "utf8mb4",
    "default_time_zone": "+00:00",
    "gtid_strict_mode": "ON",
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "innodb_buffer_pool_load_at_startup": "OFF",
    "innodb_buffer_pool_size": "32M",
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_log_buffer_size": "2M",
    "innodb_log_file_size": "16M",
    "innodb_use_native_aio": "OFF",  # io_uring is forbidden in most containers
    "key_buffer_size": "64K",
    "log_bin": "binlog",
    "log_slave_updates": "ON",
    "log_warnings": "1",
    "max_binlog_size": "16M",
    "max_connections": "100",
    "performance_schema": "OFF",
    "relay_log": "relay",
    "rpl_semi_sync_master_timeout": str(2**63 // 1000),
    "rpl_semi_sync_master_wait_no_slave": "ON",
    "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
    "rpl_semi_sync_slave_kill_conn_timeout": "1",
    "secure_timestamp": "SUPER",
    "skip_name_resolve": "ON",
    "skip_networking": "ON",
    "slave_net_timeout": "3",
    "sync_binlog": "1",
    "table_definition_cache": "400",
    "table_open_cache": "400",
}

# A follower does not wait for the disk at each transaction: it replays them one by one, and would fall behind a primary
# that commits them in groups. Killed, it still loses nothing (the operating system has it); promoted, it waits again.
FOLLOWER = {"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}

# Settings that the cloud itself needs, besides those of places in the file system: not the reader's to modify.
RESERVED = {"binlog_checksum", "bind_address", "encrypt_binlog", "gtid_domain_id", "gtid_strict_mode",
            "innodb_use_native_aio", "log_bin", "log_bin_index", "log_error", "log_slave_updates", "port", "read_only",
            "relay_log", "relay_log_index", "rpl_semi_sync_master_enabled", "rpl_semi_sync_master_timeout",
            "rpl_semi_sync_master_wait_no_slave", "rpl_semi_sync_master_wait_point", "rpl_semi_sync_slave_enabled",
            "secure_file_priv", "secure_timestamp", "server_id", "skip_name_resolve", "skip_networking",
            "slave_net_timeout", "socket"}
PLACES = ("dir", "directory", "_file", "_path")

# What RDS for MariaDB grants its master user, as of 2026-11-24: no SUPER, no FILE.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.MasterAccounts.html
# SLAVE MONITOR is what MariaDB 10.5 split off REPLICATION CLIENT: without it SHOW REPLICA STATUS is refused.
MASTER_PRIVILEGES = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, "
    "CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION CLIENT, SLAVE MONITOR, CREATE VIEW, SHOW VIEW, "
    "CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, REPLICATION SLAVE")

CLIENTS = ("SELECT COUNT(*) FROM information_schema.PROCESSLIST "
           "WHERE USER NOT IN (%s, 'system user', 'event_scheduler', 'unauthenticated user')")

_template_lock = threading.Lock()


@functools.cache
def programs() -> dict[str, Path]:
    """Return the paths of the MariaDB programs used here, by name."""
    found = {name: platforms.find_program(name, also=("/opt/homebrew/opt/mariadb*/bin",)) for name in PROGRAMS}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise EngineUnavailable(f"MariaDB is not here: looked for {', '.join(missing)} on PATH and in /usr/sbin. Run "
                                "`apt-get install mariadb-server-core mariadb-backup mariadb-client-core` "
                                "(on macOS `brew install mariadb`).")
    return found


class MariaDB(Server):
    """A MariaDB server."""

    READ_ONLY: ClassVar[dict[str, str]] = {"read_only": "ON"}

    @classmethod
    @functools.cache
    def version(cls) -> str:
        return re.search(r"Ver (\d+\.\d+\.\d+)", platforms.program_version(programs()["mariadbd"]))[1]

    @property
    def socket(self) -> Path:
        return self.node / "sock"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.node / "data"

    @property
    def _settings(self) -> Path:
        """The directory of the settings' parts, read in this order: base, parameters (the group's), role, waits."""
        return self.node / "conf.d"

    def __post_init__(self):
        super().__post_init__()
        self._parameters: dict[str, str] = {}
        self._dropped: set[str] = set()
        for path in (self._settings, self.node / "tmp"):
            if not path.exists():
                path.mkdir(mode=0o700)
                platforms.give_to_engine(path)
        own = {"datadir": self.data, "socket": self.socket, "tmpdir": self.node / "tmp", "pid_file": self.node / "pid",
               "server_id": zlib.crc32(str(self.node).encode()) % (2**32 - 1) + 1}
        certificate = self.node.parent / "server.pem"  # the cloud's, as in `certificates.create_authority`
        if certificate.exists():
            own["ssl_cert"] = own["ssl_key"] = write_whole(self.node / "server.pem", certificate.read_text())
        self._write_settings("base", SETTINGS | own)
        write_whole(self.node / "my.cnf", f'[client]\nuser = {self.ADMIN}\npassword = "{_escaped(self.secret)}"\n'
                                     f"socket = {self.socket}\n!includedir {self._settings}\n")

    def _write_settings(self, part: str, values: dict) -> None:
        quoted = [f'{name} = "{_escaped(str(value))}"\n' for name, value in sorted(values.items())]
        write_whole(self._settings / f"{part}.cnf", "[mariadbd]\n" + "".join(quoted))

    # Life

    def create(self) -> None:
        template = self.node.parent / "template-mariadb"
        with _template_lock:
            if not template.exists():
                self._install(template)
        self._copy(template)

    def _install(self, template: Path) -> None:
        accounts = write_whole(self.node / "accounts.sql", (
            "FLUSH PRIVILEGES;\n"
            f"CREATE USER '{self.ADMIN}'@'localhost' IDENTIFIED BY '{escape_string(self.secret)}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{self.ADMIN}'@'localhost' WITH GRANT OPTION;\n"
            "DELETE FROM mysql.global_priv WHERE User IN ('', 'root');\n"
            "DELETE FROM mysql.proxies_priv;\n"))
        part = template.with_name(template.name + ".new")
        shutil.rmtree(part, ignore_errors=True)
        try:
            self.supervisor.run([programs()["mariadb-install-db"], f"--defaults-file={self.node / 'my.cnf'}",
                                 f"--datadir={part}", f"--extra-file={accounts}", "--skip-test-db", "--skip-log-bin",
                                 "--auth-root-authentication-method=normal", "--debug-no-sync"], log=self.log)
        finally:
            accounts.unlink()
        part.rename(template)

    def command(self) -> list:
        return [programs()["mariadbd"], f"--defaults-file={self.node / 'my.cnf'}"]

    def start(self) -> None:
        super().start()
        if self._on_start.exists():
            try:
                self._tell(*self._on_start.read_text().splitlines())
            except EngineFailed:
                self.kill()
                raise
            self._on_start.unlink()

    @property
    def _on_start(self) -> Path:
        """The statements, one a line, that the next start is to execute once: a copy's position, whom to follow."""
        return self.node / "on-start.sql"

    def connect(self, database: str | None = None, **options) -> pymysql.Connection:
        return pymysql.connect(unix_socket=str(self.socket), user=self.ADMIN, password=self.secret, database=database,
                               autocommit=True, connect_timeout=5, **options)

    @contextlib.contextmanager
    def _cursor(self, **options):
        try:
            # A hung server must not hang who asks it, with the instance's lock in hand.
            with self.connect(**{"read_timeout": 60} | options) as connection, connection.cursor() as cursor:
                yield cursor
        except pymysql.MySQLError as error:
            raise EngineFailed(f"MariaDB said {error}. {tail(self.log)}") from error

    def _ask(self, query: str, *args) -> dict:
        """Return the first row of the answer, or an empty dictionary."""
        with self._cursor(cursorclass=pymysql.cursors.DictCursor, read_timeout=10) as cursor:
            cursor.execute(query, args or None)
            return cursor.fetchone() or {}

    def _tell(self, *statements: str) -> None:
        with self._cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def after_kill(self) -> None:
        super().after_kill()
        for left in (self.socket, self.node / "pid"):
            left.unlink(missing_ok=True)

    # Users and parameters

    def create_master(self, user: str, password: str, database: str | None) -> None:
        account = f"'{escape_string(user)}'@'%'"
        self._tell(f"CREATE USER {account} IDENTIFIED VIA mysql_native_password USING '{self._hash(password)}'",
                   f"GRANT {MASTER_PRIVILEGES} ON *.* TO {account} WITH GRANT OPTION")
        if database:
            self._tell(f"CREATE DATABASE IF NOT EXISTS `{database.replace('`', '``')}`")

    def set_password(self, user: str, password: str) -> None:
        self._tell(f"ALTER USER '{escape_string(user)}'@'%' "
                   f"IDENTIFIED VIA mysql_native_password USING '{self._hash(password)}'")

    def _hash(self, password: str) -> str:
        # Hashed beforehand, because MariaDB writes the statement as it is to the binary log, and that is archived.
        return self._ask("SELECT PASSWORD(%s) AS hash", password)["hash"]

    def parameters(self) -> list[dict]:
        with self._cursor() as cursor:
            cursor.execute("SELECT LOWER(VARIABLE_NAME), GLOBAL_VALUE, VARIABLE_COMMENT, VARIABLE_TYPE, "
                           "READ_ONLY = 'YES', NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE, ENUM_VALUE_LIST, "
                           "COMMAND_LINE_ARGUMENT IS NOT NULL FROM information_schema.SYSTEM_VARIABLES "
                           "WHERE VARIABLE_SCOPE <> 'SESSION ONLY' ORDER BY 1")
            return [_parameter(*row) for row in cursor.fetchall()]

    def write_parameters(self, values: dict[str, str]) -> None:
        self._dropped |= self._parameters.keys() - values.keys()
        self._dropped -= values.keys()
        self._parameters = dict(values)
        self._write_settings("parameters", values)

    def reload(self) -> None:
        """As promised by Server. MariaDB does not read its files again, so each value is set in the running server."""
        dynamic = {p["ParameterName"] for p in self.parameters() if p["ApplyType"] == "dynamic"}
        for name in (self._parameters.keys() | self._dropped) & dynamic:
            value = self._parameters.get(name, SETTINGS.get(name))
            self._tell(f"SET GLOBAL `{name}` = {'DEFAULT' if value is None else _literal(value)}")
        self._dropped = set()

    # Copies and standbys

    def backup_to(self, directory: Path) -> None:
        """As promised by Server. The copy is made ready ("prepared") at once, so that using it is only copying it."""
        common = [programs()["mariadb-backup"], f"--defaults-file={self.node / 'my.cnf'}", f"--target-dir={directory}"]
        log = self.node / "backup.log"
        self.supervisor.run([*common, "--backup", "--log-copy-interval=50", "--open-files-limit=1024"], log=log)
        self.supervisor.run([*common, "--prepare", "--use-memory=16M"], log=log)

    def use_copy(self, directory: Path) -> None:
        self._copy(directory)
        # The copy goes on from the source's position: in what it logs itself, and in what it asks for.
        write_whole(self._on_start, "".join(f"SET GLOBAL {name} = '{_position(directory)}'\n"
                                       for name in ("gtid_binlog_state", "gtid_slave_pos")))

    def _copy(self, directory: Path) -> None:
        self.supervisor.run(["cp", "-a", directory, self.data], log=self.log)

    def follow(self, link: Link, *, synchronous: bool) -> None:
        self._write_settings("role", {"read_only": "ON", "rpl_semi_sync_slave_enabled": "ON" if synchronous else "OFF"}
                             | FOLLOWER)
        before = self._on_start.read_text() if self._on_start.exists() else ""
        write_whole(self._on_start, before + (
            "STOP SLAVE\n"
            f"CHANGE MASTER TO MASTER_HOST = '{link.host}', MASTER_PORT = {link.port}, MASTER_USER = '{self.ADMIN}', "
            f"MASTER_PASSWORD = '{escape_string(self.secret)}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, "
            "MASTER_HEARTBEAT_PERIOD = 1\n"
            "START SLAVE\n"))

    def wait_for(self, standby: str | None) -> None:
        # Every semi-synchronous follower can acknowledge, whatever its name: only the standby is one (see follow).
        value = "ON" if standby else "OFF"
        self._write_settings("waits", {"rpl_semi_sync_master_enabled": value})
        self._tell(f"SET GLOBAL rpl_semi_sync_master_enabled = {value}")

    def is_in_sync(self, standby: "MariaDB", name: str) -> bool:
        # What was answered before the waiting began is in the log by now, the rest is waited for. One client only: an
        # older standby could be the one that acknowledges.
        source = self._ask(f"SELECT @@gtid_binlog_pos AS logged, {_status('master_status')} AS waits, "
                           f"{_status('master_clients')} AS clients")
        return (source["waits"] == "ON" and source["clients"] == "1" and standby.is_following()
                and standby.received() >= _sequence(source["logged"]))

    def promote(self) -> None:
        self._tell("STOP SLAVE IO_THREAD")
        self._await_replay(self.received(), 60)
        self._tell("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL rpl_semi_sync_slave_enabled = OFF",
                   *(f"SET GLOBAL {name} = {_literal((SETTINGS | self._parameters)[name])}" for name in FOLLOWER),
                   "SET GLOBAL read_only = OFF")
        (self._settings / "role.cnf").unlink()

    def _await_replay(self, last: int, seconds: float) -> None:
        """Wait until the replication thread has replayed its log up to the transaction of number `last`."""
        deadline = time.monotonic() + seconds
        while _sequence(self._ask("SELECT @@gtid_slave_pos AS gtid")["gtid"]) < last:
            status = self._ask("SHOW SLAVE STATUS")
            if status["Slave_SQL_Running"] != "Yes":
                raise EngineFailed(f"MariaDB stopped replaying the log: {status['Last_SQL_Error']}. {tail(self.log)}")
            if time.monotonic() > deadline:
                raise EngineFailed(f"MariaDB did not replay the log within {seconds:.0f} s. {tail(self.log)}")
            time.sleep(0.005)

    def take_rest(self, lost: "MariaDB") -> None:
        # It comes up once more, for its followers only, and recovers what was committed.
        lost.start()
        last = _sequence(lost._ask("SELECT @@gtid_binlog_pos AS logged")["logged"])
        self._tell("STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD")  # at once, not after its pause between attempts
        deadline = time.monotonic() + 60
        while self.received() < last:
            if time.monotonic() > deadline:
                raise EngineFailed(f"MariaDB did not get the rest of the log within 60 s. {tail(self.log)}")
            time.sleep(0.01)
        lost.kill()

    def sessions(self) -> int:
        return self._ask("SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST "
                         "WHERE USER NOT IN (%s, 'system user')", self.ADMIN)["n"]

    def end_sessions(self) -> None:
        with self._cursor() as cursor:
            cursor.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE USER NOT IN (%s, 'system user')",
                           (self.ADMIN,))
            for session, in cursor.fetchall():
                with contextlib.suppress(pymysql.MySQLError):  # it has ended by itself
                    cursor.execute("KILL %s", (session,))
        deadline = time.monotonic() + 10
        while self.sessions():
            if time.monotonic() > deadline:
                raise EngineFailed("MariaDB did not end its clients' sessions within 10 s.")
            time.sleep(0.005)

    def position(self) -> int:
        """As promised by Server: the sequence number of the last transaction logged or replayed."""
        return max(map(_sequence, self._ask("SELECT @@gtid_binlog_pos, @@gtid_slave_pos").values()))

    def received(self) -> int:
        """Return the sequence number of the last whole transaction that has come to this standby."""
        return _sequence(self._ask("SHOW SLAVE STATUS")["Gtid_IO_Pos"])

    def is_following(self) -> bool:
        """As promised by Server; a standby that is to be synchronous must also be ready to acknowledge."""
        status = self._ask("SHOW SLAVE STATUS")
        semisync = self._ask(f"SELECT @@rpl_semi_sync_slave_enabled AS wanted, {_status('slave_status')} AS now")
        return (status.get("Slave_IO_Running") == status.get("Slave_SQL_Running") == "Yes"
                and (not semisync["wanted"] or semisync["now"] == "ON"))

    def statistics(self) -> Statistics:
        """As promised by Server; MariaDB has no times of its reads and writes, and its performance schema is off here."""
        try:
            self._watcher = self._watcher or self.connect()
            with self._watcher.cursor() as cursor:
                cursor.execute("SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_data_reads', 'Innodb_data_writes')")
                counters = dict(cursor.fetchall())
                cursor.execute(CLIENTS, (self.ADMIN,))
                clients, = cursor.fetchone()
            with self._watcher.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute("SHOW SLAVE STATUS")
                follows = cursor.fetchone()
        except (pymysql.MySQLError, OSError) as error:
            watcher, self._watcher = self._watcher, None
            if watcher:
                watcher._force_close()
            raise EngineFailed(f"MariaDB gave no statistics: {error}") from error
        lag = follows and follows["Seconds_Behind_Master"]
        return Statistics(connections=clients, reads=int(counters["Innodb_data_reads"]),
                          writes=int(counters["Innodb_data_writes"]), read_seconds=None, write_seconds=None,
                          lag=(-1 if lag is None else lag) if follows else None, sessions=[],
                          processes=[self.process.pid])

    _watcher: pymysql.Connection | None = None

    # Backup and restore

    def ship_log(self) -> datetime.datetime:
        """As promised by Server. The archive holds a directory for each primary there has been, in their order.

        The binary logs only ever grow, so what they grew by is appended to their copies. The server is not asked:
        FLUSH BINARY LOGS waits behind a commit that waits for a lost standby.
        """
        now = datetime.datetime.now(datetime.UTC)
        place = self._archive_place()
        for log in _binary_logs(self.data):
            with open(place / log.name, "ab") as copy, open(log, "rb") as source:
                source.seek(copy.tell())
                shutil.copyfileobj(source, copy)
        return now

    def _archive_place(self) -> Path:
        places = sorted(self.archive_to.iterdir())
        for place in places:
            if place.name.endswith(f"-{self.node.name}"):
                return place
        place = self.archive_to / f"{len(places):04}-{self.node.name}"
        place.mkdir(mode=0o700)
        return platforms.give_to_engine(place)

    def restore(self, base: Path, archive: Path, until: datetime.datetime | None) -> None:
        """As promised by Server, to the whole second of `until`.

        The archived transactions become a relay log, which the server's own replication thread replays: the server
        reads its log itself, whatever is in it, and keeps each transaction's GTID.
        """
        self.use_copy(base)
        last = self._write_relay_log(archive, _sequence(_position(base)), until)
        self.start()
        if last:
            # Nothing is lost by a crash now: the clean shutdown at the end makes everything durable at once.
            self._tell("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
                       "CHANGE MASTER TO MASTER_HOST = 'archive', MASTER_USE_GTID = no, "
                       "RELAY_LOG_FILE = 'relay.000001', RELAY_LOG_POS = 4",
                       "START SLAVE SQL_THREAD")
            self._await_replay(last, 600)
            self._tell("STOP SLAVE", "RESET SLAVE ALL")
        self.stop()

    def _write_relay_log(self, archive: Path, after: int, until: datetime.datetime | None) -> int:
        """Write the archived transactions after number `after` whose COMMIT began before `until`; return the last's
        number, 0 when there is none."""
        stop = math.floor(until.timestamp()) if until else math.inf
        last, relay = after, self.data / "relay.000001"
        with open(relay, "wb") as out:
            for transaction in _history(archive):
                if transaction.number <= after:
                    continue
                if transaction.second >= stop:
                    break
                if transaction.number != last + 1:
                    raise EngineFailed(f"The log archive has a hole: {transaction.number} comes after {last}.")
                if last == after:
                    out.write(transaction.preamble)
                out.write(transaction.events)
                last = transaction.number
        if last == after:
            relay.unlink()
            return 0
        platforms.give_to_engine(relay)
        write_whole(self.data / "relay.index", "./relay.000001\n")
        return last


# The binary log's format: https://mariadb.com/kb/en/replication-protocol/

_MAGIC = b"\xfebin"
_HEADER = struct.Struct("<IBIIIH")  # of every event: second, kind, server id, size, next position, flags
_GTID_BODY = struct.Struct("<QIB")  # of the event that begins a transaction: number, domain, flags
_QUERY, _FORMAT, _XID, _XA_PREPARE, _GTID = 2, 15, 16, 38, 162
_BETWEEN = {3, 4, _FORMAT, 161, _GTID, 163, 164}  # stop, rotate, binlog checkpoint, GTID list, start encryption
_STANDALONE = 1  # the GTID's flag of a statement, such as DDL, that is a transaction by itself


class _Transaction(NamedTuple):
    number: int  # the GTID's sequence number; all servers are in replication domain 0
    second: int  # Unix time in which its COMMIT, or the statement that was one, began
    events: bytes
    preamble: bytes  # what a log of such events begins with


def _transactions(log: Path) -> Iterator[_Transaction]:
    """Yield the whole transactions of a binary log; the last one may still be incomplete."""
    content, at, begin, last, preamble = log.read_bytes(), len(_MAGIC), None, None, b""
    while at < len(content):
        kind, size = _event(content, at)
        if kind in _BETWEEN:
            if begin and _ends(content, begin, last):
                yield _transaction(content[begin:at], preamble)
            begin = at if kind == _GTID else None
        if kind == _FORMAT:
            preamble = _MAGIC + content[at:at + size]
        last, at = at, at + size
    if begin and at == len(content) and _ends(content, begin, last):
        yield _transaction(content[begin:], preamble)


def _event(content: bytes, at: int) -> tuple[int, int]:
    """Return the kind and size of the event at a position: kind 0, and a size beyond the end, when it is cut off."""
    if at + _HEADER.size > len(content):
        return 0, _HEADER.size
    _, kind, _, size, _, _ = _HEADER.unpack_from(content, at)
    return kind, max(size, _HEADER.size)


def _ends(content: bytes, begin: int, last: int) -> bool:
    """Say whether the event at `last` ends the transaction that begins at `begin`: a commit, or its one statement."""
    kind, size = _event(content, last)
    if kind == _QUERY:
        alone = _GTID_BODY.unpack_from(content, begin + _HEADER.size)[2] & _STANDALONE
        return bool(alone) or content[last:last + size - 4].endswith((b"COMMIT", b"ROLLBACK"))  # 4: the checksum
    return kind in (_XID, _XA_PREPARE)


def _transaction(events: bytes, preamble: bytes) -> _Transaction:
    number, second = _GTID_BODY.unpack_from(events, _HEADER.size)[0], _HEADER.unpack_from(events)[0]
    return _Transaction(number, second, events, preamble)


def _binary_logs(directory: Path) -> list[Path]:
    """Return a server's binary logs, or their copies, in order."""
    return sorted(directory.glob("binlog.[0-9]*"))


def _history(archive: Path) -> Iterator[_Transaction]:
    """Yield the archive's transactions in order. A newer primary's log is the history from its first transaction on:
    what an older primary logged beyond that was never on the standby, and nobody was told that it was committed."""
    places = [_binary_logs(place) for place in sorted(archive.iterdir())]
    begins = [next((t.number for log in logs for t in _transactions(log)), math.inf) for logs in places]
    for rank, logs in enumerate(places, 1):
        end = min(begins[rank:], default=math.inf)
        for log in logs:
            yield from (t for t in _transactions(log) if t.number < end)


def _position(backup: Path) -> str:
    """Return the GTID up to which a backup holds the source's transactions; empty when there were none."""
    for name in ("mariadb_backup_binlog_info", "xtrabackup_binlog_info"):  # since MariaDB 11.1, before
        if (backup / name).exists():
            return ((backup / name).read_text().strip("\n").split("\t") + ["", ""])[2]
    return ""


def _status(name: str) -> str:
    """Return the SQL expression of a status variable of semi-synchronous replication."""
    return f"(SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'rpl_semi_sync_{name}')"


def _sequence(gtid: str) -> int:
    """Return the sequence number of a position such as "0-17-4711", 0 for the empty one."""
    return int(gtid.rpartition("-")[2] or 0)


def _parameter(name, value, about, kind, static, low, high, choices, settable) -> dict:
    """Return a row of information_schema.SYSTEM_VARIABLES in DescribeDBParameters' shape."""
    if kind == "BOOLEAN":
        value, data_type, allowed = {"ON": "1", "OFF": "0"}.get(value, value), "boolean", "0,1"
    elif "INT" in kind or kind == "DOUBLE":
        data_type, allowed = ("float" if kind == "DOUBLE" else "integer"), f"{low}-{high}"
    else:
        data_type, allowed = ("list" if kind in ("SET", "FLAGSET") else "string"), choices
    return {"ParameterName": name, "ParameterValue": value, "Description": about, "Source": "engine-default",
            "ApplyType": "static" if static else "dynamic", "DataType": data_type,
            "IsModifiable": bool(settable) and name not in RESERVED and not name.endswith(PLACES),
            "AllowedValues": allowed}


def _literal(value: str) -> str:
    """Return a setting's value as SQL: MariaDB wants numbers without quotes."""
    return value if re.fullmatch(r"-?\d+(\.\d+)?", value) else f"'{escape_string(value)}'"


def _escaped(value: str) -> str:
    """Return a value for an option file's double quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
