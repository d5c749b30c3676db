"""A port in an epoll lane, on real sockets, and protocols that record their events."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

from twisted.internet import epollreactor, pollreactor, selectreactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.net.epoll_lane import EpollLane

PATIENCE = 10.0


def asyncio_reactor() -> AsyncioSelectorReactor:
    return AsyncioSelectorReactor(asyncio.new_event_loop())


REACTORS: dict[str, Callable[[], Any]] = {
    "epoll": epollreactor.EPollReactor,
    "poll": pollreactor.PollReactor,
    "select": selectreactor.SelectReactor,
    "asyncio": asyncio_reactor,
}


class Recorder(Protocol):
    """Records its events, and calls the handlers of its factory."""

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
    """A recorder that takes part in half-close."""

    def readConnectionLost(self) -> None:
        self._happened("read end")

    def writeConnectionLost(self) -> None:
        self._happened("write end")


class Recorders(Factory):
    """Makes recorders, and knows them all."""

    noisy = False

    def __init__(self, half_close: bool = False, **handlers: Callable[..., None]) -> None:
        """Make a factory.

        :param half_close: whether the recorders take part in half-close.
        :param handlers: by event, with _ for the space in its name.
        """
        self.protocol: Any = HalfCloseableRecorder if half_close else Recorder
        self.handlers = {event.replace("_", " "): each for event, each in handlers.items()}
        self.made: list[Recorder] = []


def returns(recorder: Recorder, data: bytes) -> None:
    """Echo; a handler for ``data``."""
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
        """Let the reactor turn until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "timed out"
            await deferLater(self.reactor, 0.001)

    async def receive(self, client: socket.socket, size: int | None = None) -> bytes:
        """Read this many bytes, or to the end of input, while the reactor turns."""
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
        """Close the port, its connections, and the lane."""
        await maybeDeferred(self.port.stopListening)
        for recorder in self.factory.made:
            # The lane does not know those that neither read nor write.
            if "lost" not in recorder.events:
                recorder.transport.abortConnection()
        await deferLater(self.reactor, 0.001)
        assert self.lane.getReaders() == self.lane.getWriters() == []
        self.lane.close()
        self._clients.close()


@asynccontextmanager
async def serving(reactor: Any, factory: Factory, unix: bool = False) -> AsyncIterator[Serving]:
    """Serve with a factory meanwhile."""
    served = Serving(reactor, factory, unix)
    try:
        yield served
    finally:
        await served.close()
