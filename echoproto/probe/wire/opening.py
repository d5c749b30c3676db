"""Opens one connection as a state machine that never blocks: connect, then the TLS handshake."""

from __future__ import annotations

import errno
import select
import socket
import ssl

from echoproto.probe.wire.channel import Channel, Connector, LocalError
from echoproto.probe.wire.reasons import reason, tls_reason

__all__ = ["Opening"]

# A UNIX socket's full accept queue reports no event when it has space again, so connect is
# retried, this many seconds apart.
_UNIX_RETRY = 0.002
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Opening:
    """One connection on its way to being usable.

    Times are those of ``time.monotonic``, in seconds.

    Args:
        connector: where to connect.
        timeout: seconds for everything.

    Attributes:
        fd: the socket's descriptor, once :meth:`start` was called.
        channel: the usable channel once :attr:`done`, unless it failed.
        error: why it failed; empty if it did not.
    """

    def __init__(self, connector: Connector, timeout: float) -> None:
        self.fd = -1
        self.channel: Channel | None = None
        self.error = ""
        self._connector = connector
        self._timeout = timeout
        self._deadline = 0.0
        self._retry_at = 0.0
        self._sock: socket.socket | None = None
        self._unready: Channel | None = None  # connected, and in its handshake

    @property
    def done(self) -> bool:
        """Whether there is a channel or an error."""
        return self.channel is not None or bool(self.error)

    def start(self, now: float, slow: bool) -> None:
        """Begin to connect.

        Args:
            now: the time.
            slow: as for :meth:`Connector.new_socket`.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory; the other
                methods raise it too.
        """
        sock = self._sock = self._connector.new_socket(slow)
        self.fd = sock.fileno()
        self._deadline = now + self._timeout
        self._connect(sock, now)

    def mask(self) -> int:
        """Return the poll events to wait for; 0 for none."""
        if self._unready is not None:
            return select.POLLIN | (select.POLLOUT if self._unready.wants_write else 0)
        return 0 if self._retry_at else select.POLLOUT

    def wake(self) -> float:
        """Return when to call :meth:`advance` if there is no event before."""
        return self._retry_at or self._deadline

    def on_ready(self) -> None:
        """Handle an event of the socket."""
        if self._sock is not None and self._unready is None:
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._refused(OSError(error, ""))
            else:
                self._connected(self._sock)

    def advance(self, now: float) -> None:
        """Do what can be done now: retry, continue the handshake, or give up."""
        if now >= self._deadline:
            self._refused(OSError(errno.ETIMEDOUT, ""))
        elif self._unready is not None:
            self._handshake(self._unready)
        elif self._sock is not None and self._retry_at and now >= self._retry_at:
            self._connect(self._sock, now)

    def close(self) -> None:
        """Close an unfinished connection in the normal way."""
        if self._unready is not None:
            self._unready.close()
        elif self._sock is not None:
            self._sock.close()

    def drop(self) -> None:
        """Release the socket, whatever its state."""
        if self._sock is not None:
            self._sock.close()

    def _connect(self, sock: socket.socket, now: float) -> None:
        error = self._connector.connect(sock)
        self._retry_at = 0.0
        if error == 0:
            self._connected(sock)
        elif error == errno.EAGAIN:
            self._retry_at = now + _UNIX_RETRY
        elif error != errno.EINPROGRESS:
            self._refused(OSError(error, ""))

    def _connected(self, sock: socket.socket) -> None:
        try:
            self._unready = self._connector.channel(sock)
        except OSError as error:
            self._refused(error)
            return
        self._handshake(self._unready)

    def _handshake(self, channel: Channel) -> None:
        try:
            if channel.handshake():
                self.channel = channel
        except ssl.SSLError as error:
            self.error = f"no TLS: {tls_reason(error)}"
        except OSError as error:
            self.error = f"no TLS: {reason(error)}"

    def _refused(self, error: OSError) -> None:
        if error.errno in _LOCAL:
            raise LocalError(f"out of resources: {reason(error)}")
        self.error = f"no connection: {reason(error, self._timeout)}"
