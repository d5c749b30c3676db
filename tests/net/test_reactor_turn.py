"""A lane that waits in place of Twisted's epoll reactor."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet import epollreactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.factory import EchoFactory
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.reactor_turn import ReactorTurn
from tests.net.serving import PATIENCE, Recorders, returns, serving
from tests.reactors import run

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


@implementer(IReadDescriptor)
class Reader:
    """A descriptor of the reactor's own."""

    def __init__(self, sock: socket.socket) -> None:
        self.fileno = sock.fileno
        self._sock = sock
        self.read = b""

    def logPrefix(self) -> str:
        return "-"

    def doRead(self) -> None:
        self.read += self._sock.recv(100)

    def connectionLost(self, reason: Failure) -> None:
        raise AssertionError("the test removes it")


def test_only_an_epoll_reactor_that_waits_itself_is_turned_round() -> None:
    reactor: Any = epollreactor.EPollReactor()
    assert ReactorTurn.possible(reactor)
    assert not ReactorTurn.possible(SelectReactor())
    assert not ReactorTurn.possible(MemoryReactorClock())
    first = EpollLane(reactor)
    # The second one is a reader.
    assert not ReactorTurn.possible(reactor)
    second = EpollLane(reactor)
    second.close()
    first.close()
    assert ReactorTurn.possible(reactor)
    assert "doIteration" not in vars(reactor)


def test_a_turn_that_another_party_has_wrapped_meanwhile_is_left_to_it() -> None:
    reactor: Any = epollreactor.EPollReactor()
    lane = EpollLane(reactor)
    ours = reactor.doIteration
    turns: list[float | None] = []

    def wrapped(delay: float | None) -> None:
        turns.append(delay)
        ours(delay)

    reactor.doIteration = wrapped
    lane.close()
    reactor.callLater(0, reactor.callLater, 0, reactor.stop)
    reactor.run(installSignalHandlers=False)
    assert turns
    assert reactor.doIteration is wrapped


def test_the_names_of_twisted_that_it_uses() -> None:
    reactor: Any = epollreactor.EPollReactor()
    assert reactor._poller.fileno() >= 0
    assert epollreactor.EPollReactor.doIteration is epollreactor.EPollReactor.doPoll


@pytest.mark.parametrize("active", [0, 1, 300])
def test_the_reactor_handles_its_own_events_among_busy_connections(active: int) -> None:
    async def main(reactor: Any) -> bytes:
        ends = socket.socketpair()
        reader = Reader(ends[0])
        reactor.addReader(reader)
        async with serving(reactor, Recorders(data=returns)) as served:
            clients = [(await served.connected())[0] for _ in range(active)]
            for each in clients:
                each.sendall(b"x")
            ends[1].sendall(b"for the reactor")
            await served.until(lambda: reader.read)
            for each in clients:
                assert await served.receive(each, 1) == b"x"
        reactor.removeReader(reader)
        for end in ends:
            end.close()
        return reader.read

    assert run(main, epollreactor.EPollReactor()) == b"for the reactor"


def test_threads_delayed_calls_and_signals_wake_it() -> None:
    happened: list[str] = []

    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders(data=returns)) as served:
            await served.connected()
            from_thread: Deferred[None] = Deferred()
            thread = threading.Thread(
                target=reactor.callFromThread, args=(from_thread.callback, None)
            )
            thread.start()
            await from_thread
            thread.join()
            happened.append("thread")
            await deferLater(reactor, 0.01)
            happened.append("time")

    run(main, epollreactor.EPollReactor())
    assert happened == ["thread", "time"]


class Talker:
    """Exchanges messages with a plain echo in a lane, in a thread of its own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._lane = EpollLane(reactor)
        self._port = reactor.listenTCP(0, EchoFactory(), interface="127.0.0.1")
        assert self._lane.adopt(self._port)
        self._stopped = threading.Event()
        self._exchanged: queue.SimpleQueue[tuple[int, Deferred[None]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port.getHost().port)) as client:
            client.settimeout(PATIENCE)
            while not self._stopped.is_set():
                count, exchanged = 1, None
                with suppress(queue.Empty):
                    count, exchanged = self._exchanged.get_nowait()
                for _ in range(count):
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
                if exchanged is not None:
                    self._reactor.callFromThread(exchanged.callback, None)

    async def exchange(self, count: int) -> None:
        """Wait until so many messages have come back."""
        exchanged: Deferred[None] = Deferred()
        self._exchanged.put((count, exchanged))
        await exchanged

    async def stop(self) -> None:
        self._stopped.set()
        while self._thread.is_alive() or self._port.factory.connections:
            await deferLater(self._reactor, 0.001)
        await self._port.stopListening()
        self._lane.close()


def test_what_is_due_comes_in_time_while_nothing_but_echoes_is_to_do() -> None:
    happened: list[str] = []

    async def main(reactor: Any) -> None:
        talker = Talker(reactor)
        for _ in range(10):
            await deferLater(reactor, 0.01)
            happened.append("time")
            await talker.exchange(10)
            happened.append("thread")
        await talker.stop()

    run(main, epollreactor.EPollReactor())
    assert happened == ["time", "thread"] * 10


def test_plain_echoes_take_no_turns_of_the_reactor() -> None:
    async def main(reactor: Any) -> int:
        talker = Talker(reactor)
        await talker.exchange(10)
        run_until_current = reactor.runUntilCurrent
        turns = 0

        def counted() -> None:
            nonlocal turns
            turns += 1
            run_until_current()

        reactor.runUntilCurrent = counted
        await talker.exchange(500)
        taken = turns
        await talker.stop()
        return taken

    assert run(main, epollreactor.EPollReactor()) < 10


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signal_handlers")
def test_a_signal_ends_a_reactor_that_the_lane_waits_for() -> None:
    reactor: Any = epollreactor.EPollReactor()
    lane = EpollLane(reactor)
    # It comes while the reactor waits: nothing else would wake it.
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    reactor.callWhenRunning(timer.start)
    reactor.run()
    timer.join()
    # It has disconnected all its readers, and so the lane.
    assert lane.fileno() == -1
    assert "doIteration" not in vars(reactor)
