"""Ports and a reactor that a test plays by hand."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.factory import EchoFactory
from tests.transports import TCPLikeTransport

_registered = itertools.count()

CLIENT = IPv4Address("TCP", "192.0.2.1", 7)


@implementer(IReadDescriptor)
class FakePort:
    """A port whose accept queue is a number, which accepts as Twisted's does."""

    connected = True
    disconnecting = False

    def __init__(self, factory: EchoFactory) -> None:
        self._factory = factory
        self.numberAccepts = 100
        self.queued = 0
        self.made: deque[Any] = deque()
        self.startReading()

    def doRead(self) -> None:
        accepted = 0
        while accepted < self.numberAccepts and self.queued:
            accepted += 1
            self.queued -= 1
            connection = self._factory.buildProtocol(CLIENT)
            connection.makeConnection(TCPLikeTransport())
            self.made.append(connection)
        if accepted == self.numberAccepts:
            self.numberAccepts += 20
        else:
            self.numberAccepts = max(1, accepted)

    def startReading(self) -> None:
        self.reading = True
        self.since = next(_registered)

    def stopReading(self) -> None:
        self.reading = False

    def fileno(self) -> int:
        return -1

    def logPrefix(self) -> str:
        return "-"

    def connectionLost(self, reason: Failure) -> None:
        """Is not used."""


def turn(ports: list[FakePort]) -> None:
    """What a reactor does: it serves what is ready in the order in which it was registered."""
    while ready := [port for port in ports if port.reading and port.queued]:
        for port in sorted(ready, key=lambda port: port.since):
            port.doRead()
