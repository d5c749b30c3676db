"""The same service on other endpoints: UNIX sockets and TLS, in a ``.tac`` file."""

from __future__ import annotations

import importlib.util
import os
import random
import select
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import twisted

from tests.system.conftest import in_both_lanes
from tests.system.server import BIN, PATIENCE, Server, running
from tests.system.test_pressure import assert_stuck_clients_cost_little, get_stuck, needs_proc

pytestmark = in_both_lanes

MIB = 1 << 20

TAC = """
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from echoproto import EchoService

application = Application("echo")
endpoint = serverFromString(reactor, {endpoint!r})
service = EchoService(endpoint, drain_timeout=20, fast_lane={fast!r})
service.setServiceParent(application)
"""

# A key and its certificate, which Twisted's own tests use too.
PEM = Path(twisted.__file__).parent / "test" / "server.pem"

needs_tls = pytest.mark.skipif(
    importlib.util.find_spec("OpenSSL") is None, reason="needs the extra tls (pyOpenSSL)"
)
KINDS = ["unix", pytest.param("ssl", marks=needs_tls)]

Connect = Callable[[], socket.socket]


@contextmanager
def served(kind: str, lane: str, directory: Path) -> Iterator[tuple[Server, Connect]]:
    """Start a server; give it with what connects to it."""
    path = str(directory / "socket")
    endpoint = {
        "unix": f"unix:{path}",
        "ssl": f"ssl:0:interface=127.0.0.1:privateKey={PEM}:certKey={PEM}",
    }[kind]
    tac = directory / "echo.tac"
    tac.write_text(TAC.format(endpoint=endpoint, fast=lane == "fast"))

    def connect() -> socket.socket:
        if kind == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(PATIENCE)
            client.connect(path)
            return client
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(server.connect())

    command = [str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(tac)]
    with running(command, cwd=directory) as server:
        server.wait_for("listening on ")
        yield server, connect


def exchange(client: socket.socket, payload: bytes) -> bytes:
    """Send a payload, and read as much; TLS has no half-close to end it with (twisted#5341).

    In one thread: two may not use an ``SSLSocket`` at once.
    """
    would_block = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    client.setblocking(False)
    back = bytearray()
    sent = 0
    end = time.monotonic() + PATIENCE
    while len(back) < len(payload):
        assert time.monotonic() < end
        moved = False
        if sent < len(payload):
            with suppress(*would_block):
                sent += client.send(payload[sent : sent + 16384])
                moved = True
        with suppress(*would_block):
            chunk = client.recv(1 << 16)
            if not chunk:
                break
            back += chunk
            moved = True
        if not moved:
            select.select([client], [client] if sent < len(payload) else [], [], 1)
    client.settimeout(PATIENCE)
    return bytes(back)


@pytest.mark.parametrize("kind", KINDS)
def test_connections_come_back_whole(kind: str, lane: str, tmp_path: Path) -> None:
    with served(kind, lane, tmp_path) as (server, connect):
        for size in (1, 100, 16_385, 8 * MIB):
            payload = random.Random(size).randbytes(size)
            with connect() as client:
                assert exchange(client, payload) == payload
        with connect() as client:
            for size in (1, 70_000, 3):
                payload = os.urandom(size)
                assert exchange(client, payload) == payload
        assert "Traceback" not in server.log


def test_what_comes_before_fin_comes_back(lane: str, tmp_path: Path) -> None:
    with served("unix", lane, tmp_path) as (_, connect):
        for _ in range(20):
            with connect() as client:
                client.sendall(b"x" * 50_000)
                client.shutdown(socket.SHUT_WR)
                back = b""
                while chunk := client.recv(1 << 16):
                    back += chunk
            assert back == b"x" * 50_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_drain_lets_connections_finish(kind: str, lane: str, tmp_path: Path) -> None:
    with served(kind, lane, tmp_path) as (server, connect), ExitStack() as stack:
        clients = [stack.enter_context(connect()) for _ in range(10)]
        for client in clients:
            assert exchange(client, b"before") == b"before"
        server.signal(signal.SIGTERM)
        server.wait_for("draining: 10 connections")
        payloads = [bytes([n]) * MIB for n in range(10)]
        with ThreadPoolExecutor(10) as pool:
            assert list(pool.map(exchange, clients, payloads)) == payloads
        for client in clients:
            client.close()
        assert server.wait() == -signal.SIGTERM
        assert "drained" in server.log
        assert "Traceback" not in server.log


@needs_proc
@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_never_read_cost_little(kind: str, lane: str, tmp_path: Path) -> None:
    with served(kind, lane, tmp_path) as (server, connect), ExitStack() as stack:
        assert_stuck_clients_cost_little(
            server, 5, lambda: get_stuck(stack.enter_context(connect()))
        )
