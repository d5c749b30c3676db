"""Temporary."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort

from echoproto.base.lifecycle import Extension
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.tls import let_half_close
from echoproto.net.transports import StockTransport


class TLSHalfClose(Extension):
    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        let_half_close(port)


class Lane(Extension):
    def __init__(self, fast: bool) -> None:
        self._fast = fast
        self._lane: EpollLane | None = None

    def starting(self, reactor: Any) -> None:
        if self._fast and EpollLane.available():
            self._lane = EpollLane(reactor)

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        taken = self._lane is not None and self._lane.take(port)
        if not taken and type(port) is tcp.Port:
            port.transport = StockTransport

    def stopped(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None
