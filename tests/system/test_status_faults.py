"""Malformed requests at the status port are refused, and the echo is unaffected.

The cases of HTTP request smuggling and of path tricks are in tests/status/test_site.py
too, where each one's place in the stream is tried; here a real server meets them.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.status.test_site import BAD, PATHS
from tests.system.server import PATIENCE, Server, eventually, running, say, twistd


class Port:
    """The status port of a server that all tests here share."""

    def __init__(self, server: Server) -> None:
        self.server = server
        found = server.wait_for(r"status on (\S+):(\d+)")
        self.address = (found[1], int(found[2]))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)

    def exchange(self, request: bytes) -> bytes:
        """Send all, and our FIN; return what comes back until it is closed or reset."""
        with self.connect() as client:
            # What is refused in the middle is reset.
            with contextlib.suppress(OSError):
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while chunk := client.recv(1 << 16):
                    answer += chunk
        return answer

    def well(self) -> bool:
        return b" 200 OK\r\n" in self.exchange(b"GET /healthz HTTP/1.0\r\n\r\n")


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    with running(twistd("--status", "0")) as server:
        shared = Port(server)
        yield shared
        # After all of it: it serves, and has nothing to say of what came.
        assert shared.well()
        with server.connect() as client:
            assert say(client, b"still here") == b"still here"
        assert "Traceback" not in server.log
        assert "Unhandled" not in server.log
        assert len(server.log.splitlines()) < 20


def codes(answer: bytes) -> list[int]:
    """Return the status of each answer that is in what came."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", answer)]


@pytest.mark.parametrize("request_", BAD.values(), ids=BAD)
def test_what_is_no_plain_request(port: Port, request_: bytes) -> None:
    answered = codes(port.exchange(request_))
    assert len(answered) <= 1
    assert all(400 <= code < 500 for code in answered)


@pytest.mark.parametrize("path", PATHS)
def test_path_tricks(port: Port, path: str) -> None:
    (code,) = codes(port.exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()))
    assert 400 <= code < 500


def test_a_pipelined_request_is_not_answered(port: Port) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # The reset that tells of what was not read may overtake the answer.
    assert len(codes(port.exchange(request + request))) <= 1


TOKENS = [
    b"GET ", b"HEAD ", b"POST ", b"/", b"/metrics", b"/..", b"//", b"%2e", b"%00", b"?", b"#",
    b" HTTP/1.1", b" HTTP/1.0", b" HTTP/0.9", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ",
    b"\t", b":", b"Host: localhost", b"Content-Length: ", b"Transfer-Encoding: chunked", b"0", b"5",
    b"-1", b"Connection: keep-alive", b"Expect: 100-continue", b"Upgrade: h2c", b"\xff",
    b"a" * 20000, b"0\r\n\r\n", b"5\r\nhello\r\n", b"Cookie: ;=;", b"Content-Type: multipart/",
]  # fmt: skip
NOISE = st.one_of(
    st.binary(max_size=300),
    st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=5)), max_size=25).map(b"".join),
)
GOOD = {
    f"{method} {path}".encode()
    for method in ("GET", "HEAD")
    for path in ("/", "/metrics", "/healthz", "/readyz", "/status.json", "/page.css", "/page.js")
}


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(noise=NOISE)
@example(noise=b"")
@example(noise=b"\r\n\r\n\r\n")
@example(
    noise=b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
    b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"
)
@example(noise=b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/\r\n\r\n")
def test_random_bytes(port: Port, noise: bytes) -> None:
    answered = codes(port.exchange(noise))
    assert len(answered) <= 1
    for code in answered:
        assert code < 500
        if code == 200:
            # It was a request, of those that there are, after one empty line at the most.
            line = noise.removeprefix(b"\r\n").split(b"\r\n")[0]
            assert line.rpartition(b" HTTP/1.")[0].split(b"?")[0] in GOOD
            assert b"\r\n\r\n" in noise


def hold(stack: ExitStack, port: Port) -> list[socket.socket]:
    """Open many connections that never say all."""
    slow = []
    for _ in range(300):
        client = stack.enter_context(port.connect())
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        slow.append(client)
    return slow


def test_slow_clients_do_not_keep_others_out(port: Port) -> None:
    with ExitStack() as stack:
        hold(stack, port)
        assert port.well()
        assert port.server.descriptors() < 100
        with port.server.connect() as client:
            assert say(client, b"data") == b"data"


@pytest.mark.slow
def test_no_slow_client_stays(port: Port) -> None:
    before = port.server.descriptors()
    with ExitStack() as stack:
        slow = hold(stack, port)

        def drip() -> bool:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.send(b"x")
            return port.server.descriptors() <= before

        assert eventually(drip)
