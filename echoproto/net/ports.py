"""Listening ports, whose sockets may be shared with other processes."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from echoproto.net.unix_ports import InheritedUNIXPort, UNIXPort

# All addresses of IPv6 and of IPv4 (RFC 3493, 3.7 and 3.8).
ALL_ADDRESSES = "::"

# Twisted has it from 26.10 on; see listen_tcp.
_make_binding: Any = getattr(tcp, "makeBinding", None)


class TCPPort(tcp.Port):
    """A TCP port with a choice of socket options.

    Twisted has a function for two of them, ``makeBinding``, from 26.10 on, and none for
    ``IPV6_V6ONLY``.
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
        self._created: socket.socket | None = None

    def startListening(self) -> None:
        """Listen; if that fails, close the socket, which Twisted may not do.

        :raises twisted.internet.error.CannotListenError: if that fails.
        """
        try:
            super().startListening()
        except CannotListenError:
            if self._created is not None:
                self._created.close()
            raise

    def createInternetSocket(self) -> socket.socket:  # noqa: N802
        """Create the socket, and set the options, which count when it is bound."""
        sock: socket.socket = super().createInternetSocket()
        self._created = sock
        # Twisted sets this one itself.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, self._reuse_address_wanted)
        if self._reuse_port_wanted:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if self.interface == ALL_ADDRESSES:
            # IPv4 clients too, whatever net.ipv6.bindv6only says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return sock


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


def _is_ipv6_alone() -> bool:
    """Tell whether an IPv6 socket takes no IPv4 clients unless asked to.

    Linux decides by ``net.ipv6.bindv6only``; some BSDs never take any.
    """
    try:
        with socket.socket(socket.AF_INET6) as probe:
            return bool(probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    except OSError:
        # Without IPv6; the bind says so.
        return False


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
        ``tcp.makeBinding``, and for :data:`ALL_ADDRESSES` where IPv6 sockets take no IPv4
        clients, an ``IReactorFDSet`` too.
    :param address: IPv4 or IPv6; :data:`ALL_ADDRESSES` means those of IPv4 too.
    :param port: 0 for any free one.
    :param factory: for the connections.
    :param backlog: length of the accept queue, in connections.
    :param reuse_address: set ``SO_REUSEADDR`` (``socket(7)``).
    :param reuse_port: set ``SO_REUSEPORT`` (``socket(7)``).
    :raises twisted.internet.error.CannotListenError: if that fails.
    """
    binding: Any = port
    needs_own = address == ALL_ADDRESSES and _is_ipv6_alone()
    if _make_binding is not None:
        binding = _make_binding(address, port, reuseAddress=reuse_address, reusePort=reuse_port)
    elif reuse_port or not reuse_address:
        needs_own = True
    if needs_own:
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
