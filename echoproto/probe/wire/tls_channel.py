"""A channel over TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

from echoproto.probe.wire.channel import NOT_NOW, Channel, HandshakeError, Layer
from echoproto.probe.wire.reasons import reason, tls_reason

__all__ = ["TlsChannel"]


class TlsChannel(Layer):
    """TLS on top of another channel.

    TLS runs on buffers instead of on the socket, since ``SSLSocket`` cannot close one side and
    continue reading the other.

    Args:
        below: the connection.
        context: what TLS needs.
        name: the server's, to send and to verify.
        agreed: called with the protocol version after the handshake.
        peer: the proxy that this TLS ends at, for people; empty for the target.
    """

    def __init__(
        self,
        below: Channel,
        context: ssl.SSLContext,
        name: str,
        agreed: Callable[[str], None],
        peer: str = "",
    ) -> None:
        super().__init__(below)
        self.whole_reads = False
        self._agreed = agreed
        self._peer = peer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._broken: ssl.SSLError | None = None
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.send = self._send
        self.recv = self._recv

    def peer(self) -> str:
        return self._peer

    def shake(self) -> bool:
        try:
            return self._shake()
        except NOT_NOW:
            raise
        except OSError as error:  # ssl.SSLError is one
            if not self._peer:
                raise
            why = tls_reason(error) if isinstance(error, ssl.SSLError) else reason(error)
            raise HandshakeError(f"{self._peer}: no TLS: {why}") from None

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            try:
                self._fill()
                self._tls.do_handshake()
            except NOT_NOW:
                self.flush()
                return False
        except ssl.SSLError:
            self.flush()  # sends the alert, which says why
            raise
        self.flush()
        self._agreed(self._tls.version() or "")
        return True

    def flush(self) -> None:
        self.unsent += self._outgoing.read()
        super().flush()

    def _send(self, data: bytes | memoryview) -> int:
        self.flush()
        if self.unsent:
            raise BlockingIOError
        sent = self._tls.write(data[:65536])
        self.flush()
        return sent

    def _recv(self, size: int) -> bytes:
        while (data := self._decrypted(size)) is None:
            self._fill()
        return data

    def _decrypted(self, size: int) -> bytes | None:
        """Return what has arrived, of as many records as it takes; None if more has to arrive.

        What was left here would wait for an event of the socket, and the socket may be empty.
        """
        parts: list[bytes] = []
        left = size
        try:
            # Nothing is close_notify.
            while left > 0 and (part := self._tls.read(left)):
                parts.append(part)
                left -= len(part)
        except ssl.SSLWantReadError:
            if not parts:
                return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass  # it is raised again when there is nothing else
        except ssl.SSLError as error:
            self._broken = self._broken or error
        if self._broken is not None and not parts:
            raise self._broken
        return b"".join(parts)

    def _fill(self) -> None:
        data = self.below.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def shutdown_write(self) -> None:
        # The first call sends close_notify. Reading the other side's close_notify, which would
        # complete the closing, is left to recv.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.shutdown_write()
        super().close()
