"""Connection slots: the maximum number of connections, enforced where they are accepted."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IListeningPort, IReadDescriptor

from echoproto.base.lifecycle import Extension
from echoproto.core.connection import Connection
from echoproto.net import listen_queue
from echoproto.net.acceptor import Acceptor


class ConnectionSlots:
    """Counts how many more connections may be accepted.

    While no slot is available, ports do not accept: clients wait in the accept queue,
    whose purpose this is. A port that closes cannot leave them there, since they would be
    reset. They are accepted and parked here, unread, as one descriptor each.
    """

    def __init__(self, limit: int, live: Callable[[], int]) -> None:
        """Create the slots.

        :param limit: maximum number of connections at once.
        :param live: returns the number of connections now.
        """
        self._limit = limit
        self._live = live
        # In the order in which they get the next slot; the dict is an ordered set.
        self._waiting_ports: dict[LimitedPort, None] = {}
        self._parked: deque[tuple[socket.socket, Callable[[], None]]] = deque()
        self._guarded: dict[IListeningPort, LimitedPort] = {}

    @property
    def available(self) -> int:
        """How many connections may start now."""
        return self._limit - self._live()

    @property
    def waiting(self) -> int:
        """How many accepted connections are parked."""
        return len(self._parked)

    @property
    def waiting_ports(self) -> tuple[LimitedPort, ...]:
        """The ports that do not accept because no slot is available, in order."""
        return tuple(self._waiting_ports)

    def gate(self, connection: Connection) -> None:
        """Refuse a connection if no slot was available for it.

        A guarded port never accepts one; a port that the reactor does not read may.

        :param connection: counted among those that are live.
        """
        connection.on_close(self.release)
        if self.available < 0:
            connection.refuse("slots", "no connection slot is free (--max-connections)")

    def guard(self, port: IListeningPort) -> None:
        """Let a port accept no more clients than there are slots.

        :param port: a result of an endpoint's ``listen``. One that the reactor does not
            read is left alone.
        """
        if IReadDescriptor.providedBy(port):
            self._guarded[port] = LimitedPort(Acceptor.of(port), self)

    def closing(self, port: IListeningPort) -> None:
        """Park the clients of a port from now on, since it closes.

        :param port: one that was guarded, or any other, which changes nothing.
        """
        guarded = self._guarded.pop(port, None)
        if guarded is not None:
            self._waiting_ports.pop(guarded, None)
            guarded.close()

    def wait(self, port: LimitedPort) -> None:
        """Let a paused port wait for a slot.

        :param port: resumed when a slot is available.
        """
        self._waiting_ports[port] = None

    def park(self, sock: socket.socket, start: Callable[[], None]) -> None:
        """Let an accepted connection wait for a slot.

        :param sock: the connection.
        :param start: called when a slot is available.
        """
        self._parked.append((sock, start))

    def release(self) -> None:
        """Reuse the slot of a connection that has ended."""
        self._start_parked()
        if self._waiting_ports and self.available > 0:
            # All of them: the one that is ready first takes the slot, and the others wait
            # again, in front of it.
            ports, self._waiting_ports = self._waiting_ports, {}
            for port in ports:
                port.resume()

    def fill(self) -> None:
        """Use all available slots in this turn of the reactor.

        Parked connections come first, then the clients of each waiting port in turn.
        """
        self._start_parked()
        while self._waiting_ports and self.available > 0:
            port = next(iter(self._waiting_ports))
            del self._waiting_ports[port]
            port.accept()
            port.resume()

    def drop_waiting(self) -> int:
        """Close the parked connections.

        :returns: how many there were.
        """
        parked, self._parked = self._parked, deque()
        for sock, _ in parked:
            sock.close()
        return len(parked)

    def _start_parked(self) -> None:
        while self._parked and self.available > 0:
            _, start = self._parked.popleft()
            start()


class LimitedPort:
    """A port that accepts no more clients than there are slots."""

    def __init__(self, acceptor: Acceptor, slots: ConnectionSlots) -> None:
        """Limit a port.

        :param acceptor: the port's.
        :param slots: how many clients it may accept.
        """
        self._acceptor = acceptor
        self._slots = slots
        self._closing = False
        acceptor.limit(self._clients_wait)

    @property
    def queued(self) -> int | None:
        """How many clients wait in the accept queue; ``None`` if the kernel does not tell."""
        queue = listen_queue.accept_queue(self._acceptor.port)
        return None if queue is None else queue.queued

    def accept(self) -> None:
        """Accept all clients that wait, as far as slots are available."""
        available = self._slots.available
        if available > 0 and self._acceptor.is_open:
            self._acceptor.accept(available)

    def resume(self) -> None:
        """Accept again when clients come."""
        self._acceptor.resume()

    def close(self) -> None:
        """Park the clients for which no slot is available: the port closes."""
        self._closing = True

    def _clients_wait(self) -> None:
        available = self._slots.available
        if available > 0:
            self._acceptor.accept(min(self._acceptor.batch, available))
        elif self._closing:
            accepted = self._acceptor.accept_one()
            if accepted is not None:
                self._slots.park(*accepted)
        else:
            self._acceptor.pause()
            self._slots.wait(self)


class SlotsExtension(Extension):
    """Limits the ports of a service by connection slots."""

    def __init__(self, slots: ConnectionSlots) -> None:
        """Create the extension.

        :param slots: those of the service's factory.
        """
        self._slots = slots
        self._inherited: set[IListeningPort] = set()

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        self._slots.guard(port)
        if backlog is None:
            self._inherited.add(port)

    def port_closing(self, port: IListeningPort) -> None:
        # The clients of another process's socket can go on waiting there.
        if port not in self._inherited:
            self._slots.closing(port)

    def port_closed(self, port: IListeningPort) -> None:
        self._inherited.discard(port)
        self._slots.closing(port)
