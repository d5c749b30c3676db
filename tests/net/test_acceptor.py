"""The accept loop of a port that is taken over."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from echoproto.net.acceptor import ACCEPT_CAPACITY_ERRNOS, ACCEPT_RETRY, Acceptor, set_transport
from tests.reactors import run

CLIENT = ("192.0.2.1", 7)


class FakeSocket:
    """A listening socket whose accept queue a test fills, with clients and with errors."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()

    def accept(self) -> tuple[Any, Any]:
        if not self.queue:
            raise BlockingIOError
        client = self.queue.popleft()
        if isinstance(client, OSError):
            raise client
        return FakeConnection(), client


class FakeConnection:
    """The socket of a connection."""

    closed = False

    def close(self) -> None:
        self.closed = True


class FakePort:
    """A port with what an acceptor uses of Twisted's."""

    connected = True
    disconnecting = False
    sessionno = 0

    def __init__(self) -> None:
        self.numberAccepts = 100
        self.socket = FakeSocket()
        self.factory = Factory.forProtocol(Protocol)
        self.reactor: Any = Clock()
        self.clients: list[Any] = []
        self.stock_reads: list[int] = []
        self.reading = True

    def transport(self, sock: Any, protocol: Any, client: Any, *more: Any) -> Any:
        self.clients.append(client)
        return object()

    def doRead(self) -> None:
        self.stock_reads.append(self.numberAccepts)

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False


@pytest.fixture
def port() -> Any:
    return FakePort()


@pytest.fixture
def errors() -> list[OSError]:
    return []


@pytest.fixture
def lane(port: Any, errors: list[OSError]) -> tuple[Acceptor, Clock]:
    """The acceptor of the port, in a lane whose clock a test moves."""
    clock = Clock()
    acceptor = Acceptor.of(port)
    acceptor.move(clock, port.transport, errors.append)
    return acceptor, clock


def emfile() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_port_is_taken_over_once(port: Any) -> None:
    acceptor = Acceptor.of(port)
    assert Acceptor.of(port) is acceptor
    port.doRead()
    assert port.stock_reads == [100]


def test_a_limited_port_accepts_with_the_loop_of_its_lane(port: Any) -> None:
    acceptor = Acceptor.of(port)
    acceptor.limit(lambda: acceptor.accept(2))
    port.doRead()
    assert port.stock_reads == [2]
    acceptor.move(Clock(), port.transport, lambda _: None)
    port.socket.queue.extend([CLIENT] * 3)
    port.doRead()
    assert port.stock_reads == [2]
    assert port.clients == [CLIENT] * 2
    assert (port.sessionno, acceptor.batch) == (2, 22)
    acceptor.accept(10)
    assert (port.clients, acceptor.batch) == ([CLIENT] * 3, 1)


@pytest.mark.parametrize("code", ACCEPT_CAPACITY_ERRNOS)
def test_a_lack_of_descriptors_makes_a_port_rest(
    port: Any, lane: tuple[Acceptor, Clock], errors: list[OSError], code: int
) -> None:
    _, clock = lane
    port.socket.queue.extend([OSError(code, "no"), CLIENT])
    port.doRead()
    assert [each.errno for each in errors] == [code]
    assert not port.reading
    assert not port.clients
    clock.advance(ACCEPT_RETRY)
    assert port.reading
    port.doRead()
    assert port.clients == [CLIENT]


def test_a_port_at_rest_is_not_woken_by_a_free_slot(
    port: Any, lane: tuple[Acceptor, Clock]
) -> None:
    """It would be read, and fail, without a pause."""
    acceptor, clock = lane
    port.socket.queue.append(emfile())
    port.doRead()
    acceptor.pause()
    acceptor.resume()
    assert not port.reading
    clock.advance(ACCEPT_RETRY)
    assert port.reading


def test_a_paused_port_is_not_woken_by_the_end_of_its_rest(
    port: Any, lane: tuple[Acceptor, Clock]
) -> None:
    acceptor, clock = lane
    port.socket.queue.append(emfile())
    port.doRead()
    acceptor.pause()
    clock.advance(ACCEPT_RETRY)
    assert not port.reading
    acceptor.resume()
    assert port.reading


def test_a_port_that_rests_rests_once(
    port: Any, lane: tuple[Acceptor, Clock], errors: list[OSError]
) -> None:
    _, clock = lane
    port.socket.queue.extend([emfile(), emfile()])
    port.doRead()
    port.doRead()
    assert len(clock.getDelayedCalls()) == len(errors) == 1


@pytest.mark.parametrize(("connected", "disconnecting"), [(True, True), (False, False)])
def test_a_closed_port_is_not_opened_again(
    port: Any, lane: tuple[Acceptor, Clock], connected: bool, disconnecting: bool
) -> None:
    acceptor, clock = lane
    port.socket.queue.append(emfile())
    port.doRead()
    port.connected, port.disconnecting = connected, disconnecting
    clock.advance(ACCEPT_RETRY)
    acceptor.pause()
    acceptor.resume()
    assert not acceptor.is_open
    assert not port.reading


def test_twisted_handles_the_other_errors(
    port: Any, lane: tuple[Acceptor, Clock], errors: list[OSError]
) -> None:
    port.socket.queue.extend([CLIENT, OSError(errno.ECONNABORTED, "aborted"), CLIENT])
    port.doRead()
    assert not errors
    assert port.stock_reads == [99]


def test_one_client_is_accepted_and_started_later(port: Any) -> None:
    acceptor = Acceptor.of(port)
    assert acceptor.accept_one() is None
    port.socket.queue.extend([emfile(), CLIENT, ("fe80::1", 7, 0, 1)])
    assert acceptor.accept_one() is None
    zone = socket.if_indextoname(1)
    for expected in (CLIENT, (f"fe80::1%{zone}", 7, 0, 1)):
        accepted = acceptor.accept_one()
        assert accepted is not None
        started = len(port.clients)
        accepted[1]()
        assert port.clients[started:] == [expected]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
def test_a_unix_client_with_a_name_of_four_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An IPv6 address has four members."""
    monkeypatch.chdir(tmp_path)

    async def main(reactor: Any) -> None:
        port = reactor.listenUNIX("server", Factory.forProtocol(Protocol))
        with socket.socket(socket.AF_UNIX) as client:
            client.bind("name")
            client.connect("server")
            accepted = Acceptor.of(port).accept_one()
            assert accepted is not None
            accepted[0].close()
        await port.stopListening()

    run(main)


def test_a_transport_is_set(port: Any) -> None:
    set_transport(port, Protocol)
    assert port.transport is Protocol
