"""What sockets add to a service: the epoll lane, and half-close over TLS."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort

from echoproto.net.acceptor import set_transport
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.ports import TCP_PORTS
from echoproto.net.tls import let_half_close
from echoproto.net.transports import StockTransport


class TLSHalfClose:
    """Adds half-close to the TLS layers of a service's ports."""

    def starting(self, reactor: Any) -> None:
        """Nothing to prepare."""

    def port_opened(self, port: IListeningPort) -> None:
        """Add half-close to the connections of the port."""
        let_half_close(port)

    def started(self) -> None:
        """Nothing to start."""

    def port_closing(self, port: IListeningPort, ours: bool) -> None:
        """Nothing to undo."""

    def port_closed(self, port: IListeningPort) -> None:
        """Nothing to undo."""

    def stopped(self) -> None:
        """Nothing to stop."""


class Lane:
    """Moves a service's ports into an epoll lane, on platforms that have one."""

    def __init__(self, fast: bool) -> None:
        """Create the extension; the lane is opened when the service starts.

        :param fast: whether to use an epoll lane at all.
        """
        self._fast = fast
        self._lane: EpollLane | None = None

    def starting(self, reactor: Any) -> None:
        """Open the lane below the reactor."""
        if self._fast and EpollLane.available():
            self._lane = EpollLane(reactor)

    def port_opened(self, port: IListeningPort) -> None:
        """Move the port; one that stays gets a transport with a lower memory limit."""
        adopted = self._lane is not None and self._lane.adopt(port)
        if not adopted and type(port) in TCP_PORTS:
            set_transport(port, StockTransport)

    def started(self) -> None:
        """Nothing to start."""

    def port_closing(self, port: IListeningPort, ours: bool) -> None:
        """The port stays in the lane until it is closed."""

    def port_closed(self, port: IListeningPort) -> None:
        """The port has left the lane by closing."""

    def stopped(self) -> None:
        """Close the lane."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None
