"""One connection's bytes: every byte that arrives is returned, in order.

It works on every stream transport: TCP, UNIX, TLS, a test's StringTransport. Two things that
the plain example (``twisted.protocols.wire.Echo``) lacks make it lose nothing:

- Backpressure: a push producer is registered with the transport, so that reading stops while
  what was read cannot be written.
- Half-close: after the client's FIN, everything that arrived before it is flushed, and only
  then is the connection closed.

RFC 862 (Echo Protocol), RFC 9293 section 3.6 (half-close).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    ISSLTransport,
    ITCPTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Protocol
from zope.interface import implementer


def has_half_close(transport: object) -> bool:
    """Tell whether a transport can close its write side alone.

    It would tear a TLS session down (twisted#5341), whose transport offers it nevertheless.

    :param transport: a protocol's.
    """
    return bool(ITCPTransport.providedBy(transport)) and not ISSLTransport.providedBy(transport)


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Return every byte.

    To return something else, override :meth:`dataReceived` and hand ``super().dataReceived``
    the bytes to return; see :class:`echoproto.EchoFactory`.

    :ivar bytes_echoed: bytes handed back to the transport so far.
    :ivar plain_echo: what ``dataReceived`` is, as an object, while nothing but an echo is
        made of the bytes: a transport may then return and count them itself.
    :ivar plain_transport: that transport; what is put in its place sees the bytes again.
    """

    # A transport that is a consumer too; Twisted has no one interface for that.
    transport: Any
    bytes_echoed = 0
    plain_echo: Any = None
    plain_transport: Any = None
    _started = False

    def connectionMade(self) -> None:
        """Switch Nagle's algorithm off, and let reading keep pace with writing."""
        self._started = True
        transport = self.transport
        # A plain transport has switched it off itself.
        tcp = transport is not self.plain_transport and ITCPTransport.providedBy(transport)
        if tcp and not IUNIXTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self._producer(), True)

    def dataReceived(self, data: bytes) -> None:
        """Return bytes.

        :param data: what arrived.
        """
        self.bytes_echoed += len(data)
        self.transport.write(data)

    def close(self) -> None:
        """Flush what is to be returned, then close the connection."""
        # A transport does not close while a producer is registered, even if that is paused.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """Handle the end of input: what arrived before it is flushed first."""
        self.close()

    def writeConnectionLost(self) -> None:
        """Ignore the end of our own side; the client's is still to come."""

    def _producer(self) -> Any:
        """Return what has to stop while the transport has enough to send."""
        return self.transport
