"""What a relay forwards to: a target, or an echo of its own."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence

from echoproto.probe.relay.connection import HIGH_WATER
from echoproto.probe.relay.loop import WRITE, Loop
from echoproto.probe.relay.side import Side, reset_on_close
from echoproto.probe.wire.target import Address, Target, TargetError

__all__ = ["Upstream", "to_addresses", "to_echo", "to_target"]

Upstream = Callable[[Loop, Side, Callable[[str], None]], None]
"""Connects a server's side; calls the last argument with the reason if there is no connection."""

#: How long to wait for a UNIX listener whose queue is full, in milliseconds.
_AGAIN_MS = 5


def to_target(target: str | Target) -> Upstream:
    """Return what connects to a target. Its name is looked up once, now.

    Raises:
        TargetError: if it is no target of a relay, or its name is unknown.
    """
    parsed = Target.parse(target) if isinstance(target, str) else target
    if parsed.scheme not in ("tcp", "unix") or parsed.via:
        why = "passes TLS on as it is" if parsed.scheme == "tls" else "cannot forward to it"
        raise TargetError(f"target {str(parsed)!r}: a relay {why}; must be host:port or unix:/path")
    return to_addresses(str(parsed), parsed.addresses())


def to_addresses(target: str, addresses: Sequence[Address]) -> Upstream:
    """Return what connects to the first of these addresses that accepts.

    Args:
        target: how to name them.
        addresses: in the order in which they are tried; at least one.
    """

    def connect(loop: Loop, side: Side, failed: Callable[[str], None]) -> None:
        _Attempt(loop, side, failed, target, list(addresses)).next()

    return connect


class _Attempt:
    """Connects one side, without waiting."""

    def __init__(
        self,
        loop: Loop,
        side: Side,
        failed: Callable[[str], None],
        target: str,
        addresses: list[Address],
    ) -> None:
        self._loop, self._side, self._failed = loop, side, failed
        self._target, self._addresses = target, addresses
        self._error = 0

    def next(self) -> None:
        """Try the next address."""
        if not self._side.open:
            return
        if not self._addresses:
            self._failed(f"cannot connect to {self._target}: {os.strerror(self._error)}")
            return
        family, where = address = self._addresses.pop(0)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._error = error.errno or errno.EIO
            self.next()
            return
        self._loop.own(sock)
        sock.setblocking(False)
        answer = sock.connect_ex(where)
        if answer == errno.EINPROGRESS:
            self._loop.watch(sock, WRITE, lambda _: self._answered(sock))
        elif answer == errno.EAGAIN and family == socket.AF_UNIX:
            self._loop.close(sock)
            self._addresses.insert(0, address)
            self._loop.later(_AGAIN_MS, self.next)
        else:
            self._done(sock, answer)

    def _answered(self, sock: socket.socket) -> None:
        self._loop.ignore(sock)
        self._done(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _done(self, sock: socket.socket, error: int) -> None:
        if error:
            self._error = error
            self._loop.close(sock)
            self.next()
        elif not self._side.open:
            # The client has reset meanwhile; the server is not told that it has closed.
            reset_on_close(sock)
            self._loop.close(sock)
        else:
            self._side.attach(sock)


def to_echo(loop: Loop, side: Side, failed: Callable[[str], None]) -> None:
    """Connect to an echo in this process."""
    try:
        here, there = socket.socketpair()
    except OSError as error:
        failed(f"cannot make a pair of sockets: {error.strerror}")
        return
    _Echo(loop, there)
    side.attach(here)


class _Echo:
    """Returns every byte, and FIN."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._side = Side(loop, self._received, self._ended, self._lost, self._drained)
        self._side.attach(sock)

    def _received(self, data: bytes) -> None:
        self._side.send(data)
        self._side.hold(len(self._side.pending) > HIGH_WATER)

    def _ended(self) -> None:
        self._side.fin()
        self._drained()

    def _lost(self) -> None:
        pass

    def _drained(self) -> None:
        self._side.hold(False)
        if self._side.read_ended and self._side.fin_sent:
            self._side.close()
