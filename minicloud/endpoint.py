"""Endpoints: TCP addresses on loopback that stay the same while the server behind them changes.

What a DNS name and its failover are on AWS is a small forwarder here. It runs as one process of its own
(`python -m minicloud.endpoint`), so that the API server's work does not slow a database's round trips, and takes orders
as JSON lines on standard input. `Endpoints` is the other side: it starts that process and gives the orders.
"""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from minicloud.supervisor import ProgramFailed, Supervisor, tail

HOST = "127.0.0.1"


class Endpoints:
    """The endpoints of one cloud. Every method returns when the forwarder has done it; safe from any thread."""

    def __init__(self, supervisor: Supervisor, log: Path):
        self._supervisor, self._log = supervisor, log
        self._lock = threading.RLock()
        self._ports: dict[str, int] = {}
        self._targets: dict[str, str | None] = {}
        self._cut: set[str] = set()
        self._start()

    def _start(self) -> None:
        self._process = self._supervisor.spawn([sys.executable, "-m", "minicloud.endpoint"], log=self._log,
                                               as_engine=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process.notify(self._start_again)

    def _start_again(self, _status: int) -> None:
        """Replace a lost forwarder: its endpoints are back at their ports, only the connections are gone."""
        with self._lock:
            self._start()
            for name, port in self._ports.items():
                self._order("open", name, self._targets[name], port)
            for name in self._cut:
                self._order("cut", name)

    def open(self, name: str, target: Path | None = None) -> int:
        """Listen on a free port for `name`, forwarding to the Unix socket `target`; return the port."""
        with self._lock:
            self._targets[name] = str(target) if target else None
            self._ports[name] = self._order("open", name, self._targets[name], 0)
            return self._ports[name]

    def point(self, name: str, target: Path | None) -> None:
        """Forward new connections to `target` from now on and close the old ones. With None, refuse connections."""
        with self._lock:
            self._targets[name] = str(target) if target else None
            self._order("point", name, self._targets[name])

    def cut(self, name: str) -> None:
        """Let nothing through, without closing anything: a network that lost the packets."""
        with self._lock:
            self._order("cut", name)
            self._cut.add(name)

    def heal(self, name: str) -> None:
        """Let everything through again."""
        with self._lock:
            self._cut.discard(name)
            self._order("heal", name)

    def close(self, name: str) -> None:
        """Stop listening and close the connections; nothing happens when there is no such endpoint."""
        with self._lock:
            self._cut.discard(name)
            self._ports.pop(name, None)
            self._targets.pop(name, None)
            self._order("close", name)

    def _order(self, *order):
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline()
            except OSError:
                answer = b""
        if not answer:
            raise ProgramFailed(f"The endpoint forwarder is gone. {tail(self._log)}")
        answer = json.loads(answer)
        if "error" in answer:
            raise ProgramFailed(f"The endpoint forwarder could not {order[0]} {order[1]}: {answer['error']}")
        return answer["done"]


class _Pipe(asyncio.Protocol):
    """One direction's source: what it receives goes to its peer; a slow peer pauses it."""

    def __init__(self, listener: "_Listener", peer: asyncio.Transport | None = None):
        self.listener = listener
        self.peer = peer  # set from the start towards the client: a MySQL server is the first to speak
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport):
        self.transport = transport
        self.listener.pipes.add(self)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.peer.write(data)

    def eof_received(self):
        if self.peer and self.peer.can_write_eof():
            self.peer.write_eof()
        return True  # the other direction may still be talking

    def pause_writing(self):
        if self.peer:
            self.peer.pause_reading()

    def resume_writing(self):
        if self.peer and not self.listener.is_cut:
            self.peer.resume_reading()

    def connection_lost(self, _):
        self.listener.pipes.discard(self)
        if self.peer:
            self.peer.close()


class _Client(_Pipe):
    """The client's side of a connection: it dials the target when it is made."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.early = bytearray()  # what the client said before the target answered
        asyncio.ensure_future(self._dial())

    def data_received(self, data):
        if self.peer:
            self.peer.write(data)
        else:
            self.early += data
            self.transport.pause_reading()

    async def _dial(self):
        while self.listener.is_cut and not self.transport.is_closing():
            await asyncio.sleep(0.02)
        target = self.listener.target
        try:
            if target is None:
                raise ConnectionRefusedError
            upstream, _ = await asyncio.get_running_loop().create_unix_connection(
                lambda: _Pipe(self.listener, self.transport), target)
        except OSError:
            self.transport.abort()  # a reset, the nearest to a refusal that an accepted connection can get
            return
        if target != self.listener.target or self.transport.is_closing():
            upstream.abort()
            self.transport.abort()
            return
        self.peer = upstream
        if self.early:
            upstream.write(bytes(self.early))
            self.transport.resume_reading()


class _Listener:
    """One endpoint: a listening port, its target, its connections."""

    def __init__(self, target: str | None):
        self.target = target
        self.is_cut = False
        self.pipes: set[_Pipe] = set()
        self.server: asyncio.Server | None = None

    def drop_connections(self):
        for pipe in list(self.pipes):
            pipe.transport.abort()

    def set_cut(self, cut: bool):
        self.is_cut = cut
        for pipe in self.pipes:
            if pipe.peer:
                (pipe.transport.pause_reading if cut else pipe.transport.resume_reading)()


class _Forwarder:
    """Carries out the orders."""

    def __init__(self):
        self.listeners: dict[str, _Listener] = {}

    async def open(self, name, target, port):
        listener = self.listeners[name] = _Listener(target)
        listener.server = await asyncio.get_running_loop().create_server(lambda: _Client(listener), HOST, port)
        return listener.server.sockets[0].getsockname()[1]

    async def point(self, name, target):
        listener = self.listeners[name]
        listener.target = target
        listener.drop_connections()

    async def cut(self, name):
        self.listeners[name].set_cut(True)

    async def heal(self, name):
        self.listeners[name].set_cut(False)

    async def close(self, name):
        listener = self.listeners.pop(name, None)
        if listener:
            listener.server.close()
            listener.target = None
            listener.drop_connections()

    async def serve(self, lines: asyncio.StreamReader):
        while line := await lines.readline():
            verb, *args = json.loads(line)
            try:
                answer = {"done": await getattr(self, verb)(*args)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


async def _main():
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await _Forwarder().serve(lines)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
