"""Endpoints: TCP addresses on loopback that stay the same while the servers behind them change.

What a DNS name and its failover are on AWS is a small forwarder here. It runs as one process of its own
(`python -m minicloud.endpoint`), so that the API server's work does not slow a database's round trips, and takes orders
as JSON lines on standard input. `Endpoints` is the other side: it starts that process, gives the orders, and answers
what the forwarder asks.
"""

import asyncio
import collections
import functools
import itertools
import json
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from minicloud import startup, tls
from minicloud.supervisor import Process, ProgramFailed, Supervisor, tail

HOST = "127.0.0.1"
SILENT_SECONDS = 60  # how long a client that no security group lets in waits, unless it gives up earlier

Target = Path | Iterable[Path] | None


class Endpoints:
    """The endpoints of one cloud. Every method returns when the forwarder has done it; safe from any thread.

    `certificate` is the file with the servers' key and certificate; without one there is no TLS.
    """

    def __init__(self, supervisor: Supervisor, log: Path, certificate: Path | None = None):
        self._supervisor, self._log = supervisor, log
        self._command = [sys.executable, "-m", "minicloud.endpoint", *filter(None, [certificate])]
        self._lock = threading.RLock()  # one order at a time
        self._writing = threading.Lock()
        self._answers: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._state: dict[str, dict] = {}  # of each endpoint, to open it again: host, port, targets, and what was ordered
        self._on_wake: dict[str, Callable[[], None]] = {}
        self._guards: dict = {}
        self._start()

    def _start(self) -> None:
        self._process = self._supervisor.spawn(self._command, log=self._log, as_engine=False,
                                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True, name="forwarder").start()
        self._process.notify(self._start_again)

    def _start_again(self, _status: int) -> None:
        """Replace a lost forwarder: its endpoints are back at their ports, only the connections are gone."""
        with self._lock:
            self._answers = queue.SimpleQueue()
            self._start()
            for name, state in self._state.items():
                self._order("open", name, state["targets"], state["host"], state["port"], name in self._guards)
                for verb, *args in state["orders"].values():
                    self._order(verb, name, *args)

    def open(self, name: str, target: Target = None, host: str = HOST, port: int = 0, guard=None) -> int:
        """Listen for `name` at a port (0: a free one), forwarding to `target`; return the port.

        A target is the Unix socket of a server; of several, each connection gets the next that answers.
        `guard` decides about clients (see `rds.guard.Guard`). Without one, the endpoint is for servers among themselves:
        a PostgreSQL there takes its administrator only.
        """
        with self._lock:
            targets = _sockets(target)
            if guard:
                self._guards[name] = guard
            port = self._order("open", name, targets, host, port, guard is not None)
            self._state[name] = {"targets": targets, "host": host, "port": port, "orders": {}}
            return port

    def point(self, name: str, target: Target) -> None:
        """Forward new connections to `target` from now on, and close those to other servers. None: refuse them."""
        with self._lock:
            self._state[name]["targets"] = _sockets(target)
            self._order("point", name, self._state[name]["targets"])

    def guard(self, name: str, guard) -> None:
        """Let another guard decide about new clients of an endpoint that has one."""
        self._guards[name] = guard

    def cut(self, name: str) -> None:
        """Let nothing through, without closing anything: a network that lost the packets."""
        self._lasting("cut", name)

    def heal(self, name: str) -> None:
        """Let everything through again."""
        with self._lock:
            self._state.get(name, {}).get("orders", {}).pop("cut", None)
            self._order("heal", name)

    def delay(self, name: str, seconds: float) -> None:
        """Let every packet take `seconds` longer, in each direction: a distance."""
        self._lasting("delay", name, seconds)

    def sleep(self, name: str, on_wake: Callable[[], None]) -> bool:
        """Let new connections wait until `point` is called, and call `on_wake`, in a thread, when the first comes.

        Return whether it sleeps now: it does not while a client is connected.
        """
        with self._lock:
            self._on_wake[name] = on_wake
            if not self._order("sleep", name):
                del self._on_wake[name]
                return False
            self._state[name]["targets"] = []
            return True

    def idle(self, name: str) -> float:
        """Return for how many seconds no client has been connected."""
        return self._order("idle", name)

    def is_open(self, name: str) -> bool:
        """Whether there is such an endpoint."""
        return name in self._state

    def close(self, name: str) -> None:
        """Stop listening and close the connections; nothing happens when there is no such endpoint."""
        with self._lock:
            self._state.pop(name, None)
            self._on_wake.pop(name, None)
            self._guards.pop(name, None)
            self._order("close", name)

    def _lasting(self, verb: str, name: str, *args) -> None:
        """Give an order that a new forwarder must be given again."""
        with self._lock:
            self._order(verb, name, *args)
            self._state[name]["orders"][verb] = (verb, *args)

    def _order(self, *order):
        with self._lock:
            answer = None
            if self._write(self._process, order):
                answer = self._answers.get()
        if answer is None:
            raise ProgramFailed(f"The endpoint forwarder is gone. {tail(self._log)}")
        if "error" in answer:
            raise ProgramFailed(f"The endpoint forwarder could not {order[0]} {order[1]}: {answer['error']}")
        return answer["done"]

    def _write(self, process: Process, message) -> bool:
        try:
            with self._writing:
                process.stdin.write(json.dumps(message).encode() + b"\n")
                process.stdin.flush()
            return True
        except OSError:
            return False

    def _listen(self, process: Process) -> None:
        """Read what the forwarder says: answers to orders, and questions, each of which gets a thread."""
        answers = self._answers
        for line in process.stdout:
            message = json.loads(line)
            if "ask" in message:
                threading.Thread(target=self._reply, args=(process, message), daemon=True).start()
            else:
                answers.put(message)
        answers.put(None)

    def _reply(self, process: Process, message: dict) -> None:
        question, *args = message["ask"]
        try:
            answer = getattr(self, f"_asked_{question}")(*args)
        except Exception:
            answer = None  # which lets nobody in
            with open(self._log, "a") as log:
                traceback.print_exc(file=log)
        self._write(process, ("reply", message["number"], answer))

    def _asked_admit(self, name: str) -> dict | None:
        return self._guards[name].admit(self._state[name]["port"])

    def _asked_check(self, name: str, user: str, token: str) -> bool:
        state = self._state[name]
        return self._guards[name].accepts(user, token, f"{state['host']}:{state['port']}")

    def _asked_wake(self, name: str) -> None:
        on_wake = self._on_wake.pop(name, None)
        if on_wake:
            on_wake()


def _sockets(target: Target) -> list[str]:
    """Return a target as the forwarder takes it."""
    return [] if target is None else [str(target)] if isinstance(target, Path) else [str(path) for path in target]


class _Pipe(asyncio.Protocol):
    """One direction's source: what it receives goes to its peer; a slow peer pauses it."""

    def __init__(self, listener: "_Listener", peer: asyncio.Transport | None = None):
        self.listener = listener
        self.peer = peer  # set from the start towards the client: a MySQL server is the first to speak
        self.transport: asyncio.Transport | None = None
        self.has_ended = False
        self.reader: Callable[[bytes], None] | None = None  # who reads it meanwhile, and delivers what is due
        self.under_way: collections.deque = collections.deque()  # (when it arrives, data), over a distance

    def connection_made(self, transport):
        self.transport = transport
        self.listener.pipes.add(self)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        (self.reader or self.deliver)(data)

    def deliver(self, data: bytes):
        """Send data on to the peer."""
        if self.listener.delay:
            self._send_far(data)
        elif not self.peer.is_closing():
            self.peer.write(data)

    def eof_received(self):
        """Pass the end on; keep the connection (True) while the other direction may still be talking."""
        self.has_ended = True
        if self.reader:
            self.reader(b"")
        if not self.peer:
            return False
        if self.listener.delay:
            self._send_far(b"")
        elif self.peer.can_write_eof():
            self.peer.write_eof()
        return not self.peer.get_protocol().has_ended

    def _send_far(self, data: bytes | None):
        """Let data arrive later; b"" stands for the end of the stream, None for that of the connection."""
        loop = asyncio.get_running_loop()
        self.under_way.append((loop.time() + self.listener.delay, data))
        if len(self.under_way) == 1:
            loop.call_later(self.listener.delay, self._arrive)

    def _arrive(self):
        loop = asyncio.get_running_loop()
        while self.under_way and self.under_way[0][0] <= loop.time() + 0.001:
            data = self.under_way.popleft()[1]
            if data is None:
                self.peer.close()
            elif data:
                self.peer.write(data)
            elif self.peer.can_write_eof():
                self.peer.write_eof()
        if self.under_way:
            loop.call_later(self.under_way[0][0] - loop.time(), self._arrive)

    def pause_writing(self):
        if self.peer:
            self.peer.pause_reading()

    def resume_writing(self):
        if self.peer and not self.listener.is_cut:
            self.peer.resume_reading()

    def connection_lost(self, _):
        self.listener.pipes.discard(self)
        self.listener.last_seen = time.monotonic()
        if self.reader:
            self.reader(b"")
        if self.peer and self.under_way:
            self._send_far(None)
        elif self.peer:
            self.peer.close()


class _Client(_Pipe):
    """The client's side of a connection: it dials a target when it is made."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.early = bytearray()  # what the client said before the target answered
        self.target: str | None = None
        asyncio.ensure_future(self._dial())

    def data_received(self, data):
        if self.peer:
            super().data_received(data)
        else:
            self.early += data
            self.transport.pause_reading()

    async def _dial(self):
        terms = await self.listener.admitted(self.transport)
        if self.listener.guarded and not terms:
            return  # the client has gone
        await self.listener.passable(self.transport)
        for target in self.listener.turn():
            try:
                upstream, server = await asyncio.get_running_loop().create_unix_connection(
                    lambda: _Pipe(self.listener, self.transport), target)
            except OSError:
                continue
            if target not in self.listener.targets or self.transport.is_closing():
                upstream.abort()
                continue
            return self._connected(target, server, terms)
        self.transport.abort()  # a reset, the nearest to a refusal that an accepted connection can get

    def _connected(self, target: str, server: _Pipe, terms: dict | None):
        self.target, self.peer = target, server.transport
        if Path(target).name.startswith(".s.PGSQL."):  # never without: see `startup`
            check = functools.partial(self.listener.ask, "check", self.listener.name)
            start = startup.PostgresStart(self, server, terms, self.listener.context, check)
            asyncio.ensure_future(start.run())
        elif terms and terms["tls"]:
            startup.require_tls_of_mysql(self, server, terms["tls"])
        if self.early:
            super().data_received(bytes(self.early))
            self.transport.resume_reading()


class _Listener:
    """One endpoint: a listening port, its targets, its connections."""

    def __init__(self, name: str, targets: list[str], ask: Callable, guarded: bool, context: ssl.SSLContext | None):
        self.name, self.targets, self.ask, self.guarded, self.context = name, targets, ask, guarded, context
        self.is_cut = self.is_asleep = False
        self.delay = 0.0
        self.pipes: set[_Pipe] = set()
        self.last_seen = time.monotonic()
        self.turns = itertools.count()
        self.server: asyncio.Server | None = None

    async def admitted(self, transport: asyncio.Transport) -> dict | None:
        """Return the terms on which the cloud lets a client in, None at an endpoint for servers.

        Whom no security group lets in gets no answer: the packets vanish. They would be sent again, so it is asked again,
        as long as a patient system tries. (A client may take a connection that says nothing for one that was made.)
        """
        for _ in range(SILENT_SECONDS * 2 if self.guarded else 0):
            terms = await self.ask("admit", self.name)
            if terms or transport.is_closing():
                return terms
            await asyncio.sleep(0.5)
        if self.guarded:
            transport.abort()
        return None

    async def passable(self, transport: asyncio.Transport):
        """Return when a new connection can be dialled, or is gone."""
        if self.is_asleep:
            self.ask("wake", self.name)
        while (self.is_cut or self.is_asleep) and not transport.is_closing():
            await asyncio.sleep(0.02)

    def turn(self) -> list[str]:
        """Return the targets in the order in which the next connection should try them."""
        first = next(self.turns) % len(self.targets) if self.targets else 0
        return self.targets[first:] + self.targets[:first]

    def clients(self) -> list[_Client]:
        return [pipe for pipe in self.pipes if isinstance(pipe, _Client)]

    def point(self, targets: list[str]):
        self.targets, self.is_asleep = targets, False
        for client in self.clients():
            if client.target not in (None, *targets):
                client.transport.abort()
                client.peer.abort()

    def set_cut(self, cut: bool):
        self.is_cut = cut
        for pipe in self.pipes:
            if pipe.peer:
                (pipe.transport.pause_reading if cut else pipe.transport.resume_reading)()


class _Forwarder:
    """Carries out the orders."""

    def __init__(self, context: ssl.SSLContext | None):
        self.context = context
        self.listeners: dict[str, _Listener] = {}
        self.numbers = itertools.count()
        self.questions: dict[int, asyncio.Future] = {}

    async def open(self, name, targets, host, port, guarded):
        listener = self.listeners[name] = _Listener(name, targets, self.ask, guarded, self.context if guarded else None)
        listener.server = await asyncio.get_running_loop().create_server(lambda: _Client(listener), host, port)
        return listener.server.sockets[0].getsockname()[1]

    async def point(self, name, targets):
        self.listeners[name].point(targets)

    async def cut(self, name):
        self.listeners[name].set_cut(True)

    async def heal(self, name):
        self.listeners[name].set_cut(False)

    async def delay(self, name, seconds):
        self.listeners[name].delay = seconds

    async def sleep(self, name):
        listener = self.listeners[name]
        if not listener.clients():
            listener.targets, listener.is_asleep = [], True
        return listener.is_asleep

    async def idle(self, name):
        listener = self.listeners[name]
        return 0 if listener.clients() else time.monotonic() - listener.last_seen

    async def close(self, name):
        listener = self.listeners.pop(name, None)
        if listener:
            listener.server.close()
            listener.targets, listener.is_asleep = [], False
            for pipe in list(listener.pipes):
                pipe.transport.abort()

    def ask(self, *question) -> asyncio.Future:
        """Ask the cloud process; the future gets its answer."""
        number, answer = next(self.numbers), asyncio.get_running_loop().create_future()
        self.questions[number] = answer
        print(json.dumps({"ask": question, "number": number}), flush=True)
        return answer

    async def serve(self, lines: asyncio.StreamReader):
        while line := await lines.readline():
            verb, *args = json.loads(line)
            if verb == "reply":
                self.questions.pop(args[0]).set_result(args[1])
                continue
            try:
                answer = {"done": await getattr(self, verb)(*args)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


async def _main(certificate: str | None = None):
    context = tls.server_context(Path(certificate)) if certificate else None
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await _Forwarder(context).serve(lines)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(*sys.argv[1:]))
