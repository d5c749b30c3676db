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

from echoproto import listen_queue

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@implementer(IStreamServerEndpoint)
class TCPEndpoint:
    """A TCP listener with a backlog clamped in the open.

    What it adds to Twisted's own TCP endpoints: an interface given by name,
    IPv4 and IPv6 alike; the clamp, and a warning when it bites; and the choice
    of ``SO_REUSEADDR``.

    :ivar backlog: the length of the accept queue that was asked for.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        port: int,
        interface: str = "127.0.0.1",
        backlog: int = 1024,
        reuse_address: bool = True,
    ) -> None:
        """Describe a listener; nothing is opened yet.

        :param reactor: an ``IReactorTCP``.
        :param port: 0 to 65535; 0 takes a free one.
        :param interface: an IPv4 or IPv6 address, or a host name, whose first
            IPv4 address, or else first IPv6 address, is taken.
        :param backlog: length of the accept queue, in connections.
        :param reuse_address: set ``SO_REUSEADDR`` (``socket(7)``): bind
            although old connections of this port are in TIME_WAIT.
        """
        self._reactor = reactor
        self.port = port
        self.interface = interface
        self.backlog = backlog
        self._reuse_address = reuse_address

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen; the result is there at once.

        :returns: a Deferred of the port; or of a failure with
            :class:`twisted.internet.error.CannotListenError`, whose
            ``socketError`` says why.
        """
        return maybeDeferred(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        address = self._resolve()
        limits = listen_queue.read_limits()
        warning = listen_queue.clamp_warning(self.backlog, limits)
        if warning is not None:
            self._log.warn("{warning}", warning=warning)
        port: IListeningPort = self._reactor.listenTCP(
            makeBinding(address, self.port, reuseAddress=self._reuse_address),
            factory,
            # Where no limit is known, listen(2) takes no more than an int all the same.
            backlog=min(listen_queue.clamp_backlog(self.backlog, limits), listen_queue.INT_MAX),
            interface=address,
        )
        return port

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
