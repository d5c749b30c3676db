"""Who waits while there are as many connections as there may be."""

from __future__ import annotations

import functools
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort, IReadDescriptor

from echoproto.base.address import to_address
from echoproto.base.lifecycle import Extension
from echoproto.core.connection import Connection
from echoproto.net.epoll_lane import start_connection


class ConnectionSlots:
    """How many more connections there may be.

    While there is no room, ports do not accept: clients wait in the accept queue,
    which is what it is for. A port that closes cannot leave them there: those are
    accepted, so that they are not reset, and wait here, unread, as a
    descriptor each.

    :ivar waiting: how many do.
    """

    def __init__(self, most: int, live: Callable[[], int]) -> None:
        """Make so many places.

        :param most: connections at once; 0 for no limit.
        :param live: returns how many there are.
        """
        self._most = most
        self._live = live
        # In the order in which they get the next place; dicts for sets in order.
        self._held: dict[LimitedPort, None] = {}
        self._accepted: deque[tuple[socket.socket, Callable[[], None]]] = deque()
        self._guarded: dict[IListeningPort, LimitedPort] = {}

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._most > 0

    @property
    def room(self) -> int:
        """How many connections may begin now."""
        return self._most - self._live()

    @property
    def waiting(self) -> int:
        return len(self._accepted)

    def gate(self, connection: Connection) -> None:
        """Refuse a connection for which no slot is free; keep one for it until it closes.

        Ports that the reactor reads never accept more than there are slots; others,
        as an endpoint's own, cannot wait.

        :param connection: one that is counted among the open ones.
        """
        connection.on_close(self.release)
        if self.room < 0:
            connection.refuse("slots", "no connection slot is free (--max-connections)")

    def guard(self, port: IListeningPort) -> None:
        """Let a port accept no more than there is room for.

        :param port: what an endpoint's ``listen`` gave. One that the reactor does
            not read is left as it is.
        """
        if self.limited and IReadDescriptor.providedBy(port):
            self._guarded[port] = LimitedPort(port, self)

    def closing(self, port: IListeningPort) -> None:
        """Be told that a port closes: who waits in its queue now has to be accepted."""
        guarded = self._guarded.pop(port, None)
        if guarded is not None:
            self._held.pop(guarded, None)
            guarded.closing = True

    def hold(self, port: LimitedPort) -> None:
        """Let a port wait for a place."""
        self._held[port] = None

    def keep(self, sock: socket.socket, begin: Callable[[], None]) -> None:
        """Let a connection that is accepted wait for a place.

        :param sock: its socket.
        :param begin: called when there is one.
        """
        self._accepted.append((sock, begin))

    def release(self) -> None:
        """Be told that a connection is over."""
        self._begin_accepted()
        if self._held and self.room > 0:
            held, self._held = self._held, {}
            for port in held:
                port.resume()

    def drop_waiting(self) -> int:
        """Close the accepted ones that wait; return how many."""
        accepted, self._accepted = self._accepted, deque()
        for sock, _ in accepted:
            sock.close()
        return len(accepted)

    def _begin_accepted(self) -> None:
        while self._accepted and self.room > 0:
            _, begin = self._accepted.popleft()
            begin()


class LimitedPort:
    """A port that accepts only as many as there are places.

    :ivar port: the port.
    :ivar closing: whether it closes, and so has to accept those who wait.
    """

    def __init__(self, port: Any, places: ConnectionSlots) -> None:
        self.closing = False
        self.port = port
        self._places = places
        self._accept = port.doRead
        port.doRead = self._do_read

    def accept(self) -> None:
        """Accept those who wait, as far as there is room for them."""
        room = self._places.room
        if room > 0 and self._is_open():
            # What Twisted, and the fast lane, accept in one go.
            self.port.numberAccepts = room
            self._accept()

    def resume(self) -> None:
        """Accept again."""
        if self._is_open():
            self.port.startReading()

    def _is_open(self) -> bool:
        return bool(self.port.connected and not self.port.disconnecting)

    def _do_read(self) -> None:
        room = self._places.room
        if room > 0:
            self.port.numberAccepts = min(self.port.numberAccepts, room)
            self._accept()
        elif self.closing:
            self._keep_one()
        else:
            self.port.stopReading()
            self._places.hold(self)

    def _keep_one(self) -> None:
        try:
            sock, client = self.port.socket.accept()
        except OSError:
            # Nobody waits any more, or there is no descriptor to wait with.
            return
        if len(client) == 4 and client[3]:
            # Twisted's own transport takes the zone as part of the host.
            client = (to_address(client).host, *client[1:])  # type: ignore[union-attr]
        self._places.keep(sock, functools.partial(start_connection, self.port, sock, client))


class SlotsExtension(Extension):
    """Lets the ports of a service accept no more connections than there are slots."""

    def __init__(self, slots: ConnectionSlots) -> None:
        self._slots = slots
        self._inherited: set[IListeningPort] = set()

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        self._slots.guard(port)
        if backlog is None:
            self._inherited.add(port)

    def port_closing(self, port: IListeningPort) -> None:
        if port not in self._inherited:
            self._slots.closing(port)

    def port_closed(self, port: IListeningPort) -> None:
        self._inherited.discard(port)
        self._slots.closing(port)
