"""The lane's transports without a lane."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import MemoryReactorClock

from echoproto.core.factory import EchoFactory
from echoproto.net.transports import TLSTransport, bytes_queued
from tests.net.ends import ends_of


class Reactor(MemoryReactorClock):
    """A reactor in which a test decides what is ready."""

    def add_connection(self, fd: int, transport: Any) -> None:
        self.addReader(transport)

    def write_soon(self, transport: Any) -> None:
        transport.doWrite()

    def remove(self, transport: Any) -> None:
        self.removeReader(transport)
        self.removeWriter(transport)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, TLSTransport]]:
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(10)
        protocol = Protocol()
        reactor: Any = Reactor()
        port: Any = None
        transport = TLSTransport(server, protocol, ("127.0.0.1", 7), port, 0, reactor)
        protocol.makeConnection(transport)
        yield client, transport


def test_its_names(ends: tuple[socket.socket, TLSTransport]) -> None:
    _, transport = ends
    port: Any = tcp.Port(0, ServerFactory(), reactor=MemoryReactorClock())
    # These are names that Twisted does not promise.
    assert port._realPortNumber is None
    port._realPortNumber = 7
    transport.server = port
    assert repr(transport) == "<Protocol #0 on 7>"
    assert transport.logstr == "Protocol,0,127.0.0.1"


def test_the_bytes_that_twisted_queues_are_counted() -> None:
    # These are names that Twisted does not promise.
    descriptor = FileDescriptor(Reactor())
    descriptor.connected = 1
    descriptor.writeSomeData = lambda data: 4  # type: ignore[method-assign]
    assert bytes_queued(descriptor) == 0
    descriptor.write(b"0123456789")
    assert bytes_queued(descriptor) == 10
    descriptor.doWrite()
    assert bytes_queued(descriptor) == 6
    descriptor.write(b"more")
    assert bytes_queued(descriptor) == 10
    assert bytes_queued(object()) == 0


def test_no_attribute_is_new_once_many_connections_are_open() -> None:
    """It would give each of them a dictionary of its own, and slow all of them down."""
    with ends_of(EchoFactory()) as ends:
        objects = (ends.transport, ends.connection)
        first = [set(vars(each)) for each in objects]
        ends.exchange(b"abc")
        # More than the client's and the server's buffers hold.
        with suppress(BlockingIOError):
            while ends.client.send(bytes(1 << 16)):
                ends.serve()
        assert ends.transport in ends.reactor.getWriters()
        while ends.transport in ends.reactor.getWriters():
            ends.turn()
        ends.client.shutdown(socket.SHUT_WR)
        while ends.transport.connected:
            ends.turn()
        for each, before in zip(objects, first, strict=True):
            assert set(vars(each)) - before == set()
