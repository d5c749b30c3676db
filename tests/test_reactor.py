"""The fast lane below real reactors, with real sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest
from twisted.internet import epollreactor, pollreactor, selectreactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import FileDescriptorOverrun
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.reactor import FastLane
from tests.logs import logged
from tests.reactors import run

PATIENCE = 3.0

pytestmark = pytest.mark.skipif(not FastLane.available(), reason="needs select.epoll")


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
        self.lane = FastLane(reactor)
        if unix:
            # In the abstract namespace, where it leaves no file (unix(7)).
            self.port = reactor.listenUNIX(f"\0{uuid4()}", factory)
        else:
            self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        assert self.lane.take(self.port)
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
        for transport in {*self.lane.getReaders(), *self.lane.getWriters()}:
            transport.abortConnection()
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


# A protocol that fails ends its own conversation, and nobody else's.


@pytest.mark.parametrize("event", ["made", "data", "read_end", "lost"])
def test_an_error_in_a_protocol_ends_its_conversation_alone(any_reactor: Any, event: str) -> None:
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

    async def main(reactor: Any) -> FastLane:
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
