"""The transports of UNIX connections, in the epoll lane and outside of it.

A client may pass descriptors with its bytes (``unix(7)``); they are not wanted here.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error, main, unix
from twisted.internet.interfaces import IFileDescriptorReceiver

from echoproto.net import passed_descriptors
from echoproto.net.direct_writes import DirectWriteMixin


class _NoDescriptorsMixin:
    """Reads bytes, and lets the kernel close the descriptors that a client passes with them.

    Mixed into a ``unix.Server``. Twisted's own receives the descriptors, closes them, and logs
    a line for each message. Here they never arrive: without room for them the kernel drops
    them (``MSG_CTRUNC`` in ``recvmsg(2)``).
    """

    socket: socket.socket
    protocol: Any
    bufferSize: int

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # A protocol of an application's own may have a use for them.
        self._wanted = IFileDescriptorReceiver.providedBy(self.protocol)

    def doRead(self) -> error.ConnectionLost | error.ConnectionDone | None:
        """Read once, and pass the bytes to the protocol."""
        if self._wanted:
            return super().doRead()  # type: ignore[misc, no-any-return]
        try:
            data, _, flags, _ = self.socket.recvmsg(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if flags & socket.MSG_CTRUNC:
            passed_descriptors.count()
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None


class StockUNIXTransport(_NoDescriptorsMixin, unix.Server):  # type: ignore[misc]
    """Twisted's own transport for UNIX connections, outside the lane."""


class UNIXTransport(DirectWriteMixin, _NoDescriptorsMixin, unix.Server):  # type: ignore[misc]
    """A UNIX connection in the lane."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        super().__init__(sock, *args)
        self._fd = sock.fileno()
        self._ready = True

    def sendFileDescriptor(self, fileno: int) -> None:
        """Queue a descriptor, and with it the bytes that accompany it."""
        self._ready = False
        super().sendFileDescriptor(fileno)

    def writeSomeData(self, data: bytes) -> Any:
        """Send bytes; descriptors without an accompanying byte are an error."""
        return unix.Server.writeSomeData(self, data)

    def _nothing_queued(self) -> bool:
        return super()._nothing_queued() and not self._sendmsgQueue
