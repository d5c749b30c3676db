"""What sockets add to a service."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import ServerFactory

from echoproto.net import extensions
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.extensions import Lane, TLSHalfClose
from echoproto.net.transports import StockTransport, TCPTransport
from tests.reactors import run


def in_service(extension: Any, port_class: type[tcp.Port] = tcp.Port) -> tuple[Any, Any]:
    """Return the reactor and the transport of a port in a service with one extension."""

    async def main(reactor: Any) -> tuple[Any, Any]:
        extension.starting(reactor)
        port: Any = port_class(0, ServerFactory(), interface="127.0.0.1", reactor=reactor)
        port.startListening()
        extension.port_opened(port, 50)
        extension.started()
        found = type(port.reactor), port.transport
        extension.port_closing(port)
        await port.stopListening()
        extension.port_closed(port)
        extension.stopped()
        extension.stopped()
        assert not [each for each in reactor.getReaders() if isinstance(each, EpollLane)]
        return found

    return run(main)


@pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")
def test_a_fast_lane() -> None:
    assert in_service(Lane(fast=True)) == (EpollLane, TCPTransport)


def test_the_stock_lane() -> None:
    assert in_service(Lane(fast=False))[1] is StockTransport


def test_a_platform_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpollLane, "available", lambda: False)
    assert in_service(Lane(fast=True))[1] is StockTransport


@pytest.mark.parametrize("fast", [True, False])
def test_a_port_of_another_class_keeps_its_transport(fast: bool) -> None:
    class OwnPort(tcp.Port):
        """It may depend on its transport."""

    assert in_service(Lane(fast), OwnPort)[1] is tcp.Port.transport


def test_half_close_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[Any] = []
    monkeypatch.setattr(extensions, "let_half_close", ports.append)
    in_service(TLSHalfClose())
    assert len(ports) == 1
