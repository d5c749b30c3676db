"""A non-blocking connection, with or without TLS, and the connector that opens it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator

from echoproto.probe.wire.reasons import reason
from echoproto.probe.wire.target import Address, Target, TargetError, is_loopback

__all__ = ["NOT_NOW", "Channel", "Connector", "LocalError", "TlsChannel", "connect", "place"]

# 28,232 ephemeral ports, each kept 60 s by TIME_WAIT, allow 470 connections per second to one
# remote address (Linux: net.ipv4.ip_local_port_range, tcp_fin_timeout does not apply).
REMOTE_RATE = 470.0

# A slow reader must slow the other side down: with a larger buffer, megabytes fit in between.
_SLOW_RECEIVE_BUFFER = 4096

NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a channel raises when it would have to wait."""

_ABORT = struct.pack("ii", 1, 0)


class LocalError(Exception):
    """This machine, not the path, is out of ports, descriptors or memory."""


class Channel:
    """A connected stream socket.

    ``send`` and ``recv`` are those of the socket: they raise one of ``NOT_NOW`` when they would
    have to wait, and OSError when the connection is gone.
    """

    # Whether a ``recv`` that returns less than was asked for has emptied the channel.
    whole_reads = True
    wants_write = False

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send = sock.send
        self.recv = sock.recv

    def handshake(self) -> bool:
        """Continue the handshake; return whether it is done."""
        return True

    def flush(self) -> None:
        """Send pending data, as far as the kernel takes it."""

    def shutdown_write(self) -> None:
        """Close the sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close with RST (SO_LINGER with a timeout of zero, socket(7))."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.sock.close()

    def close(self) -> None:
        """Close in the normal way."""
        self.sock.close()


class TlsChannel(Channel):
    """The same over TLS.

    TLS runs on buffers instead of on the socket, since ``SSLSocket`` cannot close one side and
    continue reading the other.

    Args:
        sock: connected.
        context: what TLS needs.
        name: the server's, to send and to verify.
        agreed: called with the protocol version after the handshake.
    """

    whole_reads = False

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        name: str,
        agreed: Callable[[str], None],
    ) -> None:
        super().__init__(sock)
        self._agreed = agreed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._unsent = b""
        self.send = self._send  # type: ignore[assignment]  # the two arguments in use
        self.recv = self._recv  # type: ignore[assignment]

    def handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            try:
                self._fill()
                self._tls.do_handshake()
            except NOT_NOW:
                self.flush()
                return False
        except ssl.SSLError:
            self.flush()  # sends the alert, which says why
            raise
        self.flush()
        self._agreed(self._tls.version() or "")
        return True

    def flush(self) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            except BlockingIOError:
                break
        self.wants_write = bool(self._unsent)

    def _send(self, data: memoryview) -> int:
        self.flush()
        if self._unsent:
            raise BlockingIOError
        sent = self._tls.write(data[:65536])
        self.flush()
        return sent

    def _recv(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def shutdown_write(self) -> None:
        # The first call sends close_notify. Reading the other side's close_notify, which would
        # complete the closing, is left to recv.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.shutdown_write()
        super().close()


class Connector:
    """Opens connections to one address of a target, at a limited rate.

    Args:
        target: where to connect.
        address: one of its addresses.
        rate: maximum connections per second; None for no limit on loopback addresses and
            ``REMOTE_RATE`` on all others.

    Raises:
        TargetError: if a file that TLS needs cannot be used.
    """

    def __init__(self, target: Target, address: Address, rate: float | None = None) -> None:
        self.target = target
        self.family, self.where = address
        self.local = is_loopback(address)
        self.context = target.tls_context
        if rate is None and not self.local:
            rate = REMOTE_RATE
        self.tls_version = ""  # agreed on in the last handshake, as TLSv1.3
        self.round_trip = 0.0  # how long connecting took, in seconds; set by connect()
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._sources = _loopback_sources() if self.family == socket.AF_INET else iter(())
        self._source: str | None = None

    def new_socket(self, slow: bool = False) -> socket.socket:
        """Return a new socket, ready for ``connect``; wait as long as the rate requires.

        Args:
            slow: whether the reader will be slow, which needs a small receive buffer.

        Raises:
            LocalError: if the kernel has no socket left.
        """
        if self._interval:
            now = time.monotonic()
            if self._next > now:
                time.sleep(self._next - now)
            self._next = max(now, self._next) + self._interval
        try:
            sock = socket.socket(self.family, socket.SOCK_STREAM)
        except OSError as error:
            raise LocalError(f"no more sockets: {error.strerror}") from None
        sock.setblocking(False)
        if self.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_RECEIVE_BUFFER)
        if self._source is not None:
            self._bind(sock)
        return sock

    def connect(self, sock: socket.socket) -> int:
        """Begin to connect; return an errno: 0 for done, EINPROGRESS for in progress.

        Raises:
            LocalError: if this machine has no port left.
        """
        error: int = sock.connect_ex(self.where)
        if error == errno.EADDRNOTAVAIL:
            # Every ephemeral port to this address is in TIME_WAIT. On loopback, each other
            # address of 127.0.0.0/8 has a set of ports of its own.
            self._next_source()
            self._bind(sock)
            error = sock.connect_ex(self.where)
        return error

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
            raise LocalError("no local port is free; lower --rate")

    def channel(self, sock: socket.socket) -> Channel:
        """Return the channel over a connected socket; send the PROXY header first.

        Raises:
            OSError: if the connection is gone.
        """
        if header := self.target.proxy_header(sock):
            sock.send(header)
        if self.context is None:
            return Channel(sock)
        name = self.target.server_name or self.target.host
        return TlsChannel(sock, self.context, name, self._agreed)

    def _agreed(self, version: str) -> None:
        self.tls_version = version


def _loopback_sources() -> Iterator[str]:
    for high, low in itertools.product(range(1, 255), range(1, 255)):
        yield f"127.0.{high}.{low}"


def connect(target: Target, rate: float | None = None, timeout: float = 5.0) -> Connector:
    """Return a connector to the first of the target's addresses that accepts a connection.

    Args:
        target: where to connect.
        rate: as for :class:`Connector`.
        timeout: seconds to wait for each address.

    Raises:
        TargetError: if there is none; the message says why.
    """
    reasons = []
    for address in target.addresses():
        made = Connector(target, address, rate)
        sock = made.new_socket()
        sock.settimeout(timeout)
        began = time.monotonic()
        try:
            sock.connect(made.where)
        except OSError as error:
            reasons.append(f"{place(made)}: {reason(error, timeout)}")
        else:
            made.round_trip = time.monotonic() - began
            return made
        finally:
            sock.close()
    raise TargetError(f"cannot connect to {target}: {'; '.join(reasons)}")


def place(connector: Connector) -> str:
    """Return the address connected to, for people."""
    where = connector.where
    if isinstance(where, str):
        return where
    host = f"[{where[0]}]" if ":" in where[0] else where[0]
    return f"{host}:{where[1]}"
