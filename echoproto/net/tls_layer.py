"""A TLS layer that loses nothing at the end of input; it needs the extra ``tls``.

Over TLS a close_notify means what a FIN means over TCP: one side has finished sending.
Twisted treats it as the end of both directions (twisted#5341). Its layer buffers what is
written, to encrypt it in the reactor's next turn, and loses what is in the buffer when
close_notify arrives: the last 32 KiB, or everything if there was less.

This layer buffers nothing beyond one read. All records of a read are decrypted, and handed
to the protocol in one piece; what it writes meanwhile is encrypted at once and passed to the
TCP transport in one piece, before the close_notify that follows the client's data is
processed. Twisted answers close_notify and closes the TCP transport, which flushes first.
Twisted's own layer does all this record by record: for each one a call of the protocol, a
copy out of OpenSSL, and a write. Tiny records that are queued one by one take many times
their size.

RFC 8446 (TLS 1.3), section 6.1: close_notify closes one direction. RFC 5246 (TLS 1.2),
section 7.2.1, has the other side discard pending writes; this layer sends them, which
does no harm to a client that has gone.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

# The maximum payload of a record, in bytes (RFC 8446, 5.1): OpenSSL returns one at a time.
_RECORD = 16 * 1024
# Bytes that OpenSSL may have to send besides what was written: those of a handshake, or what
# is added to the records of one read.
_SPARE = 4 * 1024


@implementer(IHalfCloseableProtocol)
class HalfCloseTLS(TLSMemoryBIOProtocol):
    """A TLS layer that tells its protocol when the peer has finished sending.

    The protocol cannot send anything in response: Twisted has answered close_notify by
    then.

    Three methods of Twisted's that are not documented are replaced, since no public one
    passes data on record by record: ``_flushReceiveBIO``, ``_write`` and ``_flushSendBIO``.
    If they had other names, Twisted's own would do, at a higher cost.
    """

    # Twisted has no interface with the attribute ``disconnecting``.
    transport: Any
    _input_ended = False
    # Whether the protocol is handling input: what it writes is sent when it returns.
    _handling = False
    # Bytes that were encrypted and may not have been passed to the transport.
    _unsent = 0

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

    def _flushReceiveBIO(self) -> None:
        """Decrypt all records that have arrived, and hand over what was in them."""
        records: list[bytes] = []
        receive = self.getHandle().recv
        closed, failure = False, None
        try:
            # After an error, and after close_notify, there is nothing more.
            while not self._lostTLSConnection:
                records.append(receive(_RECORD))
        except WantReadError:
            pass
        except ZeroReturnError:
            closed = True
        except Error:
            failure = Failure()
        self._hand_over(records)
        if self._lostTLSConnection:
            return
        if closed:
            self._shutdownTLS()
        if closed or failure is not None:
            self._tlsShutdownFinished(failure)

    def _hand_over(self, records: list[bytes]) -> None:
        """Call the protocol, and send what it wrote and what OpenSSL has to send."""
        try:
            if records and not self._aborted:
                self._handling = True
                self.wrappedProtocol.dataReceived(b"".join(records))
        finally:
            self._handling = False
            self._flushSendBIO()

    def _write(self, data: bytes) -> None:
        """Encrypt; unless the protocol is handling input, send."""
        if self._lostTLSConnection:
            return
        send = self.getHandle().send
        sent = 0
        try:
            while sent < len(data):
                sent += send(memoryview(data)[sent:] if sent else data)
        except WantReadError:
            # The handshake is not finished.
            self._bufferedWrite(data[sent:])
        except Error:
            self._tlsShutdownFinished(Failure())
        self._unsent += sent
        if not self._handling:
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        """Pass what OpenSSL has to send to the transport."""
        size = self._unsent + _SPARE
        self._unsent = 0
        pieces: list[bytes] = []
        try:
            # A shorter piece is the last one.
            while not pieces or len(pieces[-1]) == size:
                pieces.append(self.getHandle().bio_read(size))
        except WantReadError:
            # There is no more.
            pass
        if pieces:
            self.transport.write(b"".join(pieces))
