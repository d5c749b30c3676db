"""Fakes that several tests share: ports, endpoints and reactors without sockets.

Transports are in ``tests/transports.py``, real reactors in ``tests/reactors.py``.
"""

from __future__ import annotations

import itertools
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.factory import EchoFactory
from tests.transports import TCPLikeTransport

# The address of a client, and of what it connects to (RFC 5737).
CLIENT = IPv4Address("TCP", "192.0.2.1", 7)

_registrations = itertools.count()


@implementer(IListeningPort)
class FakePort:
    """A listening port that does nothing.

    :param clock: ``stopListening`` takes effect in its next turn; at once if there is none.
    :param address: the address that ``getHost`` returns.
    :param descriptor: the number that ``fileno`` returns.
    :param sock: the socket that the port claims to have.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        address: Any = CLIENT,
        descriptor: int = -1,
        sock: socket.socket | None = None,
    ) -> None:
        self._clock = clock
        self._address = address
        self._descriptor = descriptor
        self.socket = sock
        self.open = True
        self.reading = True

    def startListening(self) -> None:
        """Is not used."""

    def stopListening(self) -> Deferred[None]:
        if self._clock is None:
            self.open = False
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._clock.callLater(0, self._close, closed)
        return closed

    def _close(self, closed: Deferred[None]) -> None:
        self.open = False
        closed.callback(None)

    def getHost(self) -> Any:
        return self._address

    def fileno(self) -> int:
        return self._descriptor

    def stopReading(self) -> None:
        self.reading = False


@implementer(IReadDescriptor)
class FakeQueuePort:
    """A port whose accept queue is a number. It accepts as Twisted's port does.

    :ivar queued: how many clients wait in the accept queue.
    :ivar made: the connections that were accepted, oldest first.
    """

    connected = True
    disconnecting = False

    def __init__(self, factory: EchoFactory) -> None:
        self.factory = factory
        self.numberAccepts = 100
        self.queued = 0
        self.made: deque[Any] = deque()
        self.startReading()

    def doRead(self) -> None:
        accepted = 0
        while accepted < self.numberAccepts and self.queued:
            accepted += 1
            self.queued -= 1
            connection = self.factory.buildProtocol(CLIENT)
            connection.makeConnection(TCPLikeTransport())
            self.made.append(connection)
        if accepted == self.numberAccepts:
            self.numberAccepts += 20
        else:
            self.numberAccepts = max(1, accepted)

    def startReading(self) -> None:
        self.reading = True
        self.since = next(_registrations)

    def stopReading(self) -> None:
        self.reading = False

    def fileno(self) -> int:
        return -1

    def logPrefix(self) -> str:
        return "-"

    def connectionLost(self, reason: Failure) -> None:
        """Is not used."""


def turn(ports: list[FakeQueuePort]) -> None:
    """Do what a reactor does: serve ready ports in the order of their registration."""
    while ready := [port for port in ports if port.reading and port.queued]:
        for port in sorted(ready, key=lambda port: port.since):
            port.doRead()


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """An endpoint whose ``listen`` returns what the test gives, one result per call."""

    def __init__(self, *results: Deferred[Any]) -> None:
        self.results = list(results)
        self.factory: Any = None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:  # noqa: N803
        self.factory = protocolFactory
        return self.results.pop(0)

    def accept(self) -> TCPLikeTransport:
        """Let a client connect; return its transport."""
        transport = TCPLikeTransport()
        self.factory.buildProtocol(None).makeConnection(transport)
        return transport


@implementer(IStreamClientEndpoint)
class UnreachableEndpoint:
    """An endpoint that never connects."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:  # noqa: N803
        return Deferred()


class RefusingReactor(MemoryReactorClock):
    """A reactor that cannot listen.

    :param why: the error of the socket.
    :param refuses: given a port number, tells whether it is refused; all are by default.
    :ivar opened: the ports that were not refused. Each has an attribute ``closed``.
    """

    def __init__(
        self, why: BaseException, refuses: Callable[[Any], bool] = lambda port: True
    ) -> None:
        super().__init__()
        self._why = why
        self._refuses = refuses
        self.opened: list[Any] = []

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self._refuses(port):
            raise CannotListenError(interface, port, self._why)
        opened: Any = super().listenTCP(port, factory, backlog, interface)
        opened.closed = False
        opened.stopListening = lambda: setattr(opened, "closed", True)
        self.opened.append(opened)
        return opened
