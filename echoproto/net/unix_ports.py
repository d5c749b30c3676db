"""UNIX ports: their sockets may be shared with other processes, their files may outlive them.

Twisted's own lock (``twisted.python.lockfile``) names a process id, which is another
process's after a while. Its port removes the file that is at its path when it stops, even
if that is another server's. It treats an adopted socket as its own: it makes the file
writable by all, cuts the accept queue to 50, calls ``shutdown(2)`` at the end, which ends
the socket for all processes that have it, and removes the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import sys
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.net.endpoint_strings import EndpointString

_log = Logger(namespace="echoproto")

_SERVED = BlockingIOError(errno.EWOULDBLOCK, "a running server listens on it")


def unix_name(address: str) -> str:
    """Return the name of a UNIX socket as the kernel takes it.

    :param address: a path; or, on Linux, ``@`` and a name in the abstract namespace
        (``unix(7)``), which has no file.
    :raises ValueError: if it is empty.
    """
    name = f"\0{address[1:]}" if _is_abstract(address) else address
    if name in ("", "\0"):
        raise ValueError("no path")
    return name


def check_mode(parsed: EndpointString) -> None:
    """Check the access mode of an endpoint string, if it has one.

    :param parsed: a string of the kind ``unix``.
    :raises ValueError: if ``chmod(2)`` would refuse it, or if it would protect nothing.
    """
    address, mode, *_ = (*parsed.unnamed, None, None)
    address = parsed.named.get("address", address) or ""
    mode = parsed.named.get("mode", mode)
    if mode is None:
        return
    if not re.fullmatch("(0o?)?[0-7]{1,3}", mode):
        raise ValueError(f"mode={mode}: not an octal number from 0 to 777")
    if _is_abstract(address):
        raise ValueError("mode=: an abstract socket has no file, and is open to every user")


def _is_abstract(address: str) -> bool:
    return address.startswith("@") and sys.platform.startswith("linux")


class _Port(unix.Port):
    """Serves a socket that is bound already."""

    def _serve(self, sock: socket.socket) -> None:
        # Twisted's spare descriptor, with which it accepts and closes connections when no
        # other is left. Only its own startListening reserves it; it has no public name.
        tcp._reservedFD.reserve()  # noqa: SLF001
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()


class UNIXPort(_Port):
    """A UNIX port that removes what a killed server left at its path, and only its own file.

    It never takes the path of a server that runs.
    """

    def __init__(
        self,
        name: str,
        factory: IProtocolFactory,
        backlog: int,
        mode: int,
        reactor: Any,
        lock: bool,
    ) -> None:
        """Describe a port.

        :param name: as :func:`unix_name` returns it.
        :param factory: for the connections.
        :param backlog: length of the accept queue, in connections.
        :param mode: of the file.
        :param reactor: an ``IReactorFDSet``.
        :param lock: keep servers that start at the same moment apart, by a lock beside
            the file. The kernel releases it when the process ends.
        """
        super().__init__(name, factory, backlog, mode, reactor)  # type: ignore[arg-type]
        self._name = name
        # The file's device and inode, which no other file has as long as the socket is open.
        self._identity: tuple[int, int] | None = None
        self._has_file = not name.startswith("\0")
        self._lock = _Lock(f"{name}.lock", name) if lock and self._has_file else None

    def startListening(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: if that fails.
        """
        try:
            if self._lock is not None:
                self._lock.take()
            if self._has_file:
                _remove_stale(self._name)
            self._serve(self._bind())
        except OSError as error:
            if self._lock is not None:
                self._lock.release()
            raise CannotListenError(None, self._name, error) from error

    def _bind(self) -> socket.socket:
        sock: socket.socket = self.createInternetSocket()
        try:
            try:
                sock.bind(self._name)
            except OSError as error:
                in_use = error.errno == errno.EADDRINUSE and not self._has_file
                raise (_SERVED if in_use else error) from None
            if self._has_file:
                self._identity = _identity(self._name)
                os.chmod(self._name, self.mode)
            sock.listen(self.backlog)
        except BaseException:
            self._remove_file()
            sock.close()
            raise
        return sock

    def give_to(self, user: int, group: int) -> None:
        """Give the file and the lock to the user that serves from now on and removes them.

        :param user: the user id, or -1 for no change.
        :param group: the group id, or -1 for no change.
        :raises OSError: if that is not permitted.
        """
        if self._identity is not None:
            os.chown(self._name, user, group, follow_symlinks=False)
        if self._lock is not None:
            self._lock.give_to(user, group)

    def connectionLost(self, reason: Failure) -> None:
        """Remove the file, if it is still this port's, and close the socket."""
        # The inode's number is free for others as soon as the socket is closed.
        self._remove_file()
        try:
            tcp.Port.connectionLost(self, reason)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _remove_file(self) -> None:
        identity, self._identity = self._identity, None
        if identity is None:
            return
        try:
            if _identity(self._name) == identity:
                os.unlink(self._name)
                return
            why: str | None = "it is another's now"
        except OSError as error:
            why = error.strerror
        _log.warn("cannot remove {path}: {why}", path=self._name, why=why)


class InheritedUNIXPort(_Port):
    """A UNIX port whose socket was opened by another process, which goes on using it."""

    def __init__(self, inherited: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        """Describe a port.

        :param inherited: a listening socket, which the port closes in the end.
        :param factory: for the connections.
        :param reactor: an ``IReactorFDSet``.
        """
        super().__init__(inherited.getsockname(), factory, reactor=reactor)
        # The length of its accept queue is unknown.
        self.backlog = None  # type: ignore[assignment]
        self._inherited = inherited

    def startListening(self) -> None:
        """Accept from the socket as it is."""
        # No shutdown(2) before close(2), as in share_socket.
        self._shouldShutdown = False
        self._serve(self._inherited)

    def connectionLost(self, reason: Failure) -> None:
        """Close this descriptor of the socket; leave the file."""
        tcp.Port.connectionLost(self, reason)


class _Lock:
    """A lock file beside a socket, locked with ``flock(2)`` while the socket listens."""

    def __init__(self, path: str, socket_path: str) -> None:
        """Describe it; nothing is opened yet.

        :param path: of the lock.
        :param socket_path: of the socket.
        """
        self._path = path
        self._socket_path = socket_path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take it.

        :raises BlockingIOError: if another process has it.
        :raises OSError: if it cannot be created or locked.
        """
        while self._descriptor is None:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have removed it since it was opened.
                if _is_at(self._path, descriptor):
                    self._descriptor = descriptor
            except BlockingIOError:
                raise _SERVED from None
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    def give_to(self, user: int, group: int) -> None:
        """See :meth:`UNIXPort.give_to`."""
        if self._descriptor is not None:
            os.fchown(self._descriptor, user, group)

    def release(self) -> None:
        """Remove it if possible, and release it; without effect if it is not taken."""
        if self._descriptor is not None:
            # Where this user may not remove it, it stays. The next start takes it over.
            with contextlib.suppress(OSError):
                if _is_at(self._path, self._descriptor):
                    os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            with contextlib.suppress(FileExistsError):
                return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o600)
            try:
                return os.open(self._path, os.O_RDONLY | flags)
            except FileNotFoundError:
                continue
            except OSError as error:
                # A lock of Twisted's, which is a symbolic link; or a lock that a server of
                # another user left.
                if error.errno not in (errno.ELOOP, errno.EACCES):
                    raise
                _remove_stale(self._socket_path)
                os.unlink(self._path)


def _remove_stale(path: str) -> None:
    """Remove a socket that no process listens on any more, if there is one.

    :raises BlockingIOError: if a process does.
    :raises PermissionError: if this user may not try, or not remove it.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            # bind(2) will say that it exists.
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except PermissionError:
        raise
    except OSError:
        # The accept queue is full, for example.
        pass
    raise _SERVED


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return (found.st_dev, found.st_ino)


def _is_at(path: str, descriptor: int) -> bool:
    """Return whether a path names the file that is open."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
