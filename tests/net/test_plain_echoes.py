"""Which connections of a lane are served without a call of their transport, and for how long."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import epollreactor
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from echoproto.core.connection import GATE, Connection
from echoproto.core.factory import EchoFactory
from echoproto.core.protocol import Echo
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.plain_echoes import EPOLLIN, MIN_READ, PlainEchoes
from tests.net.ends import Ends, ends_of
from tests.net.serving import serving
from tests.reactors import run

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


class Member:
    """A plain echo without a transport, and the client's end of its connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.fd = server.fileno()
        self.otherwise: list[tuple[int, bytes | None, int]] = []
        self.echoes = PlainEchoes(lambda *args: self.otherwise.append(args))
        self.echo = SimpleNamespace(bytes_echoed=0)
        self.echo.dataReceived = self.echo.plain_echo = object()
        self.echo.transport = self.echo.plain_transport = object()
        self.echoes.add(self.fd, self.echo)

    def serve(self, event: int = EPOLLIN) -> list[tuple[int, int]]:
        return self.echoes.serve([(self.fd, event)])


@pytest.fixture
def member() -> Iterator[Member]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = socket.create_connection(listening.getsockname(), timeout=10)
        server, _ = listening.accept()
    server.setblocking(False)
    with client, server:
        yield Member(client, server)


@pytest.mark.parametrize("size", [1, 100, MIN_READ - 1])
def test_a_small_message_is_returned_and_counted(member: Member, size: int) -> None:
    member.client.sendall(b"x" * size)
    assert member.serve() == []
    assert member.client.recv(MIN_READ) == b"x" * size
    assert member.echo.bytes_echoed == size
    assert member.otherwise == []


def test_the_events_of_others_are_left_in_order(member: Member) -> None:
    member.client.sendall(b"x")
    others = [(-1, EPOLLIN), (-2, EPOLLIN), (-1, select.EPOLLOUT)]
    assert member.echoes.serve([*others[:2], (member.fd, EPOLLIN), *others[2:]]) == others
    assert member.client.recv(10) == b"x"


@pytest.mark.parametrize("event", [select.EPOLLOUT, EPOLLIN | select.EPOLLHUP, select.EPOLLERR])
def test_more_than_input_is_left_to_the_transport(member: Member, event: int) -> None:
    member.client.sendall(b"x")
    assert member.serve(event) == [(member.fd, event)]
    assert member.server.recv(10) == b"x"


@pytest.mark.parametrize("name", ["dataReceived", "transport", "plain_echo"])
def test_what_sees_the_bytes_is_asked(member: Member, name: str) -> None:
    setattr(member.echo, name, object())
    member.client.sendall(b"x")
    assert member.serve() == [(member.fd, EPOLLIN)]
    assert member.server.recv(10) == b"x"


def test_an_event_without_input_is_nothing(member: Member) -> None:
    assert member.serve() == []
    assert member.otherwise == []


def test_the_end_and_a_full_read_are_handed_on(member: Member) -> None:
    member.client.sendall(b"x" * (MIN_READ + 1))
    member.client.shutdown(socket.SHUT_WR)
    assert [member.serve() for _ in range(3)] == [[]] * 3
    assert member.otherwise == [(member.fd, b"x" * MIN_READ, 0), (member.fd, b"", 0)]
    # Whoever takes the first counts it.
    assert member.echo.bytes_echoed == 1


def test_a_reset_is_handed_on(member: Member) -> None:
    member.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    member.client.close()
    assert member.serve() == []
    assert member.otherwise == [(member.fd, None, 0)]


@pytest.mark.parametrize(
    ("fails", "sent"), [(None, 3), (BlockingIOError(), 0), (ConnectionResetError(), 0)]
)
def test_what_the_kernel_does_not_take_back_is_handed_on(
    member: Member, monkeypatch: pytest.MonkeyPatch, fails: OSError | None, sent: int
) -> None:
    def write(fd: int, data: bytes) -> int:
        if fails:
            raise fails
        return sent

    monkeypatch.setattr(os, "write", write)
    member.client.sendall(b"hello")
    assert member.serve() == []
    assert member.otherwise == [(member.fd, b"hello", sent)]
    assert member.echo.bytes_echoed == 5


# The transport takes the connection out with each change of its own.


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ends_of(EchoFactory()) as both:
        yield both


def queue(ends: Ends) -> None:
    ends.transport._queue(b"x")


def register_a_pull_producer(ends: Ends) -> None:
    ends.transport.unregisterProducer()
    ends.transport.registerProducer(SimpleNamespace(resumeProducing=lambda: None), False)


def finish(ends: Ends) -> None:
    ends.connection.close()


CHANGES: list[Callable[[Ends], None]] = [
    queue,
    register_a_pull_producer,
    finish,
    lambda ends: ends.connection.pause_reading(GATE),
    lambda ends: ends.transport.read_at_most(100),
    lambda ends: ends.transport.abortConnection(),
    lambda ends: setattr(ends.transport, "protocol", Echo()),
    lambda ends: ends.reactor.remove(ends.transport),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_transport_takes_it_out(ends: Ends, change: Callable[[Ends], None]) -> None:
    fd = ends.transport.fileno()
    assert fd in ends.reactor.echoes
    change(ends)
    assert fd not in ends.reactor.echoes


def test_it_comes_back_with_the_first_small_message(ends: Ends) -> None:
    fd = ends.transport.fileno()
    ends.connection.pause_reading(GATE)
    ends.connection.resume_reading(GATE)
    assert fd not in ends.reactor.echoes
    assert ends.exchange(b"abc") == b"abc"
    assert fd in ends.reactor.echoes
    ends.client.sendall(b"x" * (MIN_READ + 1))
    ends.turn()
    assert fd not in ends.reactor.echoes
    ends.turn()
    assert ends.exchange(b"abc") == b"abc"
    assert fd in ends.reactor.echoes


def test_what_is_no_echo_is_not_there() -> None:
    class Other(EchoFactory):
        def buildProtocol(self, addr: Any) -> Any:
            return SimpleNamespace(makeConnection=lambda transport: None)

    with ends_of(Other()) as ends:
        assert ends.transport.fileno() not in ends.reactor.echoes


# In a lane.


class Kills(Connection):
    """Aborts all others when its input ends."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        self.events.append("lost")
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        made: Any = self.factory
        for other in made.made:
            if other is not self:
                other.transport.abortConnection()
        super().readConnectionLost()


class Made(EchoFactory):
    """Knows what it has made."""

    def __init__(self) -> None:
        super().__init__(protocol=Kills)
        self.made: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.made.append(super().buildProtocol(addr))
        return self.made[-1]


def test_one_that_is_aborted_in_the_batch_returns_nothing_more() -> None:
    async def main(reactor: Any) -> list[bytes]:
        factory = Made()
        async with serving(reactor, factory) as served:
            clients = [(await served.connected())[0] for _ in range(10)]
            for client in clients:
                client.sendall(b"x")
                assert await served.receive(client, 1) == b"x"
            # All of it is there before the lane has its turn.
            clients[0].shutdown(socket.SHUT_WR)
            for client in clients[1:]:
                client.sendall(b"late")
            await served.until(lambda: all(one.events for one in factory.made))
            return [await served.receive(clients[0]), *map(answer, clients[1:])]

    ended, *others = run(main, epollreactor.EPollReactor())
    assert ended == b""
    assert others == [b"reset"] * 9


def answer(client: socket.socket) -> bytes:
    """Return what comes back of a client that is reset."""
    try:
        return client.recv(100)
    except ConnectionResetError:
        return b"reset"


def test_a_number_that_is_used_again_is_that_of_the_new_connection() -> None:
    async def main(reactor: Any) -> tuple[list[int], list[int]]:
        async with serving(reactor, Made()) as served:
            for size in range(1, 30):
                client, _ = await served.connected()
                client.sendall(b"x" * size)
                assert await served.receive(client, size) == b"x" * size
                client.close()
                await served.until(lambda: served.factory.made[-1].events)
            left = [fd for fd in range(1000) if fd in served.lane.echoes]
            return [one.bytes_echoed for one in served.factory.made], left

    assert run(main, epollreactor.EPollReactor()) == ([*range(1, 30)], [])
