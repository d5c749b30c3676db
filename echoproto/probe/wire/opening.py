"""Opens one connection as a state machine that never blocks: connect, then all handshakes."""

from __future__ import annotations

import errno
import math
import select
import socket
import ssl
import time

from echoproto.probe.wire.channel import Channel, HandshakeError
from echoproto.probe.wire.connector import Connector, LocalError
from echoproto.probe.wire.reasons import is_abort, reason, tls_reason

__all__ = ["Opening", "open_now"]

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
        number: of the connection, from 1; 0 before.
        channel: the usable channel once :attr:`done`, unless it failed.
        error: why it failed; empty if it did not.
        aborted: whether it failed because the other side had accepted the connection, and then
            aborted it.
    """

    def __init__(self, connector: Connector, timeout: float) -> None:
        self.fd = -1
        self.number = 0
        self.channel: Channel | None = None
        self.error = ""
        self.aborted = False
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
        self.number = self._connector.opened
        self._deadline = now + self._timeout
        self._connect(sock, now)

    def mask(self) -> int:
        """Return the poll events to wait for; 0 for none."""
        if self._unready is not None:
            return select.POLLIN | (select.POLLOUT if self._unready.wants_write else 0)
        return 0 if self._retry_at else select.POLLOUT

    def wake(self) -> float:
        """Return when to call :meth:`advance` if there is no event before."""
        if self._unready is not None:
            return min(self._unready.wake(), self._deadline)
        return self._retry_at or self._deadline

    def on_ready(self) -> None:
        """Handle an event of the socket."""
        if self._sock is not None and self._unready is None:
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._failed(OSError(error, ""))
            else:
                self._connected(self._sock)

    def advance(self, now: float) -> None:
        """Do what can be done now: retry, continue the handshake, or give up."""
        if now >= self._deadline:
            self._timed_out()
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
            self._failed(OSError(error, ""))

    def _connected(self, sock: socket.socket) -> None:
        try:
            self._unready = self._connector.channel(sock)
        except OSError as error:
            self._failed(error)
            return
        self._handshake(self._unready)

    def _handshake(self, channel: Channel) -> None:
        try:
            if channel.handshake():
                self.channel = channel
        except HandshakeError as error:
            self.error = f"no connection: {error}"
        except ssl.SSLError as error:
            self.error = f"no TLS: {tls_reason(error)}"
        except OSError as error:
            what = "no connection" if self._connector.context is None else "no TLS"
            self.error = f"{what}: {reason(error)}"

    def _timed_out(self) -> None:
        stuck = self._unready.stuck() if self._unready is not None else ""
        if stuck:
            self.error = f"no connection: {stuck}: no answer in {self._timeout:g} s"
        else:
            self._failed(OSError(errno.ETIMEDOUT, ""))

    def _failed(self, error: OSError) -> None:
        if error.errno in _LOCAL:
            raise LocalError(f"out of resources: {reason(error)}")
        if not is_abort(error):
            self.error = f"no connection: {reason(error, self._timeout)}"
        elif self._connector.context is not None:
            # The same RST may also come when the handshake has begun, and is no other fault then.
            self.error = f"no TLS: {reason(error)}"
        else:
            self.error = reason(error)
            self.aborted = True


def open_now(connector: Connector, timeout: float, until: float = math.inf) -> Opening:
    """Open one connection, and wait for it.

    Args:
        connector: where to connect.
        timeout: seconds for everything.
        until: when to give up without an error, in ``time.monotonic`` seconds.

    Returns:
        the opening, with a channel, an error, or neither of them at ``until``.

    Raises:
        LocalError: if this machine is out of ports, descriptors or memory.
    """
    opening = Opening(connector, timeout)
    try:
        opening.start(time.monotonic(), slow=False)
        while not opening.done and (now := time.monotonic()) < until:
            poll = select.poll()
            if mask := opening.mask():
                poll.register(opening.fd, mask)
            wait = max(0.0, min(opening.wake(), until) - now)
            if poll.poll(math.ceil(wait * 1000)):
                opening.on_ready()
            if not opening.done:
                opening.advance(time.monotonic())
    finally:
        if opening.channel is None:
            opening.drop()
    return opening
