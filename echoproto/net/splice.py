"""Bulk goes from a socket into a pipe and back: its bytes never enter the process.

One pipe serves all connections of a lane, since it is empty after every step: what the kernel
does not take back at once is read out of it, and queued as after any write. So no connection
keeps a pipe, nothing else has to know of bytes in one, and two descriptors are all that it costs.

Where :meth:`SplicePipe.echo` takes nothing, ``read(2)`` tells why: nothing has come, the input has
ended, or the next byte is urgent, which ``splice(2)`` cannot tell from the end.

Source: ``splice(2)``, ``pipe(7)`` and ``fcntl(2)``, on ``F_SETPIPE_SZ``.
"""

from __future__ import annotations

import contextlib
import errno
import os

try:
    import fcntl
except ImportError:
    # A platform without it has no splice(2) either.
    fcntl = None  # type: ignore[assignment]

# The size of the pipe, in bytes. A pipe holds one piece of a packet for each 4 KiB of it, and a
# packet from a network card often has pieces of 1.5 KiB. Beyond the user's share (pipe(7)) it
# keeps its 64 KiB, and less is taken at once.
PIPE_SIZE = 1024 * 1024

# A kernel or a sandbox without splice(2) for sockets.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EPERM)


class SplicePipe:
    """Returns bytes to the socket that they came from, without copying them.

    :ivar used: whether bytes went through since this was last set to False.
    """

    def __init__(self) -> None:
        """Open a pipe; without ``splice(2)``, or if no descriptor is left, nothing is taken."""
        self._out = self._into = -1
        self.used = False
        if not hasattr(os, "splice"):
            return
        with contextlib.suppress(OSError):
            self._out, self._into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    @property
    def is_open(self) -> bool:
        """Whether bytes can go through it."""
        return self._into != -1

    def echo(self, fd: int, size: int) -> tuple[int, bytes]:
        """Return what a socket has received to its peer.

        :param fd: of the socket, which does not block.
        :param size: how much to take at most, in bytes.
        :returns: how many bytes were taken; 0 if ``read(2)`` has to be asked, and -1 if the
            connection is broken, which the kernel reports only once. And those of them that
            the kernel did not take back, which are still to be sent.
        """
        into = self._into
        if into < 0:
            return 0, b""
        try:
            try:
                taken = os.splice(fd, into, size)
            except OSError as failed:
                return self._failed(failed), b""
            try:
                sent = os.splice(self._out, fd, taken) if taken else 0
            except OSError:
                # The buffer is full, or the connection is broken: the next write(2) tells which.
                sent = 0
            self.used = True
            return taken, b"" if sent == taken else os.read(self._out, taken - sent)
        except BaseException:
            # What is left in it would go to another connection.
            self.close()
            raise

    def close(self) -> None:
        """Close the pipe; from then on nothing is taken. Without effect if it is closed."""
        if self.is_open:
            os.close(self._into)
            os.close(self._out)
            self._into = self._out = -1

    def _failed(self, failed: OSError) -> int:
        """Return whether ``read(2)`` has to be asked (0), or the connection is broken (-1)."""
        if failed.errno in _UNSUPPORTED:
            self.close()
        elif not isinstance(failed, BlockingIOError):
            return -1
        return 0
