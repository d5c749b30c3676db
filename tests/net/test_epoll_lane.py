"""The fast lane below real reactors, with real sockets."""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import os
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import epollreactor, pollreactor, selectreactor, tcp
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, FileDescriptorOverrun
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorFDSet, IReadDescriptor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from echoproto.net.epoll_lane import EpollLane
from tests.descriptors import no_descriptor_left
from tests.logs import logged
from tests.reactors import run

PATIENCE = 10.0

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


def asyncio_reactor() -> AsyncioSelectorReactor:
    return AsyncioSelectorReactor(asyncio.new_event_loop())


REACTORS: dict[str, Callable[[], Any]] = {
    "epoll": epollreactor.EPollReactor,
    "poll": pollreactor.PollReactor,
    "select": selectreactor.SelectReactor,
    "asyncio": asyncio_reactor,
}


@pytest.fixture(params=REACTORS)
def any_reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    reactor = REACTORS[request.param]()
    yield reactor
    if isinstance(reactor, AsyncioSelectorReactor):
        reactor._asyncioEventloop.close()


class Recorder(Protocol):
    """Notes what it is told; what it does besides, a test gives to its factory."""

    transport: Any
    factory: Recorders

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""

    def _happened(self, event: str, *details: Any) -> None:
        self.events.append(event)
        handler = self.factory.handlers.get(event)
        if handler is not None:
            handler(self, *details)

    def connectionMade(self) -> None:
        self.factory.made.append(self)
        self._happened("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._happened("data", data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = type(reason.value)
        self._happened("lost")


@implementer(IHalfCloseableProtocol)
class HalfCloseableRecorder(Recorder):
    def readConnectionLost(self) -> None:
        self._happened("read end")

    def writeConnectionLost(self) -> None:
        self._happened("write end")


class Recorders(Factory):
    noisy = False

    def __init__(self, half_close: bool = False, **handlers: Callable[..., None]) -> None:
        """:param handlers: by event, with _ for the space in its name."""
        self.protocol: Any = HalfCloseableRecorder if half_close else Recorder
        self.handlers = {event.replace("_", " "): each for event, each in handlers.items()}
        self.made: list[Recorder] = []


def returns(recorder: Recorder, data: bytes) -> None:
    recorder.transport.write(data)


class Serving:
    """A port in a lane."""

    def __init__(self, reactor: Any, factory: Factory, unix: bool = False) -> None:
        self.reactor = reactor
        self.factory: Any = factory
        self.lane = EpollLane(reactor)
        if unix:
            # In the abstract namespace, where it leaves no file (unix(7)).
            self.port = reactor.listenUNIX(f"\0{uuid4()}", factory)
        else:
            self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        assert self.lane.adopt(self.port)
        self._clients = ExitStack()

    def connect(self) -> socket.socket:
        """Connect a blocking socket; it waits in the accept queue until the reactor has a turn."""
        client = socket.socket(self.port.addressFamily)
        self._clients.enter_context(client)
        client.settimeout(PATIENCE)
        client.connect(self.port.socket.getsockname())
        return client

    async def connected(self) -> tuple[socket.socket, Any]:
        """Connect a socket, and wait for its other end."""
        known = len(self.factory.made)
        client = self.connect()
        await self.until(lambda: len(self.factory.made) > known)
        return client, self.factory.made[-1]

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the reactor turn until something is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "it did not come"
            await deferLater(self.reactor, 0.001)

    async def receive(self, client: socket.socket, size: int | None = None) -> bytes:
        """Read so many bytes, or to the end of input, while the reactor turns."""
        client.setblocking(False)
        received = b""
        end = time.monotonic() + PATIENCE
        while size is None or len(received) < size:
            assert time.monotonic() < end, f"only {len(received)} bytes came"
            try:
                chunk = client.recv(1 << 16)
            except BlockingIOError:
                await deferLater(self.reactor, 0.001)
                continue
            if not chunk:
                break
            received += chunk
        client.settimeout(PATIENCE)
        return received

    async def close(self) -> None:
        await maybeDeferred(self.port.stopListening)
        for recorder in self.factory.made:
            # One that neither reads nor writes is in no books but these.
            if "lost" not in recorder.events:
                recorder.transport.abortConnection()
        await deferLater(self.reactor, 0.001)
        assert self.lane.getReaders() == self.lane.getWriters() == []
        self.lane.close()
        self._clients.close()


@asynccontextmanager
async def serving(reactor: Any, factory: Factory, unix: bool = False) -> AsyncIterator[Serving]:
    served = Serving(reactor, factory, unix)
    try:
        yield served
    finally:
        await served.close()


def test_bytes_come_back_below_any_reactor(any_reactor: Any) -> None:
    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns)) as served:
            client, _ = await served.connected()
            client.sendall(b"x" * 100_000)
            return await served.receive(client, 100_000)

    assert run(main, any_reactor) == b"x" * 100_000


# A protocol that fails ends its own connection, and nobody else's.


@pytest.mark.parametrize("event", ["made", "data", "read_end", "lost"])
def test_an_error_in_a_protocol_ends_its_connection_alone(any_reactor: Any, event: str) -> None:
    def fails_if_second(recorder: Recorder, *_: Any) -> None:
        if recorder in recorder.factory.made[1:2]:
            raise ZeroDivisionError("on purpose")
        if event == "data":
            returns(recorder, *_)

    async def main(reactor: Any) -> bytes:
        handlers = {"data": fails_if_second if event == "data" else returns}
        handlers.setdefault(event, fails_if_second)
        factory = Recorders(half_close=event == "read_end", **handlers)
        async with serving(reactor, factory) as served:
            first, _ = await served.connected()
            second, bad = await served.connected()
            if event == "data":
                second.sendall(b"x")
            elif event != "made":
                second.shutdown(socket.SHUT_WR)
            await served.until(lambda: bad.events[-1] == "lost")
            first.sendall(b"still here")
            back = await served.receive(first, 10)
            third, _ = await served.connected()
            third.sendall(b", new ones too")
            return back + await served.receive(third, 14)

    with logged("") as log:
        assert run(main, any_reactor) == b"still here, new ones too"
    assert log.text.count("ZeroDivisionError: on purpose") == 1


def test_a_producer_that_fails_to_stop_ends_nothing_else() -> None:
    class Stubborn:
        def stopProducing(self) -> None:
            raise ZeroDivisionError("on purpose")

    def register(recorder: Recorder, data: bytes) -> None:
        if data == b"bad":
            recorder.transport.registerProducer(Stubborn(), True)
        recorder.transport.write(data)

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=register)) as served:
            first, _ = await served.connected()
            second, bad = await served.connected()
            second.sendall(b"bad")
            second.shutdown(socket.SHUT_WR)
            await served.until(lambda: bad.transport not in served.lane.getReaders())
            first.sendall(b"still here")
            back = await served.receive(first, 10)
            bad.transport.socket.close()
            return back

    with logged("") as log:
        assert run(main) == b"still here"
    assert log.text.count("ZeroDivisionError: on purpose") == 1


def test_an_error_when_the_reactor_shuts_down_ends_nothing_else() -> None:
    def fails_if_first(recorder: Recorder) -> None:
        if recorder is recorder.factory.made[0]:
            raise ZeroDivisionError("on purpose")

    factory = Recorders(lost=fails_if_first)

    async def main(reactor: Any) -> EpollLane:
        # Left as it is, for the reactor to disconnect.
        served = Serving(reactor, factory)
        with served._clients:
            await served.connected()
            await served.connected()
            await served.connected()
            reactor.addSystemEventTrigger("after", "shutdown", reactor.disconnectAll)
        return served.lane

    with logged("") as log:
        lane = run(main)
    assert [each.events[-1] for each in factory.made] == ["lost"] * 3
    with pytest.raises(ValueError, match="closed"):
        lane.fileno()
    assert log.text.count("ZeroDivisionError: on purpose") == 1


# Order: what a transport is given goes out in that order, whatever it is given.


class SubclassOfBytes(bytes):
    """Bytes, as far as a transport may tell."""


def test_a_subclass_of_bytes_keeps_its_place() -> None:
    def answer(recorder: Recorder, data: bytes) -> None:
        recorder.transport.write(SubclassOfBytes(b"first, "))
        recorder.transport.write(b"second")

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=answer)) as served:
            client, _ = await served.connected()
            client.sendall(b"?")
            return await served.receive(client, 13)

    assert run(main) == b"first, second"


@pytest.mark.parametrize("queued", [0, 1 << 23], ids=["nothing queued", "queued"])
def test_only_bytes_can_be_written(queued: int) -> None:
    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders()) as served:
            client, recorder = await served.connected()
            transport = recorder.transport
            transport.write(bytes(queued))
            for wrong in ("text", bytearray(b"x"), memoryview(b"x"), 1, None):
                with pytest.raises(TypeError, match=r"^Data must be bytes$"):
                    transport.write(wrong)
                with pytest.raises(TypeError, match=r"^Data must be bytes$"):
                    transport.writeSequence([b"x", wrong])
            transport.writeSequence(iter([b"a", SubclassOfBytes(b"b"), b""]))
            transport.writeSequence([])
            transport.write(b"c")
            return (await served.receive(client, queued + 3))[queued:]

    assert run(main) == b"abc"


# Closing.


def test_half_closing_twice_in_a_turn_is_told_once() -> None:
    def close(recorder: Recorder) -> None:
        recorder.transport.loseWriteConnection()
        recorder.transport.loseWriteConnection()

    async def main(reactor: Any) -> list[str]:
        async with serving(reactor, Recorders(half_close=True, made=close)) as served:
            client, recorder = await served.connected()
            assert await served.receive(client) == b""
            client.sendall(b"x")
            await served.until(lambda: recorder.received)
            return list(recorder.events)

    assert run(main) == ["made", "write end", "data"]


def test_a_write_after_the_write_side_is_closed_pauses_nothing() -> None:
    def close(recorder: Recorder, data: bytes) -> None:
        if data == b"x":
            recorder.transport.registerProducer(recorder.transport, True)
            recorder.transport.loseWriteConnection()

    def write(recorder: Recorder) -> None:
        recorder.transport.write(b"nobody hears")

    async def main(reactor: Any) -> bytes:
        async with serving(
            reactor, Recorders(half_close=True, data=close, write_end=write)
        ) as served:
            client, recorder = await served.connected()
            client.sendall(b"x")
            assert await served.receive(client) == b""
            client.sendall(b"y")
            await served.until(lambda: recorder.received == b"xy")
            return recorder.received  # type: ignore[no-any-return]

    assert run(main) == b"xy"


def test_nothing_is_sent_after_a_producer_has_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Aborting:
        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def pauseProducing(self) -> None:
            """Comes with the first bytes that are queued."""

        def resumeProducing(self) -> None:
            # In the next turn, but before the connection is lost.
            self.transport.reactor.callLater(0, self.transport.write, b"too late")
            self.transport.abortConnection()

        def stopProducing(self) -> None:
            """The connection is lost."""

    def write(fd: int, data: bytes) -> int:
        sent.append(data)
        return os_write(fd, data)

    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders()) as served:
            client, recorder = await served.connected()
            recorder.transport.registerProducer(Aborting(recorder.transport), True)
            recorder.transport.write(bytes(1 << 23))
            with suppress(ConnectionResetError):
                await served.receive(client)
            await served.until(lambda: recorder.events[-1] == "lost")

    os_write = os.write
    monkeypatch.setattr(os, "write", write)
    run(main)
    # The reactor's waker writes too.
    assert bytes(1 << 23) in sent
    assert b"too late" not in sent


def test_descriptors_without_a_byte_to_go_with_are_an_error() -> None:
    """As in the stock lane: they would go with a later byte, to whom nobody told of them."""

    def send(recorder: Recorder, data: bytes) -> None:
        recorder.transport.sendFileDescriptor(0)

    async def main(reactor: Any) -> type[BaseException]:
        async with serving(reactor, Recorders(data=send), unix=True) as served:
            client, recorder = await served.connected()
            client.sendall(b"x")
            await served.until(lambda: recorder.events[-1] == "lost")
            return recorder.reason  # type: ignore[no-any-return]

    assert run(main) is FileDescriptorOverrun


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("answer", ["nothing", "an error"])
def test_a_client_that_gets_no_protocol_is_closed(unix: bool, answer: str) -> None:
    class Refusing(Recorders):
        refuse = True

        def buildProtocol(self, addr: Any) -> Any:
            if not self.refuse:
                return super().buildProtocol(addr)
            if answer == "an error":
                raise ZeroDivisionError("on purpose")
            return None

    async def main(reactor: Any) -> bytes:
        factory = Refusing(data=returns)
        async with serving(reactor, factory, unix=unix) as served:
            assert await served.receive(served.connect()) == b""
            factory.refuse = False
            client, _ = await served.connected()
            client.sendall(b"next")
            return await served.receive(client, 4)

    with logged("") as log:
        assert run(main) == b"next"
    assert log.text.count("ZeroDivisionError: on purpose") == (answer == "an error")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_who_comes_when_no_descriptor_is_left_waits_and_is_served(unix: bool) -> None:
    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders(data=returns), unix=unix) as served:
            inside, _ = await served.connected()
            waiting = [served.connect() for _ in range(30)]
            with no_descriptor_left():
                await served.until(lambda: log.lines)
                # Who is in has nothing of it; the port is tried anew meanwhile.
                inside.sendall(b"inside")
                assert await served.receive(inside, 6) == b"inside"
                await deferLater(reactor, 0.3)
                assert len(served.factory.made) == 1
            answers = []
            for client in waiting:
                client.sendall(b"waited")
                answers.append(await served.receive(client, 6))
            assert answers == [b"waited"] * 30

    with logged() as log:
        run(main)
    assert log.lines_of("warn") == [
        "cannot accept (Too many open files); clients wait in the accept queue"
    ]


def test_a_port_that_is_closed_while_it_rests_stays_closed() -> None:
    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders()) as served:
            served.connect()
            with no_descriptor_left():
                await served.until(lambda: log.lines)
            await maybeDeferred(served.port.stopListening)
            await deferLater(reactor, 0.3)
            assert served.lane.getReaders() == []

    with logged() as log:
        run(main)
    assert len(log.lines) == 1


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_connection_that_the_kernel_does_not_watch_is_closed(unix: bool) -> None:
    """``epoll_ctl(2)``: ENOSPC, beyond /proc/sys/fs/epoll/max_user_watches."""

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns), unix=unix) as served:
            client = served.connect()
            lane: Any = served.lane
            lane._epoll, watched = FullEpoll(lane._epoll), lane._epoll
            assert await served.receive(client) == b""
            lane._epoll = watched
            client, _ = await served.connected()
            client.sendall(b"next")
            return await served.receive(client, 4)

    with logged("") as log:
        assert run(main) == b"next"
    assert "No space left" in log.text


class FullEpoll:
    """An epoll set that takes no more."""

    def __init__(self, epoll: Any) -> None:
        self._epoll = epoll

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def register(self, fd: int, event: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("queued", [0, 1 << 22], ids=["nothing queued", "queued"])
@pytest.mark.parametrize("where", ["in a batch", "from a timer", "when made"])
@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection", "abortConnection"])
def test_a_close_comes_after_what_was_written_but_for_an_abort(
    how: str, where: str, queued: int
) -> None:
    def close(recorder: Recorder, *_: Any) -> None:
        transport = recorder.transport
        transport.write(bytes(queued))
        getattr(transport, how)()
        if how != "abortConnection":
            transport.write(b"end")
        assert "lost" not in recorder.events

    def close_later(recorder: Recorder) -> None:
        recorder.transport.reactor.callLater(0.01, close, recorder)

    event = {"in a batch": "data"}.get(where, "made")
    handler = close_later if where == "from a timer" else close

    def end(recorder: Recorder) -> None:
        recorder.transport.loseConnection()

    async def main(reactor: Any) -> tuple[bytes, Recorder]:
        factory = Recorders(half_close=True, read_end=end, **{event: handler})
        async with serving(reactor, factory) as served:
            client, recorder = await served.connected()
            if event == "data":
                client.sendall(b"?")
            received = b""
            with suppress(ConnectionResetError):
                received = await served.receive(client)
            client.close()
            await served.until(lambda: recorder.events[-1] == "lost")
            return received, recorder

    received, recorder = run(main)
    assert recorder.events.count("lost") == 1
    if how == "abortConnection":
        assert recorder.reason is ConnectionAborted
        assert "write end" not in recorder.events
    else:
        assert recorder.reason is ConnectionDone
        assert len(received) == queued + 3
        assert received.endswith(b"end")
        assert recorder.events.count("write end") == (how == "loseWriteConnection")


def test_a_lost_transport_reads_and_writes_nothing() -> None:
    """Its descriptor's number belongs to another connection by then."""

    def accept(recorder: Recorder) -> None:
        if len(recorder.factory.made) == 1:
            served_now[0].port.doRead()

    served_now: list[Serving] = []

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(lost=accept)) as served:
            served_now.append(served)
            _, lost = await served.connected()
            served.port.stopReading()
            number = lost.transport.fileno()
            second = served.connect()
            lost.transport.loseConnection()
            # In its connectionLost the number is free, and the next to be accepted gets it.
            await served.until(lambda: len(served.factory.made) == 2)
            recorder = served.factory.made[1]
            assert recorder.transport.fileno() == number
            transport = lost.transport
            transport.write(b"lost")
            transport.writeSequence([b"lost"])
            transport.resumeProducing()
            transport.pauseProducing()
            transport.loseWriteConnection()
            transport.loseConnection()
            transport.abortConnection()
            assert transport.doRead() is not None
            second.sendall(b"x")
            await served.until(lambda: recorder.received == b"x")
            recorder.transport.write(b"y")
            return await served.receive(second, 1)

    assert run(main) == b"y"


def test_connections_may_close_each_other_amid_a_batch() -> None:
    """The first to be served closes all the others, and gets new ones in their place."""

    def close_others(recorder: Recorder, data: bytes) -> None:
        if data == b"new":
            return
        for other in recorder.factory.made:
            if other is not recorder and "lost" not in other.events:
                # Closed at once: the write side is closed already.
                other.transport._writeDisconnected = True
                other.transport.loseConnection()
                assert other.events[-1] == "lost"
        # Their numbers go to those who wait to be accepted, who have nothing to read yet.
        served[0].port.doRead()

    served: list[Serving] = []

    async def main(reactor: Any) -> tuple[list[list[str]], list[list[str]]]:
        factory = Recorders(data=close_others)
        async with serving(reactor, factory) as each:
            served.append(each)
            clients = [(await each.connected())[0] for _ in range(10)]
            numbers = {recorder.transport.fileno() for recorder in factory.made}
            each.port.stopReading()
            each.port.numberAccepts = 100
            new = [each.connect() for _ in range(10)]
            for client in clients:
                client.sendall(b"old")
            await each.until(lambda: len(factory.made) == 20)
            taken = {recorder.transport.fileno() for recorder in factory.made[10:]}
            assert len(taken & numbers) >= 9
            old_events = [list(recorder.events) for recorder in factory.made[:10]]
            await deferLater(reactor, 0.01)
            quiet = [list(recorder.events) for recorder in factory.made[10:]]
            for client in new:
                client.sendall(b"new")
            await each.until(lambda: all(one.received == b"new" for one in factory.made[10:]))
            return old_events, quiet

    with logged("") as log:
        old, new = run(main)
    assert sorted(old) == sorted([["made", "data"]] + [["made", "lost"]] * 9)
    assert new == [["made"]] * 10
    assert "Traceback" not in log.text


@pytest.mark.parametrize("call", ["pauseProducing", "stopReading"])
def test_who_stops_reading_gets_no_more(call: str) -> None:
    def stop(recorder: Recorder, data: bytes) -> None:
        getattr(recorder.transport, call)()

    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders(data=stop)) as served:
            client, recorder = await served.connected()
            for _ in range(3):
                client.sendall(b"x" * 10_000)
            await served.until(lambda: recorder.received)
            await deferLater(reactor, 0.02)
            assert recorder.events == ["made", "data"]
            while len(recorder.received) < 30_000:
                turns = len(recorder.events)
                recorder.transport.resumeProducing()
                await served.until(functools.partial(has_grown, recorder.events, turns))

    def has_grown(events: list[str], known: int) -> bool:
        return len(events) > known

    run(main)


# Whose turn it is.


def test_a_bulk_sender_and_the_timers_leave_each_other_turns() -> None:
    """Between two turns of one of 100 small talkers a bulk sender is read a few times at most."""
    turns: list[str] = []
    ticks: list[int] = []
    size = 1 << 24

    def note(recorder: Recorder, data: bytes) -> None:
        bulk = recorder is recorder.factory.made[0]
        turns.append("bulk" if bulk else f"{recorder.factory.made.index(recorder)}")
        if not bulk:
            recorder.transport.write(data)

    async def main(reactor: Any) -> None:
        def tick() -> None:
            ticks.append(len(turns))
            timer[0] = reactor.callLater(0, tick)

        async with serving(reactor, Recorders(data=note)) as served:
            bulk, bulk_end = await served.connected()
            talkers = [(await served.connected())[0] for _ in range(100)]
            sender = threading.Thread(target=bulk.sendall, args=(bytes(size),))
            sender.start()
            timer = [reactor.callLater(0, tick)]
            for client in talkers:
                client.setblocking(False)
                client.sendall(b"x")
            while len(bulk_end.received) < size:
                await deferLater(reactor, 0)
                for client in talkers:
                    with suppress(BlockingIOError):
                        client.sendall(client.recv(10))
            sender.join()
            timer[0].cancel()

    run(main)
    mine = [index for index, turn in enumerate(turns) if turn == "50"]
    assert len(mine) > 10
    assert max(turns[one:other].count("bulk") for one, other in pairwise(mine)) <= 4
    # A timer waits for one batch, and no longer.
    assert all(later - tick <= 128 for tick, later in pairwise(ticks))
    assert len(ticks) > 10


def test_more_connections_than_select_takes() -> None:
    """The lane is one descriptor among those of the reactor, whatever is in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip("needs 3000 descriptors")

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns)) as served:
            taken = [os.dup(0) for _ in range(1500)]
            try:
                client, recorder = await served.connected()
                assert recorder.transport.fileno() > 1024
                client.sendall(b"x" * 1_000_000)
                return await served.receive(client, 1_000_000)
            finally:
                for fd in taken:
                    os.close(fd)

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    try:
        assert run(main, selectreactor.SelectReactor()) == b"x" * 1_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Producers.


class Producer:
    """Produces chunks, each other than the one before, as long as it may."""

    def __init__(self, transport: Any, chunks: int) -> None:
        self.transport = transport
        self.left = chunks
        self.calls: list[str] = []
        self.paused = False

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self.paused = True

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.produce(1)

    def stopProducing(self) -> None:
        self.calls.append("stop")

    def produce(self, chunks: int) -> None:
        while self.left and chunks and not self.paused:
            self.left -= 1
            chunks -= 1
            self.transport.write(self.left.to_bytes(8, "big") * 4096)
        if not self.left:
            self.transport.unregisterProducer()
            self.transport.loseConnection()


class PushProducer(Producer):
    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.produce(-1)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "push"])
def test_what_a_producer_produces_comes_whole(streaming: bool, unix: bool) -> None:
    chunks = 400
    producers: list[Producer] = []
    most = 0

    def produce(recorder: Recorder, data: bytes) -> None:
        kind = PushProducer if streaming else Producer
        producer = kind(recorder.transport, chunks)
        producers.append(producer)
        recorder.transport.registerProducer(producer, streaming)
        if streaming:
            producer.resumeProducing()

    async def main(reactor: Any) -> bytes:
        nonlocal most
        async with serving(reactor, Recorders(data=produce), unix=unix) as served:
            client, recorder = await served.connected()
            client.sendall(b"?")
            await served.until(lambda: producers)
            transport = recorder.transport
            received = b""
            client.setblocking(False)
            while recorder.events[-1] != "lost" or client.fileno() != -1:
                most = max(most, len(transport.dataBuffer) + transport._tempDataLen)
                try:
                    chunk = client.recv(100_000)
                except BlockingIOError:
                    await deferLater(reactor, 0)
                    continue
                received += chunk
                if not chunk:
                    client.close()
            return received

    received = run(main)
    assert received == b"".join(left.to_bytes(8, "big") * 4096 for left in reversed(range(chunks)))
    (producer,) = producers
    assert "stop" not in producer.calls
    if streaming:
        # Twisted's threshold, while it is resumed amid a doWrite, and one chunk more.
        assert most <= (1 << 16) + 32768
        assert producer.calls.count("pause") >= 1
    else:
        assert producer.calls.count("resume") == chunks


# What a port is taken for.


def test_a_port_of_another_kind_stays_where_it_is() -> None:
    class OwnPort(tcp.Port):
        """It may have its reasons."""

    async def main(reactor: Any) -> bool:
        lane = EpollLane(reactor)
        port = OwnPort(0, Factory(), reactor=reactor)
        port.startListening()
        try:
            return lane.adopt(port)
        finally:
            await maybeDeferred(port.stopListening)
            lane.close()
            lane.close()

    assert run(main) is False


def test_it_is_the_reactor_that_it_says_it_is() -> None:
    async def main(reactor: Any) -> None:
        lane = EpollLane(reactor)
        verifyObject(IReactorFDSet, lane)
        verifyObject(IReadDescriptor, lane)
        assert lane.callLater == reactor.callLater
        lane.close()

    run(main)


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 300_000)),
            st.tuples(st.just("writeSequence"), st.lists(st.integers(0, 20_000), max_size=5)),
            st.tuples(st.just("turn"), st.integers(0, 3)),
            st.tuples(st.just("read"), st.integers(1, 100_000)),
        ),
        max_size=20,
    ),
    unix=st.booleans(),
)
def test_what_is_written_comes_whole_and_in_order(steps: list[Any], unix: bool) -> None:
    async def main(reactor: Any) -> tuple[bytes, bytes]:
        written = b""
        received = b""
        source = itertools.count()

        def made(size: int) -> bytes:
            nonlocal written
            # Each 8 bytes differ from all others.
            data = b"".join(next(source).to_bytes(8, "big") for _ in range(size // 8 + 1))[:size]
            written += data
            return data

        async with serving(reactor, Recorders(), unix=unix) as served:
            client, recorder = await served.connected()
            transport = recorder.transport
            transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            for call, value in steps:
                if call == "write":
                    transport.write(made(value))
                elif call == "writeSequence":
                    transport.writeSequence([made(size) for size in value])
                elif call == "turn":
                    for _ in range(value):
                        await deferLater(reactor, 0)
                else:
                    client.setblocking(False)
                    with suppress(BlockingIOError):
                        received += client.recv(value)
            transport.loseConnection()
            received += await served.receive(client)
            return written, received

    written, received = run(main)
    assert received == written


def test_a_descriptor_closed_behind_its_back_hides_no_other() -> None:
    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns)) as served:
            _, lost = await served.connected()
            number = lost.transport.fileno()
            # It waits to be accepted until the number is free.
            client = served.connect()
            lost.transport.socket.close()
            await served.until(lambda: len(served.factory.made) == 2)
            assert served.factory.made[1].transport.fileno() == number
            client.sendall(b"data")
            return await served.receive(client, 4)

    assert run(main) == b"data"
