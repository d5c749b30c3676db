"""A TLS layer that loses nothing at the end of input; it needs the extra ``tls``.

Over TLS a close_notify means what a FIN means over TCP: one side has finished sending.
Twisted treats it as the end of both directions (twisted#5341). Its layer buffers what is
written, to encrypt it in the reactor's next turn, and loses what is in the buffer when
close_notify arrives: the last 32 KiB, or everything if there was less.

This layer buffers nothing. What a connection writes is encrypted and passed to the TCP
transport before the write returns, and so before the close_notify that follows the
client's data is processed. Twisted answers close_notify and closes the TCP transport,
which flushes first.

RFC 8446 (TLS 1.3), section 6.1: close_notify closes one direction. RFC 5246 (TLS 1.2),
section 7.2.1, has the other side discard pending writes; this layer sends them, which
does no harm to a client that has gone.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class HalfCloseTLS(TLSMemoryBIOProtocol):
    """A TLS layer that tells its protocol when the peer has finished sending.

    The protocol cannot send anything in response: Twisted has answered close_notify by
    then.
    """

    # Twisted has no interface with the attribute ``disconnecting``.
    transport: Any
    _input_ended = False

    def dataReceived(self, data: bytes) -> None:
        """Decrypt the input, and check whether it ended the session."""
        super().dataReceived(data)
        # By close_notify, by an alert, or because it was not TLS.
        if self.connected and self.transport.disconnecting:
            self._end_of_input()

    def readConnectionLost(self) -> None:
        """Return the data received before a FIN without close_notify.

        The connection still ends in an error (``ConnectionLost``): the input may have
        been truncated by an attacker.
        """
        self._end_of_input()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Not called: TLS closes both directions of TCP at once."""

    def _end_of_input(self) -> None:
        if self._input_ended:
            return
        self._input_ended = True
        # A transport waits for its producer before it closes, and this one may be paused.
        self.unregisterProducer()
        # Before the end of the handshake there was no input.
        shaken = self.getHandle().get_peer_finished() is not None
        protocol = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if shaken and protocol is not None:
            protocol.readConnectionLost()
