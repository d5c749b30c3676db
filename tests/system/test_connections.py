"""What is sent comes back, complete and in order, under every reactor."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from echoproto.probe import EchoTarget, Session, Target, preflight, run, sessions
from tests.marks import one_quick
from tests.system.conftest import Serve, in_every_way
from tests.system.server import PATIENCE, Server, receive_all, running, say, twistd_in

pytestmark = in_every_way

REACTORS = ["epoll", "poll", "select", "asyncio"]
MIB = 1 << 20


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize("reactor", one_quick(REACTORS))
def test_all_that_came_before_fin_comes_back(serve: Serve, reactor: str) -> None:
    server = serve(reactor=reactor)
    for size, times in ((100, 50), (1, 10), (0, 10), (MIB, 3)):
        for _ in range(times):
            payload = os.urandom(size)
            with server.connect() as client:
                assert say(client, payload) == payload


@pytest.fixture(scope="module")
def server(lane: str) -> Iterator[Server]:
    """A server that the tests here share."""
    with running(twistd_in(lane)) as started:
        yield started


@pytest.fixture(scope="module")
def tested(server: Server) -> EchoTarget:
    return EchoTarget(Target.parse(f"127.0.0.1:{server.port}"))


def test_urgent_data_comes_back_in_its_place(server: Server) -> None:
    connector, known = preflight(Target.parse(f"127.0.0.1:{server.port}"))
    for script in ("urgent 61", "send 61; urgent 62; await; send 63", "urgent 61; urgent 62; fin"):
        outcome = run(Session.parse(script), connector, known.limits(PATIENCE))
        assert outcome.ok, outcome.verdict.message


def test_30_mib_then_fin(server: Server) -> None:
    payload = random.Random(1).randbytes(30 * MIB)
    with server.connect() as client:
        back = say(client, payload)
    assert len(back) == len(payload)
    assert hashlib.sha256(back).digest() == hashlib.sha256(payload).digest()


def test_a_reader_that_starts_only_after_fin_gets_all(server: Server) -> None:
    payload = random.Random(2).randbytes(8 * MIB)
    with server.connect() as client:
        sender = threading.Thread(target=lambda: client.sendall(payload))
        sender.start()
        back = b""
        # The sender is blocked until the client reads; read just enough for it.
        while sender.is_alive():
            back += client.recv(1 << 16)
        sender.join()
        client.shutdown(socket.SHUT_WR)
        back += receive_all(client)
    assert back == payload


def test_the_plain_clients_of_the_origin(server: Server) -> None:
    port = server.port
    with socket.create_connection(("localhost", port)) as client:
        client.sendall(b"data")
        assert client.recv(1024) == b"data"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.connect(("localhost", port))
        client.sendall(b"data")
        assert client.recv(1024) == b"data"


@pytest.mark.parametrize(
    ("interface", "hosts"),
    [
        pytest.param("::1", ["::1"], marks=needs_ipv6),
        pytest.param("::", ["::1", "127.0.0.1"], marks=needs_ipv6),
        ("localhost", ["127.0.0.1"]),
    ],
)
def test_interfaces(serve: Serve, interface: str, hosts: list[str]) -> None:
    server = serve("--interface", interface)
    for host in hosts:
        with server.connect(host) as client:
            assert say(client, b"data") == b"data"


def test_log_of_chunks(serve: Serve) -> None:
    server = serve("--log", "chunks")
    with server.connect() as client:
        host, port = client.getsockname()
        assert say(client, b"data\r\n\xff") == b"data\r\n\xff"
    name = rf"{host}:{port}"
    server.wait_for(rf"closed {name}: 7 bytes in \d+\.\d+ s")
    for line in (
        f"opened {name}",
        rf"chunk from {name}: 7 bytes 'data\r\n\xff'",
        f"end of input from {name}",
    ):
        assert line in server.log


def test_log_of_connections_and_of_listening(serve: Serve) -> None:
    talkative, quiet = serve("--log", "connections"), serve()
    for server in (talkative, quiet):
        with server.connect() as client:
            assert say(client, b"data") == b"data"
    talkative.wait_for(r"opened 127\.0\.0\.1:\d+")
    talkative.wait_for(r"closed 127\.0\.0\.1:\d+: 4 bytes in")
    assert "chunk" not in talkative.log
    assert "127.0.0.1:" not in quiet.log.replace(f"127.0.0.1:{quiet.port};", "")


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(session=sessions(parallel=8))
def test_any_session_comes_back(tested: EchoTarget, session: Session) -> None:
    tested.check(session)
