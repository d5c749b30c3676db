"""What sockets add to a service: the epoll lane, and half-close over TLS."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort

from echoproto.base.lifecycle import Extension
from echoproto.net.acceptor import set_transport
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.ports import TCP_PORTS
from echoproto.net.tls import let_half_close
from echoproto.net.transports import StockTransport


class TLSHalfClose(Extension):
    """Adds half-close to the TLS layers of a service's ports."""

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        let_half_close(port)


class Lane(Extension):
    """Moves a service's ports into an epoll lane, on platforms that have one."""

    def __init__(self, fast: bool) -> None:
        """Create the extension; the lane is opened when the service starts.

        :param fast: whether to use an epoll lane at all.
        """
        self._fast = fast
        self._lane: EpollLane | None = None

    def starting(self, reactor: Any) -> None:
        if self._fast and EpollLane.available():
            self._lane = EpollLane(reactor)

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        adopted = self._lane is not None and self._lane.adopt(port)
        if not adopted and type(port) in TCP_PORTS:
            # One that stays gets a transport with a lower memory limit.
            set_transport(port, StockTransport)

    def stopped(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None
