"""The TCP listener of ``--port``, ``--interface``, ``--backlog`` and ``--reuse-address``."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from echoproto.net import listen_queue
from echoproto.net.ports import ALL_ADDRESSES, listen_tcp

_log = Logger(namespace="echoproto")

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def clamped(backlog: int) -> int:
    """Return the backlog to ask the kernel for, and warn if it is less than requested.

    :param backlog: the requested one, in connections.
    """
    limits = listen_queue.read_limits()
    warning = listen_queue.clamp_warning(backlog, limits)
    if warning is not None:
        _log.warn("{warning}", warning=warning, event="backlog_clamped")
    # If no limit is known, listen(2) still takes no more than an int.
    return min(listen_queue.clamp_backlog(backlog, limits), listen_queue.INT_MAX)


def _has_ipv6() -> bool:
    """Tell whether this kernel has IPv6 sockets; it may be switched off at boot."""
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True


@implementer(IStreamServerEndpoint)
class TCPEndpoint:
    """A TCP listener that clamps its backlog, and logs a warning when it does.

    It adds to Twisted's own TCP endpoints: an interface given by name, for IPv4 and IPv6
    alike; the clamp of the backlog; and the choice of ``SO_REUSEADDR`` and
    ``SO_REUSEPORT``.

    :ivar port: the port number that was asked for.
    :ivar interface: the interface that was asked for.
    :ivar backlog: the length of the accept queue that was asked for.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        interface: str = "127.0.0.1",
        *,
        backlog: int = 1024,
        reuse_address: bool = True,
        reuse_port: bool = False,
    ) -> None:
        """Describe a listener; nothing is opened yet.

        :param reactor: an ``IReactorTCP``; see :func:`echoproto.net.ports.listen_tcp`.
        :param port: 0 to 65535; 0 takes a free one.
        :param interface: an IPv4 or IPv6 address, ``::`` or ``*`` for all of both, or a
            host name, whose first IPv4 address, or else first IPv6 address, is taken. The
            log says which, if it has several.
        :param backlog: length of the accept queue, in connections.
        :param reuse_address: set ``SO_REUSEADDR`` (``socket(7)``): bind even if old
            connections of this port are in TIME_WAIT.
        :param reuse_port: set ``SO_REUSEPORT`` (``socket(7)``): share the port with
            other processes of this user that set it too.
        """
        self._reactor = reactor
        self.port = port
        self.interface = interface
        self.backlog = backlog
        self._reuse_address = reuse_address
        self._reuse_port = reuse_port

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen; the Deferred has fired when this returns.

        :returns: a Deferred of the port; or of a failure with
            :class:`twisted.internet.error.CannotListenError`, whose
            ``socketError`` says why.
        """
        return maybeDeferred(self.open, protocolFactory)

    def open(self, factory: IProtocolFactory) -> IListeningPort:
        """Listen, and return the port.

        :raises twisted.internet.error.CannotListenError: as with :meth:`listen`.
        """
        return self._open(factory, self._resolve(), clamped(self.backlog), self._reuse_port)

    def listen_many(self, factory: IProtocolFactory, count: int) -> list[IListeningPort]:
        """Open several sockets on one port, among which the kernel distributes the clients.

        They share it by ``SO_REUSEPORT``. Unless that was asked for, no other process may
        use the port.

        :param factory: for the connections of all sockets.
        :param count: the number of sockets.
        :raises twisted.internet.error.CannotListenError: as with :meth:`listen`.
        """
        address = self._resolve()
        backlog = clamped(self.backlog)
        if not self._reuse_port:
            self._check_free(address)
        ports = [self._open(factory, address, backlog, reuse_port=True)]
        # With port 0, the first socket chooses the number.
        chosen = ports[0].getHost().port  # type: ignore[attr-defined]
        while len(ports) < count:
            ports.append(self._open(factory, address, backlog, reuse_port=True, port=chosen))
        return ports

    def _open(
        self,
        factory: IProtocolFactory,
        address: str,
        backlog: int,
        reuse_port: bool,
        port: int | None = None,
    ) -> IListeningPort:
        return listen_tcp(
            self._reactor,
            address,
            self.port if port is None else port,
            factory,
            backlog,
            self._reuse_address,
            reuse_port,
        )

    def _check_free(self, address: str) -> None:
        """Raise if another process uses the port, which SO_REUSEPORT alone would share."""
        # With the scope of a link-local address.
        family, _, _, _, sockaddr = socket.getaddrinfo(
            address, self.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family) as probe:
            if self._reuse_address:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address == ALL_ADDRESSES:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(sockaddr)
            except OSError as error:
                raise CannotListenError(address, self.port, error) from error

    def _resolve(self) -> str:
        """Return the one address to bind."""
        try:
            if not self.interface:
                raise ValueError("it is empty")
            if self.interface == "*":
                # glibc resolves it to loopback.
                return ALL_ADDRESSES if _has_ipv6() else "0.0.0.0"
            found = socket.getaddrinfo(self.interface, self.port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            # ValueError: a NUL byte, or a label that IDNA does not allow.
            raise CannotListenError(self.interface, self.port, error) from error
        found.sort(key=lambda each: each[0] != socket.AF_INET)
        family, _, _, _, (host, _, *more) = found[0]
        others = list(dict.fromkeys(str(each[4][0]) for each in found))[1:]
        if others:
            _log.info(
                "{name} is {taken}, and also {others}: listening on the first",
                name=self.interface,
                taken=host,
                others=", ".join(others),
                event="address_chosen",
            )
        address = ipaddress.ip_address(str(host))
        if address.is_multicast or address == _BROADCAST:
            # Linux binds these, and then no client can connect.
            why = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            raise CannotListenError(self.interface, self.port, why)
        if family == socket.AF_INET6 and more[1] and "%" not in str(host):
            # A link-local address is ambiguous without its interface (RFC 4007).
            return f"{host}%{more[1]}"
        return str(host)
