"""Opens connections to one address of a target."""

from __future__ import annotations

import errno
import itertools
import socket
import time
from collections.abc import Callable, Iterator

from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.answers import Answers
from echoproto.probe.wire.banner import Banner, BannerLayer
from echoproto.probe.wire.chain import HeaderLayer, check_chain, through
from echoproto.probe.wire.channel import Channel
from echoproto.probe.wire.program import Inherited, Programs
from echoproto.probe.wire.proxy_header import proxy_header
from echoproto.probe.wire.target import Address, Target, TargetError, is_loopback
from echoproto.probe.wire.tls_channel import TlsChannel

__all__ = ["Connector", "LocalError"]

# 28,232 ephemeral ports, each kept 60 s by TIME_WAIT, allow 470 connections per second to one
# remote address (Linux: net.ipv4.ip_local_port_range, tcp_fin_timeout does not apply).
REMOTE_RATE = 470.0

# A slow reader must slow the other side down: with a larger buffer, megabytes fit in between.
_SLOW_RECEIVE_BUFFER = 4096


class LocalError(Exception):
    """This machine, not the path, is out of ports, descriptors or memory."""


class Connector:
    """Opens connections to one address of a target, at a limited rate.

    Args:
        target: where to connect.
        address: one of its addresses.
        rate: maximum connections per second; None for no limit on loopback addresses and
            ``REMOTE_RATE`` on all others.

    Raises:
        TargetError: if a file that TLS needs cannot be used, or a proxy cannot be asked.

    Attributes:
        layers: put on top of each connection that is opened from then on, the last one uppermost.
    """

    def __init__(self, target: Target, address: Address, rate: float | None = None) -> None:
        self.target = target
        self.family, self.where = address
        self.local = is_loopback(address)
        self.context = target.tls_context
        self.layers: list[Callable[[Channel], Channel]] = []
        self._proxy_context = check_chain(target)
        self._banner = Banner()
        # What gives connections that are connected already.
        self._given: Programs | Inherited | None = None
        if target.scheme == "exec":
            self._given = Programs(target.path)
        elif target.scheme == "fd":
            self._given = Inherited(int(target.path))
        if rate is None and (target.via or not self.local):
            # A proxy here uses up the ports of this machine too, if the target is elsewhere.
            rate = REMOTE_RATE
        self.opened = 0  # how many connections were begun
        self.answers = Answers()
        self._kept: socket.socket | None = None
        self.tls_version = ""  # agreed on in the last handshake, as TLSv1.3
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._sources = _loopback_sources() if self.family == socket.AF_INET else iter(())
        self._source: str | None = None

    def keep(self, sock: socket.socket) -> None:
        """Take a connected socket; it is the next one that is asked for.

        A path may answer its first connection only, so that one is not wasted. Nothing may be
        waited for before the next conversation begins: the connection would have been silent.
        """
        sock.setblocking(False)
        self._kept = sock

    def new_socket(self, slow: bool = False) -> socket.socket:
        """Return a new socket, ready for ``connect``; wait as long as the rate requires.

        Args:
            slow: whether the reader will be slow, which needs a small receive buffer.

        Raises:
            LocalError: if the kernel has no socket left.
            TargetError: if the target is one connection, and it is used.
        """
        kept, self._kept = self._kept, None
        if kept is not None and not slow:
            return kept
        if self._interval:
            now = time.monotonic()
            if self._next > now:
                time.sleep(self._next - now)
            self._next = max(now, self._next) + self._interval
        try:
            if self._given is None:
                sock = socket.socket(self.family, socket.SOCK_STREAM)
            else:
                sock = self._given()
        except OSError as error:
            what = "sockets" if self._given is None else "processes or sockets"
            raise LocalError(f"this machine has no more {what}: {error.strerror}") from None
        self.opened += 1
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_RECEIVE_BUFFER)
        if self._source is not None:
            self._bind(sock)
        return sock

    def check(self, session: Session) -> None:
        """Return if the target can be sent everything in the session.

        Raises:
            TargetError: if it cannot.
        """
        direct = self.target.scheme == "tcp" and not self.target.via
        if not direct and any(c.urgent for c in session.conversations):
            raise TargetError(f"'urgent' needs TCP without TLS, not {self.target}")

    def connect(self, sock: socket.socket) -> int:
        """Begin to connect; return an errno: 0 for done, EINPROGRESS for in progress.

        A socket with a timeout is waited for; EWOULDBLOCK stands for the timeout.

        Raises:
            LocalError: if this machine has no port left.
        """
        if self._given is not None:
            return 0
        error: int = sock.connect_ex(self.where)
        if error == errno.EADDRNOTAVAIL:
            # Every ephemeral port to this address is in TIME_WAIT. On loopback, each other
            # address of 127.0.0.0/8 has a set of ports of its own.
            self._next_source()
            self._bind(sock)
            error = sock.connect_ex(self.where)
        return 0 if error == errno.EISCONN else error  # one that was kept

    def _bind(self, sock: socket.socket) -> None:
        while True:
            try:
                sock.bind((self._source, 0))
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                self._next_source()

    def _next_source(self) -> None:
        self._source = next(self._sources, None) if self.local else None
        if self._source is None:
            raise LocalError(
                "on this machine no local port is free (TIME_WAIT keeps each for a minute)"
            )

    def channel(self, sock: socket.socket) -> Channel:
        """Return the channel over a connected socket, with all that is on top of it.

        Raises:
            OSError: if the connection is gone.
        """
        target = self.target
        channel = Channel(sock)
        if target.via:
            channel = through(channel, target, self._proxy_context)
        header = proxy_header(target.send_proxy, sock, known=not target.via)
        if header and target.via:
            channel = HeaderLayer(channel, header)
        elif header:
            channel.send(header)
        if self.context is not None:
            name = target.server_name or target.host
            channel = TlsChannel(channel, self.context, name, self._agreed)
        if target.scheme in ("ws", "wss"):
            from echoproto.probe.wire.ws_channel import WsChannel  # it imports wsproto

            channel = WsChannel(channel, target.place)
        if target.skip_banner:
            channel = BannerLayer(channel, self._banner)
        for layer in self.layers:
            channel = layer(channel)
        channel.half_closes = target.half_closes
        return channel

    def last_words(self) -> str:
        """Return how the program ended that a target starts; empty for other targets."""
        return self._given.last_words() if isinstance(self._given, Programs) else ""

    def _agreed(self, version: str) -> None:
        self.tls_version = version


def _loopback_sources() -> Iterator[str]:
    for high, low in itertools.product(range(1, 255), range(1, 255)):
        yield f"127.0.{high}.{low}"
