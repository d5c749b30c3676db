"""Both ends of a connection in the lane, without a reactor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from select import EPOLLIN
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from echoproto.core.factory import EchoFactory
from echoproto.net.plain_echoes import PlainEchoes
from echoproto.net.splice import SplicePipe
from echoproto.net.transports import ECHOED, TCPTransport


class Reactor(MemoryReactorClock):
    """A lane in which a test decides what is ready."""

    def __init__(self, pipe: SplicePipe) -> None:
        super().__init__()
        self.pipe = pipe
        self.echoes = PlainEchoes(self._echoed_otherwise)
        self.soon: list[Any] = []

    def _echoed_otherwise(self, fd: int, data: bytes | None, sent: int) -> None:
        (transport,) = (each for each in self.getReaders() if each.fileno() == fd)
        why = transport.echoed_otherwise(data, sent)
        if why is not None:
            transport.readConnectionLost(Failure(why))

    def removeReader(self, reader: Any) -> None:
        self.echoes.discard(reader.fileno())
        super().removeReader(reader)

    def add_connection(self, fd: int, transport: Any) -> None:
        self.addReader(transport)

    def write_soon(self, transport: Any) -> None:
        self.soon.append(transport)

    def remove(self, transport: Any) -> None:
        """Forget a transport, as a lane does."""
        self.removeReader(transport)
        self.removeWriter(transport)

    def end_batch(self) -> None:
        """Do what a lane does at the end of a batch."""
        while self.soon:
            transport = self.soon.pop()
            why = transport.doWrite()
            if why is not None:
                transport.connectionLost(Failure(why))


class Ends:
    """A client's socket and the server's end of its connection, without a reactor."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        factory: EchoFactory,
        pipe: SplicePipe,
    ) -> None:
        reactor = Reactor(pipe)
        port: Any = None
        client.setblocking(False)
        server.setblocking(False)
        self.client = client
        self.reactor = reactor
        self.connection = factory.buildProtocol(None)
        self.transport = TCPTransport(server, self.connection, ("127.0.0.1", 7), port, 0, reactor)
        self.connection.makeConnection(self.transport)
        # Calls of the ordinary way.
        self.calls = 0
        self._count_calls()
        self.back = b""

    def _count_calls(self) -> None:
        ordinary = self.transport._received

        def received(data: bytes) -> Any:
            self.calls += 1
            return ordinary(data)

        self.transport._received = received  # type: ignore[method-assign]

    def serve(self) -> None:
        """Do what a lane would do now."""
        if self.transport in self.reactor.getWriters():
            why = self.transport.doWrite()
            if why is not None:
                self.transport.connectionLost(Failure(why))
        ready = [(self.transport.fileno(), EPOLLIN)]
        if self.transport in self.reactor.getReaders() and self.reactor.echoes.serve(ready):
            why = self.transport.doRead()
            if why not in (None, ECHOED):
                self.transport.readConnectionLost(Failure(why))
        self.reactor.end_batch()

    def turn(self) -> None:
        """Do what a lane would do now, and receive what came back."""
        self.serve()
        self.receive()

    def receive(self, most: int = 1 << 40) -> None:
        """Receive what came back.

        :param most: how much to receive at most, in bytes.
        """
        try:
            while most and (data := self.client.recv(min(most, 1 << 18))):
                self.back += data
                most -= len(data)
        except BlockingIOError:
            pass

    def exchange(self, data: bytes) -> bytes:
        """Send bytes that fit into a read, and return what comes back."""
        self.back = b""
        self.client.sendall(data)
        self.turn()
        return self.back


@contextmanager
def ends_of(factory: EchoFactory, pipe: SplicePipe | None = None) -> Iterator[Ends]:
    """Connect a client to a server's end.

    :param factory: makes the connection.
    :param pipe: what the server's end splices through, if not a new one.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    with client, server, closing(SplicePipe()) as own:
        yield Ends(client, server, factory, pipe or own)
