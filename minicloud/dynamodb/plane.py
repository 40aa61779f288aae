"""The data plane of DynamoDB: which engine answers a request, and the way there and back.

A request is passed on by the thread that reads the client's connection, before any WSGI: the development server behind
moto closes a connection with every answer, and that costs as much as the engine's own work.
"""

import json
import re
import threading
import zlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import moto
from moto.core import DEFAULT_ACCOUNT_ID

from minicloud.dynamodb import server
from minicloud.dynamodb.server import Engine, Link
from minicloud.engines.engine import EngineUnavailable
from minicloud.rds.plane import record_traceback
from minicloud.supervisor import Supervisor

TARGET = re.compile(rb"\r\nX-Amz-Target: *(DynamoDB(?:Streams)?)_20120810\.(\w+)", re.IGNORECASE)
LENGTH = re.compile(rb"(\r\nContent-Length: *)(\d+)", re.IGNORECASE)
SCOPE = re.compile(rb"Credential=[^/]*/\d{8}/([a-z0-9-]+)/dynamodb/aws4_request")
NOWHERE = b":dynamodb:dynoxide:000000000000:"  # Region and account in the engine's ARNs
UNKNOWN = b'{"__type":"com.amazon.coral.service#UnknownOperationException"}'  # all it says of what it does not have
SHARD = re.compile(rb'(ShardId"\s*:\s*"shardId-)')
SHARD_ZEROS = b"0" * 12  # between "shardId-" and the engine's 8 digits: boto3 takes no id as short as the engine's can be


class Plane:
    """DynamoDB in all Regions: an engine for each that has been asked for, or moto where there is no engine."""

    def __init__(self, supervisor: Supervisor, run: Path, log: Path):
        self.supervisor, self.run, self.log = supervisor, run, log
        self.engines: dict[str, Engine] = {}
        self.missing: str | None = None  # why moto answers
        self._adding = threading.Lock()

    def answer(self, client: BaseHTTPRequestHandler, head: bytes) -> bool:
        """Answer a request that begins with `head`; return False, having done nothing, if it is moto's to answer."""
        if not TARGET.search(head):
            return False
        scope = SCOPE.search(head)
        region = scope[1].decode() if scope else "us-east-1"
        try:
            engine = self._engine(region)
        except EngineUnavailable as error:
            self.missing = str(error)
            return False
        length = LENGTH.search(head)
        body = client.rfile.read(int(length[2])) if length else b""
        client.wfile.write(self._relayed(client, engine, region, head, body))
        return True

    def _engine(self, region: str) -> Engine:
        if region not in self.engines:
            server.program()
            with self._adding:
                if region not in self.engines:
                    directory = self.run / f"dynamodb-{region}"
                    directory.mkdir()
                    self.engines[region] = Engine(self.supervisor, directory)
        return self.engines[region]

    def _relayed(self, client, engine: Engine, region: str, head: bytes, body: bytes) -> bytes:
        """Return what the engine says, as bytes of HTTP, or InternalServerError, after which SDKs try again."""
        asked = _to_engine(body, region)
        port = 0
        try:
            port = engine.port()
            said = _link(client, port).ask(LENGTH.sub(rb"\g<1>%d" % len(asked), head), asked)
        except Exception as error:
            _hang_up(client)
            engine.note_its_end(port)
            if not isinstance(error, OSError):
                record_traceback(self.log)
            return _refusal("500 Internal Server Error", "InternalServerError", f"The engine of DynamoDB in {region} failed "
                            f"at this request, which may have been done or not: {error}. "
                            f"Its log: {engine.directory / 'dynoxide.log'}")
        return _answer(head, region, *said)

    # For `cloud`

    def resources(self) -> list[dict]:
        """Return a row for each engine: resource, engine, role, zone, endpoint, state."""
        states = {True: "available", False: "crashed; the next request starts it"}
        rows = [_row(f"dynamodb.{region}", server.version(), region, states[engine.is_running])
                for region, engine in list(self.engines.items())]
        if self.missing:
            rows.append(_row("dynamodb", f"moto {moto.__version__}", "every Region", f"slower. {self.missing}"))
        return rows

    def crash(self, name: str) -> None:
        """Kill the engine of a Region, `dynamodb.us-east-1`, or of all, `dynamodb`. The next request starts it again."""
        found = [engine for region, engine in list(self.engines.items()) if name in ("dynamodb", f"dynamodb.{region}")]
        if not any(engine.is_running for engine in found):
            known = ", ".join(f"dynamodb.{region}" for region in sorted(self.engines)) or "none"
            raise LookupError(f"No engine of DynamoDB of that name runs; the ones here: {known}.")
        for engine in found:
            if engine.is_running:
                engine.crash()

    def cut(self, *_) -> None:
        """DynamoDB has no link that could be cut or mended. Raises LookupError."""
        raise LookupError("DynamoDB has no links here.")

    heal = cut


def _row(resource: str, engine: str, zone: str, state: str) -> dict:
    return {"resource": resource, "engine": engine, "role": "tables", "zone": zone, "endpoint": "", "state": state}


def _to_engine(body: bytes, region: str) -> bytes:
    """Return a request's body with ARNs and shard ids as the engine of that Region has them."""
    if b'ShardId"' in body:
        body = re.sub(SHARD.pattern + SHARD_ZEROS, rb"\1", body)
    return body.replace(_here(region), NOWHERE)


def _from_engine(body: bytes, region: str) -> bytes:
    """Return an answer's body with ARNs and shard ids as AWS has them."""
    if b'ShardId"' in body:
        body = SHARD.sub(rb"\g<1>" + SHARD_ZEROS, body)
    return body.replace(NOWHERE, _here(region)).replace(b'"awsRegion":"dynoxide"', b'"awsRegion":"%s"' % region.encode())


def _answer(head: bytes, region: str, status: bytes, lines: list[bytes], body: bytes) -> bytes:
    """Return what the engine said to the request that begins with `head`, as AWS would."""
    if body == UNKNOWN:
        service, operation = (name.decode() for name in TARGET.search(head).groups())
        return _refusal("400 Bad Request", "NotImplemented", f"minicloud does not have {service.lower()}.{operation}: "
                                                             "it is as wide as the book's cells. On AWS the call works.")
    answer = _from_engine(body, region)
    if answer != body:
        lines = [line for line in lines if not line.lower().startswith((b"content-length:", b"x-amz-crc32:"))]
        lines.append(b"content-length: %d\r\nx-amz-crc32: %d\r\n" % (len(answer), zlib.crc32(answer)))
    return b"".join([status, *lines, b"\r\n", answer])


def _here(region: str) -> bytes:
    return f":dynamodb:{region}:{DEFAULT_ACCOUNT_ID}:".encode()


def _link(client, port: int) -> Link:
    """Return the link of this client's connection to the engine at `port`, kept from its last request if it is the same."""
    link = getattr(client, "link", None)
    if link is None or link.port != port:
        _hang_up(client)
        link = client.link = Link(port)
    return link


def _hang_up(client) -> None:
    if getattr(client, "link", None):
        client.link.close()
        client.link = None


def _refusal(status: str, code: str, sentence: str) -> bytes:
    """Return an HTTP answer with an error in DynamoDB's form."""
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": sentence}).encode()
    return (b"HTTP/1.1 %s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\nx-amz-crc32: %d\r\n\r\n%s"
            % (status.encode(), len(body), zlib.crc32(body), body))
