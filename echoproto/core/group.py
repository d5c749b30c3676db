"""The connections of one service, which are all that its drain waits for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from echoproto.base.waiters import Waiters
from echoproto.base.words import counted
from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory

_log = Logger(namespace="echoproto")


class ConnectionGroup(ServerFactory):
    """Passes a service's connections on to its factory, which other services may share.

    :ivar factory: makes and counts the connections.
    :ivar connections: the open ones of this service.
    :ivar bytes_discarded: bytes of its connections that arrived too late to be returned.
    """

    noisy = False

    def __init__(self, factory: EchoFactory) -> None:
        """Make an empty group of a factory's connections."""
        self.factory = factory
        self.connections: set[Connection] = set()
        self.bytes_discarded = 0
        self._bytes_of_closed = 0
        self._empty = Waiters()

    def logPrefix(self) -> str:
        """Return what Twisted names the ports' log lines after: the factory."""
        return str(self.factory.logPrefix())

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()

    @property
    def asks_transport(self) -> bool:
        """Whether connections need no address: they ask their transports when they do."""
        return getattr(self.factory.buildProtocol, "__func__", None) is EchoFactory.buildProtocol

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the server's end of a connection.

        :raises TypeError: when a factory's own ``buildProtocol`` returns something else: it
            would not be counted, bounded or drained.
        """
        connection: Any = self.factory.buildProtocol(addr)
        if isinstance(connection, Connection):
            connection.join(self)
        elif connection is not None:
            raise TypeError(
                f"{type(self.factory).__name__}.buildProtocol returned {connection!r}; allowed: "
                "what EchoFactory.buildProtocol returns, or None; to use a protocol of your own, "
                "set the factory's protocol"
            )
        return connection

    def opened(self, connection: Connection) -> None:
        """Add a connection."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Remove a connection."""
        if connection in self.connections:
            self.connections.discard(connection)
            self._bytes_of_closed += connection.bytes_echoed
            self.bytes_discarded += connection.bytes_discarded
            self._check_empty()

    @property
    def live(self) -> int:
        """How many connections are open."""
        return len(self.connections)

    @property
    def waiting(self) -> int:
        """How many accepted clients wait for a slot."""
        return 0 if self.factory.slots is None else self.factory.slots.waiting

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in total."""
        return self._bytes_of_closed + sum(each.bytes_echoed for each in self.connections)

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires once no connection is open and none waits."""
        waiting = self._empty.wait()
        self._check_empty()
        return waiting

    def drop_waiting(self) -> None:
        """Close the accepted clients that wait for a slot."""
        number = 0 if self.factory.slots is None else self.factory.slots.drop_waiting()
        if number:
            clients = counted(number, "client")
            _log.warn("closed {clients} waiting for a connection slot", clients=clients)
            self._check_empty()

    def finish_all(self) -> None:
        """Flush and close every connection; see :meth:`Connection.finish`."""
        for connection in tuple(self.connections):
            connection.finish()

    def abort_all(self) -> None:
        """Abort every connection."""
        for connection in tuple(self.connections):
            connection.abort()

    def drop_all(self) -> int:
        """Give up on the connections that are left; return how many."""
        left = tuple(self.connections)
        for connection in left:
            connection.drop()
        return len(left)

    def _check_empty(self) -> None:
        if not self.connections and not self.waiting:
            self._empty.release()
