"""One connection: every byte that comes in goes out again, in order.

It works on every stream transport: TCP, UNIX, TLS, a test's StringTransport.
Two things that the plain example (``twisted.protocols.wire.Echo``) lacks make
it lose nothing:

- It has backpressure: the transport is registered as its own push producer, so
  that reading stops while what was read cannot be written.
- It takes part in half-close: after the other side's FIN, all that came before
  it is flushed, and only then is the connection closed.

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

    A TLS transport offers what the TCP transport below it offers, half-close
    included, which would tear the TLS session (twisted#5341).
    """
    return bool(ITCPTransport.providedBy(transport)) and not ISSLTransport.providedBy(transport)


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Return every byte.

    :ivar bytes_echoed: bytes handed back to the transport so far.
    :ivar bytes_discarded: bytes that came after :meth:`finish` and were not
        returned.
    """

    # A transport that is a consumer too; Twisted has no one interface for that.
    transport: Any
    bytes_echoed = 0
    bytes_discarded = 0
    _finishing = False

    @property
    def producer(self) -> Any:
        """What is to stop while the transport has enough to send."""
        return self.transport

    def connectionMade(self) -> None:
        """Switch Nagle's algorithm off, and reading to the pace of writing."""
        transport = self.transport
        if ITCPTransport.providedBy(transport) and not IUNIXTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self.producer, True)

    def dataReceived(self, data: bytes) -> None:
        """Return what came."""
        self.bytes_echoed += len(data)
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """The other side has said all: flush what it said, then close."""
        # A transport waits for its producer before it closes, and this one,
        # paused perhaps, will produce no more.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our side is closed after :meth:`finish`; the other side's end is awaited."""

    def finish(self) -> None:
        """Return what has come so far, then end: nothing that comes later is returned.

        Where the transport has half-close, our FIN follows the last byte, and
        over TLS our close_notify. Then input is read and dropped until the other
        side closes too: closing a socket with unread input makes the kernel send
        a reset, which may destroy what is still on its way to the other side
        (RFC 2525, 2.17).
        """
        if self._finishing:
            return
        self._finishing = True
        self.dataReceived = self._discard  # type: ignore[method-assign]
        transport = self.transport
        transport.unregisterProducer()
        # Reading was paused if the transport's buffer was full.
        transport.resumeProducing()
        if has_half_close(transport):
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _discard(self, data: bytes) -> None:
        self.bytes_discarded += len(data)
