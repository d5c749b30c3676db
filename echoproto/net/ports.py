"""Listening ports: their sockets may be shared with other processes, their files may outlive them.

Twisted treats an adopted UNIX socket as its own. It makes the file writable by all, cuts
the accept queue to 50, calls ``shutdown(2)`` at the end, which ends the socket for all
processes that have it, and removes the file. And a UNIX port whose file cannot be
removed, because twistd has dropped its privileges, stays half open.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.lockfile import FilesystemLock

_log = Logger(namespace="echoproto")

# Twisted has it from 26.10 on; see listen_tcp.
_make_binding: Any = getattr(tcp, "makeBinding", None)


class _ClosesOnFailure:
    """Mixed into a port: closes the socket if it cannot be bound, which Twisted may not do."""

    _created: socket.socket | None = None

    def createInternetSocket(self) -> socket.socket:  # noqa: N802
        """Create the socket, and remember it."""
        self._created = super().createInternetSocket()  # type: ignore[misc]
        assert self._created is not None
        return self._created

    def startListening(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: if that fails.
        """
        try:
            super().startListening()  # type: ignore[misc]
        except CannotListenError:
            if self._created is not None:
                self._created.close()
            raise


class TCPPort(_ClosesOnFailure, tcp.Port):
    """A TCP port with a choice of socket options, for a Twisted without ``makeBinding``.

    That function came with Twisted 26.10.
    """

    def __init__(
        self,
        port: int,
        factory: IProtocolFactory,
        backlog: int,
        interface: str,
        reactor: Any,
        reuse_address: bool,
        reuse_port: bool,
    ) -> None:
        """Describe a port; see ``tcp.Port`` for the first five.

        :param reuse_address: set ``SO_REUSEADDR`` (``socket(7)``).
        :param reuse_port: set ``SO_REUSEPORT`` (``socket(7)``).
        """
        super().__init__(port, factory, backlog, interface, reactor)
        self._reuse_address_wanted = reuse_address
        self._reuse_port_wanted = reuse_port

    def createInternetSocket(self) -> socket.socket:  # noqa: N802
        """Create the socket, and set the options, which count when it is bound."""
        sock = super().createInternetSocket()
        # Twisted sets this one itself.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, self._reuse_address_wanted)
        if self._reuse_port_wanted:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return sock


class UNIXPort(_ClosesOnFailure, unix.Port):
    """A UNIX port that removes its lock when it fails, and closes even if its file stays."""

    def __init__(self, path: str, *args: Any, **named: Any) -> None:
        """Describe a port; the arguments are those of ``unix.Port``."""
        super().__init__(path, *args, **named)  # type: ignore[arg-type]
        self._path = path

    def startListening(self) -> None:
        """Listen at the path, after removing a socket that a killed server left there.

        :raises twisted.internet.error.CannotListenError: if that fails.
        """
        if self.wantPID:
            _remove_own_stale_lock(self._path)
        try:
            super().startListening()
        except CannotListenError:
            if self.lockFile is not None and self.lockFile.locked:
                self.lockFile.unlock()
            raise

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket, and remove its file if possible."""
        try:
            super().connectionLost(reason)
        except OSError as error:
            if not self.connected:
                raise
            _log.warn(
                "cannot remove {path}: {why}; the next start removes it, if it may",
                path=self._path,
                why=error.strerror,
            )
            if self.lockFile is not None:
                with contextlib.suppress(OSError):
                    self.lockFile.unlock()
            tcp.Port.connectionLost(self, reason)


class InheritedUNIXPort(unix.Port):
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
        # Twisted's spare descriptor, with which it accepts and closes connections when no
        # other is left. Only its own startListening reserves it; it has no public name.
        tcp._reservedFD.reserve()  # noqa: SLF001
        # No shutdown(2) before close(2), as in share_socket.
        self._shouldShutdown = False
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket = self._inherited
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close this descriptor of the socket; leave the file."""
        tcp.Port.connectionLost(self, reason)


# The classes of ports that create their transports as Twisted's own do. Exact classes: a
# port of a derived class may depend on its transport.
TCP_PORTS = (tcp.Port, TCPPort)
UNIX_PORTS = (unix.Port, UNIXPort, InheritedUNIXPort)


def adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    """Listen on a socket that another process has opened.

    :param reactor: an ``IReactorSocket``.
    :param descriptor: of the socket. This function owns it: the port closes it, or it is
        closed here.
    :param factory: for the connections.
    :returns: a port that leaves the socket, its queue and its file as they are.
    :raises OSError: if this is not an open descriptor, or not one of a socket.
    :raises ValueError: if it is not a listening stream socket.
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


def listen_tcp(
    reactor: Any,
    address: str,
    port: int,
    factory: IProtocolFactory,
    backlog: int,
    reuse_address: bool,
    reuse_port: bool,
) -> IListeningPort:
    """Listen on a TCP port with a choice of socket options.

    :param reactor: an ``IReactorTCP``; with a Twisted before 26.10, which lacks
        ``tcp.makeBinding``, an ``IReactorFDSet`` too.
    :param address: IPv4 or IPv6.
    :param port: 0 for any free one.
    :param factory: for the connections.
    :param backlog: length of the accept queue, in connections.
    :param reuse_address: set ``SO_REUSEADDR`` (``socket(7)``).
    :param reuse_port: set ``SO_REUSEPORT`` (``socket(7)``).
    :raises twisted.internet.error.CannotListenError: if that fails.
    """
    binding: Any = port
    if _make_binding is not None:
        binding = _make_binding(address, port, reuseAddress=reuse_address, reusePort=reuse_port)
    elif reuse_port or not reuse_address:
        own = TCPPort(port, factory, backlog, address, reactor, reuse_address, reuse_port)
        own.startListening()
        return own
    # A number alone means SO_REUSEADDR alone.
    opened: IListeningPort = reactor.listenTCP(binding, factory, backlog=backlog, interface=address)
    return opened


class NotListeningError(RuntimeError):
    """An endpoint's ``listen`` did not finish at once."""


def listen_now(endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> IListeningPort:
    """Listen, and return the port.

    :param endpoint: where to listen.
    :param factory: for the connections.
    :raises NotListeningError: if the endpoint takes its time; it is told to stop.
    :raises Exception: the error that the endpoint's ``listen`` failed with.
    """
    outcome: list[Any] = []
    listening = maybeDeferred(endpoint.listen, factory)
    listening.addBoth(outcome.append)
    if not outcome:
        listening.cancel()
        raise NotListeningError("does not listen at once")
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    port: IListeningPort = outcome[0]
    return port


def share_socket(port: IListeningPort) -> None:
    """Leave a port's socket to other processes, which inherit it and accept from it.

    :param port: a result of an endpoint's ``listen``. It accepts nothing from now on. When
        it closes, the other processes keep the socket, and the clients in its accept
        queue are not reset.
    """
    # Any: no interface has what Twisted's own ports have.
    shared: Any = port
    shared.stopReading()
    # Twisted calls shutdown(2) before it closes a socket, unless it has adopted it. That
    # ends the socket for all processes. There is no public name for it.
    shared._shouldShutdown = False  # noqa: SLF001


def _remove_own_stale_lock(path: str) -> None:
    """Remove the lock of a killed server that had the process id of this one.

    In a container this is the rule: its first process always has the id 1. Twisted
    considers such a lock as held.
    """
    lock = f"{path}.lock"
    with contextlib.suppress(OSError):
        if os.readlink(lock) == str(os.getpid()) and not _is_served(path):
            FilesystemLock(lock).unlock()
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its accept queue is full, for example.
            return True
        return True
