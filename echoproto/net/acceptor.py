"""The accept loop of a listening port, taken over from Twisted in one place.

A reactor calls a port's ``doRead`` when clients wait. Twisted's loop accepts up to
``numberAccepts`` of them and creates a ``transport`` for each. Two features need more
than that: the epoll lane, which has an accept loop and transports of its own, and
connection slots, which keep a port from accepting more clients than there are slots.
Both use the one :class:`Acceptor` of the port. Nothing else in this package assigns an
attribute of a port.

What is replaced is ``doRead``, ``numberAccepts``, ``reactor``, ``sessionno`` and
``transport``. They are all public; ``twisted.internet.tcp.Port`` documents the last one
as replaceable.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from echoproto.base.address import to_address

# accept(2) fails with these while the process or the system has no resources for another
# connection. The clients in the accept queue can wait until it has.
ACCEPT_CAPACITY_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Seconds after which a port accepts again.
ACCEPT_RETRY = 0.1

_log = Logger(namespace="echoproto")


def start_connection(port: Any, sock: socket.socket | int, client: Any, with_address: bool) -> None:
    """Create the protocol and the transport of an accepted connection.

    If that fails, the error is logged and the connection is closed.

    :param port: the port that accepted it, in either lane.
    :param sock: the connection, or its descriptor if that is enough for the port's transports.
    :param client: the client's address, as ``accept`` returned it.
    :param with_address: whether the factory is told it.
    """
    try:
        protocol = port.factory.buildProtocol(to_address(client) if with_address else None)
        if protocol is None:
            _close(sock)
            return
        transport = port.transport(sock, protocol, client, port, port.sessionno, port.reactor)
    except Exception:
        _log.failure("cannot create a protocol for a client")
        _close(sock)
        return
    port.sessionno += 1
    try:
        protocol.makeConnection(transport)
    except Exception:
        _log.failure("a protocol failed")
        transport.abortConnection()


def _needs_address(factory: Any) -> bool:
    """Return whether a factory has to be told a client's address.

    Making that takes as long as making the protocol. Ours asks the transport when it needs it.
    """
    return not getattr(factory, "asks_transport", False)


def _close(sock: socket.socket | int) -> None:
    if isinstance(sock, int):
        os.close(sock)
    else:
        sock.close()


def _accept_descriptor(listening: Any) -> tuple[int, Any]:
    """Accept a client as a descriptor, in half the time that a socket object takes.

    The standard library has no public name for accept(2) alone.
    """
    descriptor, client = listening._accept()  # noqa: SLF001
    os.set_blocking(descriptor, False)
    return descriptor, client


def set_transport(port: IListeningPort, transport: Callable[..., Any]) -> None:
    """Set what creates the transports of a port from now on.

    :param port: a ``tcp.Port``, or one derived from it.
    :param transport: called as ``tcp.Server`` is; a class, as a rule.
    """
    accepting: Any = port
    accepting.transport = transport


class Acceptor:
    """Accepts the clients of one port, in either lane.

    :ivar port: the port. Any: no interface of Twisted has all of what is used of it.
    """

    def __init__(self, port: Any) -> None:
        """Take over a port; use :meth:`of`, which does so only once.

        :param port: an ``IListeningPort`` that is an ``IReadDescriptor`` too.
        """
        self.port = port
        self._stock_accept: Callable[[], None] = port.doRead
        self._accept = self._stock_accept
        self._cannot_accept: Callable[[OSError], None] | None = None
        self._on_clients: Callable[[], None] | None = None
        # Two reasons not to accept: a capacity is used up, or accept(2) failed for lack
        # of resources.
        self._paused = False
        self._resting = False
        # Whether connections inherit TCP_NODELAY of the port's socket, as on Linux.
        self._inherit = False
        port.doRead = self._clients_wait

    @classmethod
    def of(cls, port: IListeningPort) -> Acceptor:
        """Return the acceptor of a port; if there is none yet, take the port over.

        :param port: an ``IListeningPort`` that is an ``IReadDescriptor`` too.
        """
        taken_over: Any = port
        owner = getattr(taken_over.doRead, "__self__", None)
        return owner if isinstance(owner, cls) else cls(port)

    def move(self, lane: Any, transport: type, cannot_accept: Callable[[OSError], None]) -> None:
        """Accept in a lane from now on.

        :param lane: becomes the reactor of the port and of its connections.
        :param transport: the class of the lane's transports; called as ``tcp.Server`` is.
        :param cannot_accept: called with the error when ``accept(2)`` fails with one of
            :data:`ACCEPT_CAPACITY_ERRNOS`.
        """
        self.port.stopReading()
        self.port.reactor = lane
        self._cannot_accept = cannot_accept
        self.accept_with(transport)
        self.port.startReading()

    def accept_with(self, transport: type) -> None:
        """Accept with a loop of our own from now on, as in a lane.

        :param transport: the class of the transports; called as ``tcp.Server`` is.
        """
        set_transport(self.port, transport)
        self._accept = self._accept_in_lane

    def limit(self, on_clients: Callable[[], None]) -> None:
        """Let a capacity decide how many clients are accepted.

        :param on_clients: called, instead of accepting, whenever clients wait. It calls
            :meth:`accept`, :meth:`accept_one` or :meth:`pause`; without any of them, it
            is called again at once.
        """
        self._on_clients = on_clients

    @property
    def is_open(self) -> bool:
        """Whether the port listens and is not about to close."""
        return bool(self.port.connected and not self.port.disconnecting)

    @property
    def batch(self) -> int:
        """The number of clients that the port would accept now without a capacity.

        It adapts to the traffic, as in ``tcp.Port.doRead``.
        """
        return int(self.port.numberAccepts)

    def accept(self, most: int) -> None:
        """Accept the clients that wait.

        :param most: the maximum number of clients; at least 1.
        """
        self.port.numberAccepts = most
        self._accept()

    def accept_one(self) -> tuple[socket.socket, Callable[[], None]] | None:
        """Accept one client without starting its connection.

        :returns: the connection's socket, and what starts it; ``None`` if no client
            waits, or if there is no descriptor for it.
        """
        try:
            sock, client = self.port.socket.accept()
        except OSError:
            return None
        if isinstance(client, tuple) and len(client) == 4 and client[3]:
            # Twisted's own transport expects the zone as part of the host.
            client = (to_address(client).host, *client[1:])  # type: ignore[union-attr]
        told = _needs_address(self.port.factory)
        return sock, functools.partial(start_connection, self.port, sock, client, told)

    def pause(self) -> None:
        """Accept nothing until :meth:`resume`; clients wait in the accept queue."""
        self._paused = True
        self.port.stopReading()

    def resume(self) -> None:
        """Accept again."""
        self._paused = False
        self._watch()

    def _watch(self) -> None:
        if self.is_open and not self._paused and not self._resting:
            self.port.startReading()

    def _clients_wait(self) -> None:
        if self._on_clients is None:
            self._accept()
        else:
            self._on_clients()

    def _accept_in_lane(self) -> None:
        """Accept as ``tcp.Port.doRead`` does, at less cost."""
        port = self.port
        accept: Callable[[Any], tuple[Any, Any]] = self._accept_next
        if self._inherit and getattr(port.transport, "takes_descriptor", False):
            accept = _accept_descriptor
        with_address = _needs_address(port.factory)
        accepted = 0
        while accepted < port.numberAccepts:
            try:
                sock, client = accept(port.socket)
            except BlockingIOError:
                break
            except OSError as failed:
                if failed.errno in ACCEPT_CAPACITY_ERRNOS:
                    self._rest(failed)
                else:
                    # Twisted handles each of the others, and accepts the rest of the batch.
                    port.numberAccepts -= accepted
                    self._stock_accept()
                return
            accepted += 1
            start_connection(port, sock, client, with_address)
        # A full batch makes the next one larger, as in Twisted.
        port.numberAccepts = accepted + 20 if accepted == port.numberAccepts else max(1, accepted)

    def _accept_next(self, listening: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a client, and learn from it what those behind it in the queue inherit."""
        sock, client = listening.accept()
        if getattr(self.port.transport, "takes_descriptor", False):
            self._inherit = bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return sock, client

    def _rest(self, why: OSError) -> None:
        """Leave the clients in the accept queue, and accept again after a while.

        Twisted closes their connections instead, and logs three lines for each.
        """
        if self._resting:
            return
        self._resting = True
        self.port.stopReading()
        self.port.reactor.callLater(ACCEPT_RETRY, self._wake)
        if self._cannot_accept is not None:
            self._cannot_accept(why)

    def _wake(self) -> None:
        self._resting = False
        self._watch()
