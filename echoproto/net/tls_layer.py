"""A TLS layer that loses nothing at the end of input; it needs the extra ``tls``.

Over TLS a close_notify says what a FIN says over TCP: one side has said all.
Twisted takes it for the end of both directions (twisted#5341). Its layer
gathers what is written, to encrypt it in the reactor's next turn, and what it
has gathered when close_notify comes is lost: the last 32 KiB, or all if there
was less.

This one gathers nothing. What a connection writes is encrypted and with the
TCP transport when the write returns, so that it is there already when
close_notify, which comes after it, is looked at. Twisted answers close_notify
and closes the TCP transport, which flushes first.

RFC 8446 (TLS 1.3), section 6.1: close_notify closes one direction. RFC 5246 (TLS
1.2), section 7.2.1, has the other side discard what it has not sent; we send
it, and a client that has gone does not mind.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class HalfCloseTLS(TLSMemoryBIOProtocol):
    """A TLS layer which tells its protocol that the other side has said all.

    What the protocol writes when it is told is too late: Twisted has answered
    close_notify by then.
    """

    # Twisted has no interface for a transport that tells whether it closes.
    transport: Any
    _input_ended = False

    def dataReceived(self, data: bytes) -> None:
        """Decrypt what came, and see whether it ended the session."""
        super().dataReceived(data)
        # By close_notify, by an alert, or because it was no TLS.
        if self.connected and self.transport.disconnecting:
            self._end_of_input()

    def readConnectionLost(self) -> None:
        """The TCP connection ended without close_notify: return what came before.

        The connection still ends in an error (``ConnectionLost``): anybody on
        the way could have cut it there.
        """
        self._end_of_input()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Does not happen: TLS closes both directions of TCP at once."""

    def _end_of_input(self) -> None:
        if self._input_ended:
            return
        self._input_ended = True
        # A transport waits for its producer before it closes, and this one,
        # paused perhaps, will produce no more.
        self.unregisterProducer()
        # Before the handshake is done there was no input.
        shaken = self.getHandle().get_peer_finished() is not None
        protocol = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if shaken and protocol is not None:
            protocol.readConnectionLost()
