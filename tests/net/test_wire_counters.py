"""What the kernel tells of a connection, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from echoproto.base import tcp_info as base_tcp_info
from echoproto.net import wire_counters as tcp_info
from echoproto.net.wire_counters import Unreturned, unreturned, wire_counters

needs_linux = pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells")


@pytest.fixture(params=["tcp", "unix"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end of a connection, and the client's."""
    if request.param == "unix":
        served, client = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            served, _ = listening.accept()
    with served, client:
        yield served, client


def over(sock: Any, queued: bytes = b"") -> Any:
    """A transport."""
    return SimpleNamespace(socket=sock, dataBuffer=queued)


def eventually(condition: Any) -> bool:
    """Wait for the kernel, which passes loopback's packets on in its own time."""
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


@needs_linux
def test_the_counters_change_with_each_byte(ends: tuple[socket.socket, socket.socket]) -> None:
    served, client = ends
    transport = over(served)
    if served.family != socket.AF_UNIX:
        # What is read from a UNIX socket shows in what the server echoes.
        before = wire_counters(transport, 0)
        client.sendall(b"x")
        assert eventually(lambda: wire_counters(transport, 0) != before)
    before = wire_counters(transport, 0)
    served.sendall(b"x")
    assert eventually(lambda: wire_counters(transport, 0) != before)
    before = wire_counters(transport, 0)
    assert client.recv(1) == b"x"
    if served.family == socket.AF_UNIX:
        assert wire_counters(transport, 0) != before
    assert wire_counters(transport, 0) == wire_counters(transport, 0)


@needs_linux
def test_the_bytes_that_were_not_returned(ends: tuple[socket.socket, socket.socket]) -> None:
    served, client = ends
    client.sendall(b"unread")
    transport = over(served, b"rest")
    assert eventually(lambda: unreturned(transport) == Unreturned(queued=4, unread=6, sent=0))
    served.setblocking(False)
    passed = 0
    try:
        while True:
            passed += served.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    sent = unreturned(transport).sent
    if served.family == socket.AF_UNIX:
        assert sent == 0
    else:
        assert 0 < sent <= passed


def test_a_transport_without_a_socket() -> None:
    assert wire_counters(object(), 0) == ()
    assert unreturned(over(None, b"rest")) == Unreturned(4, 0, 0)


def test_a_kernel_that_does_not_tell(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, client = ends
    client.sendall(b"unread")
    monkeypatch.setattr(base_tcp_info, "_TCP_INFO", None)
    monkeypatch.setattr(tcp_info, "termios", None)
    assert wire_counters(over(served), 0) == (0, 0)
    # Bytes are queued, so the kernel has some too, and does not tell.
    assert wire_counters(over(served, b"rest"), 0) is None
    assert unreturned(over(served, b"rest")) == Unreturned(4, 0, 0)


def test_a_closed_socket(ends: tuple[socket.socket, socket.socket]) -> None:
    served, _ = ends
    served.close()
    assert wire_counters(over(served), 0) == (0, 0)
    assert unreturned(over(served)) == Unreturned(0, 0, 0)


@needs_linux
@pytest.mark.parametrize("received", [3, 1 << 60])
@pytest.mark.parametrize("answer", [b"", bytes(40), bytes(136), b"\1" * 136])
def test_an_answer_that_cannot_be_true_is_not_used(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, received: int
) -> None:
    """gVisor answers with zeros, or too short; what is in the queues is known all the same."""
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: answer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        served, _ = listening.accept()
    believed = answer == b"\1" * 136 and received == 3
    with served, client:
        before = wire_counters(over(served), received)
        served.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                served.send(bytes(1 << 16))
        filled = wire_counters(over(served, b"rest"), received)
        assert before is not None
        assert filled is not None
        assert len(filled) == (4 if believed else 2)
        assert filled != before

        def has_moved() -> bool:
            client.recv(1 << 16)
            return wire_counters(over(served, b"rest"), received) != filled

        assert eventually(has_moved)
        # A kernel that does not tell that either.
        monkeypatch.setattr(tcp_info, "termios", None)
        told = wire_counters(over(served, b"rest"), received)
        assert (told is None) is not believed
