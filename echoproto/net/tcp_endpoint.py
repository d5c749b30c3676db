"""Where ``--port``, ``--interface``, ``--backlog`` and ``--reuse-address`` become a socket."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.tcp import makeBinding
from twisted.logger import Logger
from zope.interface import implementer

from echoproto.net import listen_queue

_log = Logger(namespace="echoproto")

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def clamped(backlog: int) -> int:
    """Return the backlog to ask the kernel for; warn if that is not the one that is wished for.

    :param backlog: the wish, in connections.
    """
    limits = listen_queue.read_limits()
    warning = listen_queue.clamp_warning(backlog, limits)
    if warning is not None:
        _log.warn("{warning}", warning=warning)
    # Where no limit is known, listen(2) takes no more than an int all the same.
    return min(listen_queue.clamp_backlog(backlog, limits), listen_queue.INT_MAX)


@implementer(IStreamServerEndpoint)
class TCPEndpoint:
    """A TCP listener with a backlog clamped in the open.

    What it adds to Twisted's own TCP endpoints: an interface given by name,
    IPv4 and IPv6 alike; the clamp, and a warning when it bites; and the choice
    of ``SO_REUSEADDR``.

    :ivar backlog: the length of the accept queue that was asked for.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        interface: str = "127.0.0.1",
        backlog: int = 1024,
        reuse_address: bool = True,
        reuse_port: bool = False,
    ) -> None:
        """Describe a listener; nothing is opened yet.

        :param reactor: an ``IReactorTCP``.
        :param port: 0 to 65535; 0 takes a free one.
        :param interface: an IPv4 or IPv6 address, or a host name, whose first
            IPv4 address, or else first IPv6 address, is taken.
        :param backlog: length of the accept queue, in connections.
        :param reuse_address: set ``SO_REUSEADDR`` (``socket(7)``): bind
            although old connections of this port are in TIME_WAIT.
        :param reuse_port: set ``SO_REUSEPORT`` (``socket(7)``): share the port
            with other processes of this user that set it too.
        """
        self._reactor = reactor
        self.port = port
        self.interface = interface
        self.backlog = backlog
        self._reuse_address = reuse_address
        self._reuse_port = reuse_port

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen; the result is there at once.

        :returns: a Deferred of the port; or of a failure with
            :class:`twisted.internet.error.CannotListenError`, whose
            ``socketError`` says why.
        """
        return maybeDeferred(self.open, protocolFactory)

    def open(self, factory: IProtocolFactory) -> IListeningPort:
        """Listen, and return the port.

        :raises twisted.internet.error.CannotListenError: as with :meth:`listen`.
        """
        opened: IListeningPort = self._open(
            factory, self._resolve(), clamped(self.backlog), self._reuse_port
        )
        return opened

    def listen_many(self, factory: IProtocolFactory, count: int) -> list[IListeningPort]:
        """Open several sockets on the one port, among which the kernel spreads the clients.

        They share it by ``SO_REUSEPORT``. Unless that was asked for, nobody
        else may have the port.

        :param factory: for all of them.
        :param count: how many.
        :raises twisted.internet.error.CannotListenError: as with :meth:`listen`.
        """
        address = self._resolve()
        backlog = clamped(self.backlog)
        if not self._reuse_port:
            self._check_free(address)
        ports = [self._open(factory, address, backlog, reuse_port=True)]
        # With port 0, the first one chooses.
        chosen = ports[0].getHost().port
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
    ) -> Any:
        return self._reactor.listenTCP(
            makeBinding(
                address,
                self.port if port is None else port,
                reuseAddress=self._reuse_address,
                reusePort=reuse_port,
            ),
            factory,
            backlog=backlog,
            interface=address,
        )

    def _check_free(self, address: str) -> None:
        """Refuse a port that somebody has, whom SO_REUSEPORT alone would join."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            if self._reuse_address:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, self.port))
            except OSError as error:
                raise CannotListenError(address, self.port, error) from error

    def _resolve(self) -> str:
        """Return the one address to bind."""
        try:
            if not self.interface:
                raise ValueError("it is empty")
            found = socket.getaddrinfo(self.interface, self.port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            # ValueError: a NUL byte, or a label that IDNA does not allow.
            raise CannotListenError(self.interface, self.port, error) from error
        found.sort(key=lambda each: each[0] != socket.AF_INET)
        family, _, _, _, (host, _, *more) = found[0]
        address = ipaddress.ip_address(str(host))
        if address.is_multicast or address == _BROADCAST:
            # Linux binds these, and then nobody can connect.
            why = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            raise CannotListenError(self.interface, self.port, why)
        if family == socket.AF_INET6 and more[1] and "%" not in str(host):
            # A link-local address means nothing without its interface (RFC 4007).
            return f"{host}%{more[1]}"
        return str(host)
