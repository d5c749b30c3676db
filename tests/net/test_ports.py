"""Ports that share their socket, on real sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory

from echoproto.net.ports import (
    NotListeningError,
    adopt,
    listen_now,
    share_socket,
)
from tests.reactors import run

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.fixture
def inherited(path: Path) -> Iterator[socket.socket]:
    """A listening UNIX socket of another process, with its own mode and queue."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(1)
        yield sock


def test_an_inherited_unix_socket_is_left_as_it_is(path: Path, inherited: socket.socket) -> None:
    async def main(reactor: Any) -> None:
        port: Any = adopt(reactor, os.dup(inherited.fileno()), ServerFactory())
        assert port.backlog is None
        # The spare descriptor for when no other is left.
        assert tcp._reservedFD.available()
        assert port.getHost().name == os.fsencode(path)
        await port.stopListening()

    run(main)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    try:
        # It still listens, and its queue is as long as before: backlog + 1.
        for client in clients[:2]:
            client.connect(str(path))
        clients[2].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[2].connect(str(path))
    finally:
        for client in clients:
            client.close()


def test_what_is_no_listening_stream_socket_is_refused_and_closed() -> None:
    async def main(reactor: Any) -> None:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                given = os.dup(sock.fileno())
                with pytest.raises(ValueError, match="not a listening stream socket"):
                    adopt(reactor, given, ServerFactory())
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(given)
                with pytest.raises(OSError, match="Bad file descriptor"):
                    adopt(reactor, given, ServerFactory())

    run(main)


def test_a_shared_socket_outlives_its_port() -> None:
    """With shutdown(2), nothing could be accepted from it, and the client would be reset."""

    async def main(reactor: Any) -> None:
        port = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")
        share_socket(port)
        with (
            socket.socket(fileno=os.dup(port.fileno())) as shared,
            socket.create_connection(port.socket.getsockname()) as client,
        ):
            assert port not in reactor.getReaders()
            await port.stopListening()
            accepted, _ = shared.accept()
            with accepted:
                accepted.sendall(b"data")
                client.settimeout(10)
                assert client.recv(10) == b"data"

    run(main)


class FakeEndpoint:
    """An endpoint with a given outcome."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def listen(self, factory: Any) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_an_endpoint_that_listens_at_once() -> None:
    port = object()
    assert listen_now(FakeEndpoint(succeed(port)), ServerFactory()) is port  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "outcome",
    [CannotListenError("", 7, OSError("no")), fail(CannotListenError("", 7, OSError("no")))],
)
def test_an_endpoint_that_fails_at_once(outcome: Any) -> None:
    with pytest.raises(CannotListenError):
        listen_now(FakeEndpoint(outcome), ServerFactory())  # type: ignore[arg-type]


def test_an_endpoint_that_takes_its_time_is_told_to_stop() -> None:
    """Otherwise it would listen later, after the failed start."""
    listening: Deferred[Any] = Deferred()
    failures: list[Any] = []
    listening.addErrback(lambda failure: failures.append(failure.type))
    with pytest.raises(NotListeningError, match="does not listen at once"):
        listen_now(FakeEndpoint(listening), ServerFactory())  # type: ignore[arg-type]
    assert failures == [CancelledError]
