"""Endpoints: what a client gets at an address while the servers behind it come and go."""

import collections
import contextlib
import os
import signal
import socket
import threading
import time

import psutil
import pytest
from conftest import until

from minicloud import endpoint, rundir
from minicloud.endpoint import Endpoints
from minicloud.supervisor import Supervisor


class Greeter:
    """A server at a Unix socket that says its name to every client, and then echoes."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(512)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                client.sendall(self.path.name.encode())
                threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    def _echo(self, client):
        with contextlib.suppress(OSError):
            with client:
                while data := client.recv(4096):
                    client.sendall(data)

    def die(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def endpoints():
    """Endpoints of their own forwarder, and a function that starts a greeter of a name."""
    supervisor, run = Supervisor(), rundir.create()
    greeters = []

    def greeter(name):
        greeters.append(Greeter(run / name))
        return greeters[-1]

    served = Endpoints(supervisor, run / "endpoint.log")
    thread = threading.Thread(target=supervisor.serve, daemon=True)
    thread.start()
    served.greeter = greeter
    yield served
    supervisor.shutdown()
    thread.join()
    supervisor.kill_everything()
    for each in greeters:
        with contextlib.suppress(OSError):
            each.die()
    rundir.remove(run)


def call(port: int, host: str = endpoint.HOST) -> socket.socket:
    """Return a new connection."""
    return socket.create_connection((host, port), timeout=5)


def greeting(port: int, host: str = endpoint.HOST) -> str:
    """Return the name of the server that a new connection gets."""
    with call(port, host) as client:
        return client.recv(100).decode()


def test_connections_are_spread_and_a_dead_server_gets_none(endpoints):
    """Of 300 connections each of three servers gets a third, within 10 %; from the moment it is dead, a server gets none."""
    servers = [endpoints.greeter(name) for name in ("a", "b", "c")]
    port = endpoints.open("readers", [server.path for server in servers])
    served = collections.Counter(greeting(port) for _ in range(300))
    assert set(served) == {"a", "b", "c"} and all(90 <= count <= 110 for count in served.values()), served
    servers[1].die()
    assert set(greeting(port) for _ in range(30)) == {"a", "c"}


def test_a_changed_target_closes_only_what_leads_elsewhere(endpoints):
    """Connections to a server that is no longer behind the endpoint are closed, the others go on."""
    servers = {name: endpoints.greeter(name) for name in ("a", "b")}
    port = endpoints.open("readers", [server.path for server in servers.values()])
    clients = {client.recv(100).decode(): client for client in (call(port), call(port))}
    endpoints.point("readers", [servers["b"].path])
    with contextlib.suppress(ConnectionResetError):
        assert clients["a"].recv(1) == b"", "closed one way or the other"
    clients["b"].sendall(b"still there")
    assert clients["b"].recv(100) == b"still there"


def test_an_endpoint_is_idle_from_the_end_of_its_last_connection(endpoints):
    """While a client is connected the endpoint is not idle and does not sleep; once it and the server have closed, it is."""
    port = endpoints.open("shop", endpoints.greeter("a").path)
    time.sleep(0.3)
    assert endpoints.idle("shop") >= 0.3
    with call(port) as client:
        client.recv(1)
        assert endpoints.idle("shop") == 0 and not endpoints.sleep("shop", None)
    assert until(lambda: endpoints.idle("shop"), "the ended connection is forgotten", seconds=5) < 0.3
    assert endpoints.sleep("shop", None)


def test_distance_delays_and_keeps_the_order(endpoints):
    """With a delay of 50 ms a round trip takes 100 ms longer, and a stream arrives whole and in order."""
    port = endpoints.open("far", endpoints.greeter("a").path)
    endpoints.delay("far", 0.05)
    with call(port) as client:
        client.recv(1)
        begin = time.monotonic()
        client.sendall(b"ping")
        client.recv(100)
        assert 0.1 <= time.monotonic() - begin < 2
        sent = b"".join(number.to_bytes(4, "big") for number in range(50_000))
        threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
        got = bytearray()
        while len(got) < len(sent):
            got += client.recv(65536)
        assert got == sent


def test_a_sleeping_endpoint_wakes_for_the_first_client(endpoints):
    """A connection to a sleeping endpoint waits, is told of once, and is served when the endpoint has a target again."""
    woken, server = [], endpoints.greeter("a")
    port = endpoints.open("shop", server.path)

    def wake():
        woken.append(1)
        time.sleep(0.2)
        endpoints.point("shop", server.path)

    endpoints.sleep("shop", wake)
    names = []
    threads = [threading.Thread(target=lambda: names.append(greeting(port))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert names == ["a"] * 3 and woken == [1]


def test_a_lost_forwarder_is_replaced_at_the_same_ports(endpoints):
    """When the forwarder is killed, every endpoint is back at its port, with its targets, its cut and its delay."""
    server = endpoints.greeter("a")
    port, far, cut = (endpoints.open(name, server.path) for name in ("near", "far", "cut"))
    endpoints.delay("far", 0.05)
    endpoints.cut("cut")
    forwarder = next(child for child in psutil.Process().children() if "minicloud.endpoint" in child.cmdline())
    os.kill(forwarder.pid, signal.SIGKILL)
    until(lambda: _answers(port), "the forwarder is back", seconds=10)
    assert greeting(port) == "a"
    begin = time.monotonic()
    assert greeting(far) == "a" and time.monotonic() - begin >= 0.05
    with call(cut) as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)


def _answers(port: int) -> bool:
    try:
        return greeting(port) == "a"
    except OSError:
        return False
