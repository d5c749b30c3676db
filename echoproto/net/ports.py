"""Listening ports whose socket outlives them, or that are outlived by their file.

Twisted adopts a UNIX socket as if it were its own: it makes the file writable to
all, cuts the accept queue to 50, and in the end calls ``shutdown(2)``, which ends
the socket for everybody who has it, and removes the file. And a UNIX port whose
file cannot be removed, since twistd has dropped its rights, stays half open.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.lockfile import FilesystemLock

_log = Logger(namespace="echoproto")


class UNIXPort(unix.Port):
    """A UNIX port that leaves no lock when it fails, and closes whatever becomes of its file."""

    def __init__(self, path: str, *args: Any, **named: Any) -> None:
        """Describe a port; see ``unix.Port``."""
        super().__init__(path, *args, **named)  # type: ignore[arg-type]
        self._path = path
        self._made: socket.socket | None = None

    def createInternetSocket(self) -> socket.socket:  # noqa: N802
        """Make the socket, and remember it: Twisted leaves one open that it cannot bind."""
        self._made = super().createInternetSocket()
        return self._made

    def startListening(self) -> None:
        """Listen at the path, from which a socket left by a killed server is removed.

        :raises twisted.internet.error.CannotListenError: when it cannot be had.
        """
        if self.wantPID:
            _remove_own_stale_lock(self._path)
        try:
            super().startListening()
        except CannotListenError:
            if self._made is not None:
                self._made.close()
            if self.lockFile is not None and self.lockFile.locked:
                self.lockFile.unlock()
            raise

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket, and remove its file if that can be."""
        try:
            super().connectionLost(reason)
        except OSError as error:
            if not self.connected:
                raise
            _log.warn(
                "cannot remove {path}: {why}; the next start does, with the right to",
                path=self._path,
                why=error.strerror,
            )
            if self.lockFile is not None:
                with contextlib.suppress(OSError):
                    self.lockFile.unlock()
            tcp.Port.connectionLost(self, reason)


class InheritedUNIXPort(unix.Port):
    """A UNIX port whose socket somebody else has opened, and goes on to use."""

    def __init__(self, inherited: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        """Describe a port.

        :param inherited: a listening socket, which is this port's from now on.
        :param factory: for what it will accept.
        :param reactor: an ``IReactorFDSet``.
        """
        super().__init__(inherited.getsockname(), factory, reactor=reactor)
        # Nobody knows how long its queue is.
        self.backlog = None  # type: ignore[assignment]
        self._inherited = inherited

    def startListening(self) -> None:
        """Accept from the socket as it is."""
        # What Twisted keeps for the moment when no descriptor is left, and
        # reserves in its own startListening alone.
        tcp._reservedFD.reserve()
        # Twisted has no public name for: no shutdown(2) before close(2).
        self._shouldShutdown = False
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket = self._inherited
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close our end alone; the file is not ours."""
        tcp.Port.connectionLost(self, reason)


def adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    """Listen on a socket that somebody else has opened.

    :param reactor: an ``IReactorSocket``.
    :param descriptor: the socket's, which is this function's from now on: it is the
        port's, or closed.
    :param factory: for what will be accepted.
    :returns: a port that leaves the socket, its queue and its file as they are.
    :raises OSError: when that is not an open descriptor, or not that of a socket.
    :raises ValueError: when it is not a listening stream socket.
    """
    inherited = socket.socket(fileno=descriptor)
    try:
        if inherited.type != socket.SOCK_STREAM or not inherited.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise ValueError("not a listening stream socket")
        inherited.setblocking(False)
        if inherited.family != getattr(socket, "AF_UNIX", None):
            port: IListeningPort = reactor.adoptStreamPort(
                inherited.fileno(), inherited.family, factory
            )
            inherited.close()
            return port
        unix_port = InheritedUNIXPort(inherited, factory, reactor)
        unix_port.startListening()
        return unix_port
    except BaseException:
        inherited.close()
        raise


def _remove_own_stale_lock(path: str) -> None:
    """Remove the lock of a killed server that had the number of this process.

    In a container that is the rule: its first process is number 1 each time.
    Twisted takes such a lock for one that is held.
    """
    lock = f"{path}.lock"
    with contextlib.suppress(OSError):
        if os.readlink(lock) == str(os.getpid()) and not _somebody_listens(path):
            FilesystemLock(lock).unlock()
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its queue is full, or the like.
            return True
        return True
