"""The lane's transports without a lane."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import MemoryReactorClock

from echoproto.net.transports import TLSTransport, bytes_queued


class Reactor(MemoryReactorClock):
    """A reactor in which a test decides what is ready."""

    def write_soon(self, transport: Any) -> None:
        transport.doWrite()


class Records(Protocol):
    """Writes each byte separately, as a TLS layer does with records."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        for byte in data:
            self.transport.write(bytes([byte]))
        self.transport.writeSequence([b"e", b"nd"])
        if data == b"fail":
            raise RuntimeError("a protocol failed")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, TLSTransport]]:
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(10)
        protocol = Records()
        reactor: Any = Reactor()
        port: Any = None
        transport = TLSTransport(server, protocol, ("127.0.0.1", 7), port, 0, reactor)
        protocol.makeConnection(transport)
        yield client, transport


def test_writes_during_a_read_are_sent_in_one_piece(
    ends: tuple[socket.socket, TLSTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, transport = ends
    written: list[bytes] = []
    write = os.write

    def noting(fd: int, data: bytes) -> int:
        written.append(data)
        return write(fd, data)

    client.sendall(b"bytes")
    monkeypatch.setattr(os, "write", noting)
    transport.doRead()
    monkeypatch.undo()
    assert written == [b"bytesend"]
    assert client.recv(100) == b"bytesend"
    # Later, each separately.
    transport.write(b"a")
    transport.writeSequence([b"b", b"c"])
    assert client.recv(100) == b"abc"


def test_writes_before_an_error_are_sent_too(
    ends: tuple[socket.socket, TLSTransport],
) -> None:
    client, transport = ends
    client.sendall(b"fail")
    with pytest.raises(RuntimeError):
        transport.doRead()
    assert client.recv(100) == b"failend"


def test_its_names(ends: tuple[socket.socket, TLSTransport]) -> None:
    _, transport = ends
    port: Any = tcp.Port(0, ServerFactory(), reactor=MemoryReactorClock())
    # These are names that Twisted does not promise.
    assert port._realPortNumber is None
    port._realPortNumber = 7
    transport.server = port
    assert repr(transport) == "<Records #0 on 7>"
    assert transport.logstr == "Records,0,127.0.0.1"


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
