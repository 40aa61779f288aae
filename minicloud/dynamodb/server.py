"""The engine of one Region's tables: a Dynoxide process, started when it is needed.

It has no Regions, accounts or passwords, and listens on TCP only. What it has acknowledged is on the disk: SQLite's
write-ahead log is synced with every write (seen with strace), so a killed engine has lost none of it.
"""

import contextlib
import functools
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import psutil

from minicloud import endpoint, platforms
from minicloud.engines.engine import EngineFailed, EngineUnavailable
from minicloud.supervisor import Supervisor, tail

START_SECONDS = 30  # it takes 0.02; a busy machine takes longer


def program() -> Path:
    """Return the path of Dynoxide. Raises EngineUnavailable."""
    path = Path(sys.prefix) / "bin" / "dynoxide"
    if not path.exists():
        raise EngineUnavailable("Dynoxide is not here: `make book` installs it with npm where there is one for the machine.")
    return path


@functools.cache
def version() -> str:
    """Return the name and version of the engine."""
    return platforms.program_version(program()).capitalize()


def port_of(pid: int) -> int | None:
    """Return the port where process `pid` listens, once it does: it takes a free one, but does not say which."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return connection.laddr.port
    return None


class Link:
    """A connection to an engine, for one request after the other."""

    def __init__(self, port: int):
        self.port = port
        self._socket = socket.create_connection((endpoint.HOST, port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def ask(self, head: bytes, body: bytes) -> tuple[bytes, list[bytes], bytes]:
        """Return status line, header lines and body of the answer. Raises OSError when the engine has gone."""
        self._socket.sendall(head + body)
        status, lines, length = self._answers.readline(), [], 0
        while (line := self._answers.readline()).strip():
            lines.append(line)
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        answer = self._answers.read(length)
        if not line or len(answer) < length:
            raise ConnectionResetError("the engine ended before it had answered")
        return status, lines, answer

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()


class Engine:
    """The Dynoxide of one Region. When it has died, the next request starts it again, on the same file."""

    def __init__(self, supervisor: Supervisor, directory: Path):
        self.supervisor, self.directory = supervisor, directory
        self.process = None
        self._port = 0
        self._starting = threading.Lock()
        platforms.give_to_engine(directory).chmod(0o700)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.status is None

    def port(self) -> int:
        """Return the port where the engine listens, having started it if need be. Raises EngineFailed."""
        if not self._port or not self.is_running:
            with self._starting:
                if not self._port or not self.is_running:
                    self._port = 0
                    self._port = self._start()
        return self._port

    def _start(self) -> int:
        binary, log = program(), self.directory / "dynoxide.log"
        if not platforms.readable_by_engine(binary):
            binary = shutil.copy2(binary, self.directory)
        self.process = self.supervisor.spawn(
            [binary, "serve", "--host", endpoint.HOST, "--port", 0, "--db-path", self.directory / "tables.db"], log=log)
        deadline = time.monotonic() + START_SECONDS
        while self.is_running and time.monotonic() < deadline:
            if port := port_of(self.process.pid):
                return port
            time.sleep(0.005)
        self.process.kill_tree()
        raise EngineFailed(f"Dynoxide did not begin to listen. {tail(log)}")

    def note_its_end(self, port: int) -> None:
        """When the engine at `port` has hung up, wait until its end is known: the next request then finds another."""
        if port and port == self._port:
            self.process.wait(5)

    def crash(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill_tree()
