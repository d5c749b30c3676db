"""Socket options of connections: a dead peer is noticed, urgent data is data, nothing is delayed.

Linux and the BSDs hand them on from a listening socket to each connection that it
receives, so they cost nothing per connection. Connections that were in the accept queue
of an inherited socket before do not have them; if the socket has not had them either, each
of its connections is given them.

Sources: ``tcp(7)``, ``socket(7)``; RFC 1122, 4.2.3.6 (keep-alives); RFC 6093, section 3
(urgent data is best received in line).
"""

from __future__ import annotations

import contextlib
import math
import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IListeningPort

from echoproto.base.bounds import LEAST_KEEPALIVE, MOST_KEEPALIVE, check_number
from echoproto.base.lifecycle import Extension
from echoproto.net.acceptor import set_transport

# Unanswered probes after which a peer counts as dead, and their distance as a share of the
# time before the first one: together that time once more.
_PROBES = 4

# macOS has another name for it. A platform without any keeps its own times.
_KEEPIDLE: int | None = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
_KEEPINTVL: int | None = getattr(socket, "TCP_KEEPINTVL", None)
_KEEPCNT: int | None = getattr(socket, "TCP_KEEPCNT", None)


def check_keepalive(seconds: float) -> float:
    """Return a time for :class:`ConnectionOptions`.

    :param seconds: the time.
    :raises ValueError: when it is out of range.
    """
    allowed = f"{LEAST_KEEPALIVE:g} to {MOST_KEEPALIVE:g} seconds; 0 for never"
    check_number("keepalive", seconds, allowed, MOST_KEEPALIVE, LEAST_KEEPALIVE)
    return seconds


@dataclass(frozen=True)
class ConnectionOptions:
    """The socket options of TCP connections.

    :ivar keepalive: seconds without a packet from the peer, when nothing is on its way to
        it, after which TCP asks whether it is there; it counts as dead after about twice
        that time. Whole seconds; a fraction is rounded up. 0 leaves ``SO_KEEPALIVE`` as
        it is.
    """

    keepalive: float

    def apply(self, sock: socket.socket) -> None:
        """Set the options of a socket, as far as the platform has them.

        :param sock: a TCP socket, listening or connected; any other is left alone.
        """
        for level, option, value in self._wanted(sock):
            # A sandbox may not have all of them.
            with contextlib.suppress(OSError):
                sock.setsockopt(level, option, value)

    def are_set(self, sock: socket.socket) -> bool:
        """Tell whether a socket has all of the options.

        :param sock: as in :meth:`apply`; any other than a TCP socket needs none.
        """
        try:
            return all(sock.getsockopt(*each[:2]) == each[2] for each in self._wanted(sock))
        except OSError:
            return False

    def _wanted(self, sock: socket.socket) -> list[tuple[int, int, int]]:
        """Return the level, number and value of each option."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return []
        wanted: list[tuple[int, int | None, int]] = [
            (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
            # The echo sets it too, if its transport has not inherited it.
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ]
        if self.keepalive:
            wanted += [
                (socket.IPPROTO_TCP, _KEEPIDLE, math.ceil(self.keepalive)),
                (socket.IPPROTO_TCP, _KEEPINTVL, math.ceil(self.keepalive / _PROBES)),
                (socket.IPPROTO_TCP, _KEEPCNT, _PROBES),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            ]
        return [(level, option, value) for level, option, value in wanted if option is not None]

    def apply_to_port(self, port: object) -> bool:
        """Set the options of a port's socket, which its connections inherit.

        :param port: the result of an endpoint's ``listen``.
        :returns: whether its socket had them already.
        """
        sock = getattr(port, "socket", None)
        if not isinstance(sock, socket.socket):
            return False
        if self.are_set(sock):
            return True
        self.apply(sock)
        return False


class SetConnectionOptions(Extension):
    """Sets the options of all connections of a service."""

    def __init__(self, options: ConnectionOptions) -> None:
        """Describe it.

        :param options: what to set.
        """
        self._options = options

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        had_them = self._options.apply_to_port(port)
        made: Any = getattr(port, "transport", None)
        if had_them or backlog is not None or made is None:
            return
        options = self._options

        def transport(sock: socket.socket, *arguments: Any) -> Any:
            options.apply(sock)
            return made(sock, *arguments)

        # Clients may have come before this process had the socket.
        set_transport(port, transport)
