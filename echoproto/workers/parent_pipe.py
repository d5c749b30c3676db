"""A worker's pipe to its parent, which never makes the worker wait.

A parent that is stopped (SIGSTOP, a debugger) reads nothing. Its workers go on serving:
what they report is buffered up to 64 KiB. Beyond that reports are skipped and log lines
are counted instead of sent, until the parent reads again. What a limit needs is always
kept: a worker has at most a few such messages for each connection.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.fdesc import writeToFD
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

# Seconds for the last messages of a worker that ends.
_CLOSE_TIMEOUT = 1.0


@implementer(IPushProducer)
class ParentPipe(FileDescriptor):
    """Writes messages to the parent.

    :ivar full: whether the parent has not read for a while.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        """Begin to write.

        :param reactor: an ``IReactorFDSet`` and ``IReactorTime``.
        :param descriptor: the pipe's.
        """
        super().__init__(reactor)
        self._clock: IReactorTime = reactor
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._closed: Deferred[None] = Deferred()
        self.full = False
        self.connected = True
        # The producer's calls tell when the buffer is full, and when it is empty again.
        self.registerProducer(self, True)

    def fileno(self) -> int:
        """Return the pipe's descriptor."""
        return self._descriptor

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802
        """Write what the pipe takes; see ``FileDescriptor``."""
        return writeToFD(self._descriptor, data)

    def pauseProducing(self) -> None:
        """Note that the buffer is full."""
        self.full = True

    def resumeProducing(self) -> None:
        """Note that the buffer is empty."""
        self.full = False

    def stopProducing(self) -> None:
        """Do nothing: the pipe is closed."""

    def close(self) -> Deferred[None]:
        """Write what is buffered, and close.

        :returns: a Deferred that fires when that is done, after
            :data:`_CLOSE_TIMEOUT` at the latest; it never fails.
        """
        if self.connected:
            self.unregisterProducer()
            self.loseConnection()
            self._closed.addTimeout(_CLOSE_TIMEOUT, self._clock, lambda *_: None)
        return self._closed

    def connectionLost(self, reason: Failure) -> None:
        """Handle the end: everything is written, or the parent is gone."""
        super().connectionLost(reason)
        if not self._closed.called:
            self._closed.callback(None)
