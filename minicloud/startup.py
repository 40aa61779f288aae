"""The start of a session, as the forwarder sees it: who may go on to the server behind an endpoint.

PostgreSQL's programs come without TLS, so it ends here. A role of `rds_iam` is trusted by the server, because nothing
but this forwarder can reach it. What makes that safe is one rule for every connection to a PostgreSQL, whatever the
endpoint: *when the server lets a client in without having asked for a password, the client gets there only with a token
that the cloud has found valid*, and nothing that it said before reaches the server.

https://www.postgresql.org/docs/current/protocol-message-formats.html
https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting
"""

import asyncio
import contextlib
import itertools
import ssl
import struct
from collections.abc import Awaitable, Callable

from minicloud.engines.engine import Server
from minicloud.tls import Tls

CANCEL, SSL, GSS = 80877102, 80877103, 80877104  # PostgreSQL's codes of requests that come in a start-up's place
PATIENCE_SECONDS = 60  # PostgreSQL's own authentication_timeout
LONGEST = 1 << 16  # bytes: more has nobody to say before it is let in
MYSQL_USES_TLS = 0x0800


class Gone(Exception):
    """The client is gone, or breaks the protocol: it is dropped without a word."""


class Refused(Exception):
    """The client is told why it may not go on: SQLSTATE and message."""


class Said:
    """What one side has said and nobody has taken yet."""

    def __init__(self):
        self.data = bytearray()
        self._more = asyncio.Event()
        self._ended = False

    def __call__(self, data: bytes) -> None:
        self.data += data
        self._ended = self._ended or not data or len(self.data) > LONGEST
        self._more.set()

    async def take(self, size: int) -> bytes:
        """Return the next `size` bytes when they are there. Raises Gone."""
        while len(self.data) < size:
            if self._ended:
                raise Gone
            self._more.clear()
            await self._more.wait()
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken


class PostgresStart:
    """One client's way to a PostgreSQL, from the first byte to where the two talk undisturbed.

    `client` and `server` are the two pipes; `terms` is what the cloud says of this client (see `rds.guard.Guard.admit`),
    or None at an endpoint for servers only; `check` asks the cloud whether a user's token is valid.
    """

    def __init__(self, client, server, terms: dict | None, context: ssl.SSLContext | None,
                 check: Callable[[str, str], Awaitable[bool]]):
        self.client, self.server, self.terms, self.context, self.check = client, server, terms, context, check
        self.tls: Tls | None = None
        self.from_client, self.from_server = Said(), Said()
        client.reader, server.reader = self._received, self.from_server

    def _received(self, data: bytes) -> None:
        """Take what comes from the client, out of its TLS if there is one."""
        if self.tls is None or not data:
            return self.from_client(data)
        try:
            said = self.tls.decrypt(data)
        except ssl.SSLError:
            self._tell(b"")  # TLS's own word for it
            return self.drop()
        self._tell(b"")
        if said:
            self.from_client(said)

    def _tell(self, data: bytes) -> None:
        """Send `data` to the client, and what TLS has to add."""
        data = self.tls.encrypt(data) if self.tls else data
        if data:
            self.server.deliver(data)

    async def run(self) -> None:
        """Lead the client to the server, or turn it away."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._lead()
        except Refused as refusal:
            self._tell(_error(*refusal.args))
            self.drop()
        except (Gone, TimeoutError):
            self.drop()
        except Exception:
            self.drop()
            raise  # into the forwarder's log

    def drop(self) -> None:
        """End the connection once the client has been sent what was said."""
        if self.tls:
            self._pass_back(b"")
        self.server.transport.abort()  # which closes the client's side behind what is under way

    async def _lead(self) -> None:
        packet = await self._packet()
        if _code(packet) == CANCEL:  # its key is the proof
            self.client.deliver(packet)
            return self._let_talk()
        user, database = self._judge(packet)
        self.client.deliver(packet)
        verdict = await self._verdict()
        if verdict[5:] == struct.pack("!I", 0):
            await self._token(user, database)
        self._tell(verdict)
        self._let_talk()

    async def _packet(self) -> bytes:
        """Return the first packet that is no wish for encryption; those are answered."""
        first = await self.from_client.take(1)
        self.from_client.data[:0] = first
        if first == b"\x16" and self.context:  # TLS from the first byte, as PostgreSQL 17 has it
            await self._begin_tls()
            if self.tls.application != "postgresql":
                raise Gone
        while True:
            length = await self.from_client.take(4)
            size = int.from_bytes(length)
            if not 8 <= size <= 10_000:
                raise Gone
            packet = length + await self.from_client.take(size - 4)
            if _code(packet) not in (SSL, GSS):
                return packet
            if self.from_client.data or self.tls:
                raise Gone  # what was said before the encryption must not count as said within it
            if _code(packet) == SSL and self.context:
                self._tell(b"S")
                await self._begin_tls()
            else:
                self._tell(b"N")

    async def _begin_tls(self) -> None:
        self.tls = Tls(self.context)
        early = bytes(self.from_client.data)
        self.from_client.data.clear()
        if early:
            self._received(early)
        first = await self.from_client.take(1)  # the handshake is done when something has been said
        self.from_client.data[:0] = first

    def _judge(self, packet: bytes) -> tuple[bytes, bytes]:
        """Return user and database of a start-up packet. Raises Refused when nobody need ask the server."""
        if _code(packet) >> 16 != 3:
            raise Refused("0A000", f"unsupported frontend protocol {_code(packet) >> 16}.{_code(packet) & 0xFFFF}")
        words = packet[8:].split(b"\0")
        names, values = words[0:-2:2], words[1:-2:2]
        if words[-2:] != [b"", b""] or len(names) != len(values) or b"" in names:
            raise Gone
        said = dict(zip(names, values, strict=True))  # of a name said twice, PostgreSQL takes the last as well
        user = said.get(b"user", b"")
        database = said.get(b"database") or user
        if not user or len(user) > 63:
            raise Gone  # PostgreSQL would cut the name off, and let in somebody else
        administrator = user == Server.ADMIN.encode()
        if self.terms is None and not administrator:
            raise Refused("28000", "this endpoint is for servers among themselves: it was opened without a guard")
        if self.terms and administrator:
            raise Refused("28000", self._no("pg_hba.conf rejects connection", user, database))
        if self.terms and self.terms["tls"] and not self.tls:
            raise Refused("28000", self._no("no pg_hba.conf entry", user, database))
        return user, database

    def _no(self, what: str, user: bytes, database: bytes) -> str:
        """Return PostgreSQL's own words for what its pg_hba.conf has no place for."""
        names = [name.decode(errors="replace") for name in (user, database)]
        return '{} for host "{}", user "{}", database "{}", {}'.format(
            what, self.terms["host"], *names, "SSL encryption" if self.tls else "no encryption")

    async def _verdict(self) -> bytes:
        """Return the server's first word on the authentication; what it says before goes to the client.

        Other messages can come first: one about the protocol's version, whenever a client asks for an unknown option.
        """
        while True:
            head = await self.from_server.take(5)
            message = head + await self.from_server.take(int.from_bytes(head[1:]) - 4)
            if head[:1] == b"R":
                return message
            self._tell(message)
            if head[:1] not in (b"v", b"N"):
                raise Gone  # an error, after which the server hangs up

    async def _token(self, user: bytes, database: bytes) -> None:
        """Let nobody by without a token of the database user `user`, and not even ask for it in the clear."""
        if self.terms is None:
            raise Gone
        if not self.tls:
            raise Refused("28000", self._no("pg_hba.conf rejects connection", user, database))
        self._tell(struct.pack("!cII", b"R", 8, 3))  # AuthenticationCleartextPassword
        head = await self.from_client.take(5)
        size = int.from_bytes(head[1:])
        if head[:1] != b"p" or not 5 <= size <= LONGEST:
            raise Gone
        token = (await self.from_client.take(size - 4))[:-1]
        with contextlib.suppress(UnicodeDecodeError):
            if await self.check(user.decode(), token.decode()) is True:
                return
        raise Refused("28000", f'PAM authentication failed for user "{user.decode(errors="replace")}"')

    def _let_talk(self) -> None:
        """Pass on what both sides have said so far, and from now on all they say."""
        early, late = bytes(self.from_client.data), bytes(self.from_server.data)
        if self.tls is None:
            self.client.reader = self.server.reader = None
        else:
            self.from_client, self.server.reader = self._pass_on, self._pass_back
        self._pass_on(early)
        self._tell(late)

    def _pass_on(self, data: bytes) -> None:
        if data:
            self.client.deliver(data)

    def _pass_back(self, data: bytes) -> None:
        goodbye = b"" if data else self.tls.goodbye()
        if data:
            self._tell(data)
        elif goodbye:
            self.server.deliver(goodbye)


def _code(packet: bytes) -> int:
    return int.from_bytes(packet[4:8])


def _error(state: str, message: str) -> bytes:
    """Return PostgreSQL's ErrorResponse for what ends a session."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": message}
    body = "".join(itertools.chain(*((name, value, "\0") for name, value in fields.items()))).encode() + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


def require_tls_of_mysql(client, server, error: list) -> None:
    """Turn a MySQL client away, with `error` (number, SQLSTATE, message), when it goes on without asking for TLS.

    The server itself could not tell: it takes every connection through a Unix socket for a secure one.
    """
    said = bytearray()

    def read(data: bytes) -> None:
        said.extend(data)
        if len(said) < 6:  # three bytes of length, one of sequence, then the capabilities
            return
        if int.from_bytes(said[4:6], "little") & MYSQL_USES_TLS:
            client.reader = None
            return client.deliver(bytes(said))
        number, state, message = error
        body = b"\xff" + struct.pack("<H", number) + b"#" + (state + message).encode()
        server.deliver(struct.pack("<I", len(body) | (said[3] + 1) << 24) + body)
        server.transport.abort()

    client.reader = read
