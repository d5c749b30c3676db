"""PROXY headers on real sockets: half-close works, and the true source is logged."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.proxy_protocol.test_parser import RIGHT, V1, V2_IPV4, v2
from tests.system.conftest import Serve, in_both_lanes
from tests.system.server import PATIENCE, Server, receive_all, running, say, twistd

pytestmark = in_both_lanes


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_true_source_and_every_byte(serve: Serve, workers: str) -> None:
    server = serve("--proxy-protocol", "required", "--log", "connections", "--workers", workers)
    payload = os.urandom(1 << 20)
    for header in (V1, v2(0x11, V2_IPV4)):
        with server.connect() as client:
            assert say(client, header + payload) == payload
    server.wait_for_times("closed 192.0.2.1:4242: 1048576 bytes", 2)
    server.wait_for(r"opened 192\.0\.2\.1:4242 via 127\.0\.0\.1:\d+")


@pytest.fixture(scope="module")
def server(lane: str) -> Iterator[Server]:
    """A server that requires headers; tests that only connect share it."""
    with running(twistd("--lane", lane, "--proxy-protocol", "required")) as started:
        yield started


def test_every_cut_and_a_fin_right_behind(server: Server) -> None:
    for header, _ in RIGHT:
        if len(header) > 300:
            continue
        for cut in range(len(header) + 1):
            with server.connect() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(header[:cut])
                client.sendall(header[cut:] + b"data")
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b"data"
    with server.connect() as client:
        for byte in V1 + b"data":
            client.sendall(bytes([byte]))
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"data"


def test_optional_echoes_what_is_no_header(serve: Serve) -> None:
    server = serve("--proxy-protocol", "optional")
    for stream in (b"data", b"PRO", b"PROXY TCP4 ", b"\r\n\r\n", b""):
        with server.connect() as client:
            assert say(client, stream) == stream
    with server.connect() as client:
        assert say(client, V1 + b"data") == b"data"


def test_others_are_not_believed(serve: Serve) -> None:
    optional = serve(
        "--proxy-protocol", "optional", "--proxy-from", "192.0.2.0/24", "--log", "connections"
    )
    with optional.connect() as client:
        assert say(client, V1 + b"data") == V1 + b"data"
    optional.wait_for(r"closed 127\.0\.0\.1:\d+: 45 bytes")
    required = serve("--proxy-protocol", "required", "--proxy-from", "192.0.2.0/24")
    with required.connect() as client:
        assert refused(client, V1 + b"data")
    required.wait_for(r"refused 127\.0\.0\.1:\d+: PROXY headers from this address are not trusted")


def refused(client: socket.socket, stream: bytes) -> bool:
    """Send something, and see the connection close or reset without a byte coming back."""
    client.settimeout(PATIENCE)
    try:
        client.sendall(stream)
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_a_wrong_header_closes_its_connection_only(server: Server) -> None:
    with server.connect() as good:
        good.sendall(V1 + b"da")
        assert good.recv(2) == b"da"
        for _ in range(200):
            with server.connect() as client:
                assert refused(client, b"PROXY nonsense\r\n")
        assert say(good, b"ta") == b"ta"
    lines = [line for line in server.lines if "refused" in line]
    assert len(lines) < 50
    assert "unknown family 'nonsense'" in lines[0]


def test_a_drain_amid_a_header(serve: Serve) -> None:
    server = serve("--proxy-protocol", "required", "--drain-timeout", "20")
    with server.connect() as client, server.connect() as other:
        other.sendall(V1 + b"x")
        assert other.recv(1) == b"x"
        client.sendall(V1[:10])
        server.signal()
        server.wait_for("draining: 2 connections")
        assert say(client, V1[10:] + b"data") == b"data"
        assert say(other, b"data") == b"data"
    server.wait()
    server.wait_for("drained")
