"""TLS as a converter of bytes: the server's side of a session, for a program that moves the bytes itself."""

import contextlib
import ssl
from pathlib import Path


def server_context(certificate: Path) -> ssl.SSLContext:
    """Return the context of servers that show `certificate`: TLS 1.2 or 1.3, as RDS for PostgreSQL 16 on has them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["postgresql"])  # what a client must ask for that begins with TLS at once
    return context


class Tls:
    """The server's side of one TLS session. Every method raises ssl.SSLError when the client breaks the protocol."""

    def __init__(self, context: ssl.SSLContext):
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._received, self._to_send, server_side=True)
        self.is_established = False

    @property
    def application(self) -> str | None:
        """The protocol that the client asked to speak (ALPN)."""
        return self._session.selected_alpn_protocol()

    def decrypt(self, data: bytes) -> bytes:
        """Take what the client sent; return what it says so far, b"" during the handshake."""
        self._received.write(data)
        said = bytearray()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            if not self.is_established:
                self._session.do_handshake()
                self.is_established = True
            while plain := self._session.read(1 << 18):
                said += plain
        return bytes(said)

    def encrypt(self, data: bytes) -> bytes:
        """Return `data`, and whatever else is to be sent (`encrypt(b"")`: of the handshake), as the client gets it."""
        if data:
            self._session.write(data)
        return self._to_send.read()

    def goodbye(self) -> bytes:
        """Return what tells the client that nothing more will come."""
        if self.is_established:
            with contextlib.suppress(ssl.SSLError):  # it would wait for the client's own goodbye
                self._session.unwrap()
        return self._to_send.read()
