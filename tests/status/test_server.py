"""The status port: opened, announced, closed."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from echoproto.net.string_endpoint import ListenError
from echoproto.status.endpoint import status_endpoint
from echoproto.status.server import StatusServer
from tests.fakes import RefusingReactor
from tests.logs import logged
from tests.status.played import FakeCollector


class Never:
    """An endpoint that does not listen at once."""

    def listen(self, factory: Any) -> Deferred[Any]:
        return Deferred()


def test_open_and_close() -> None:
    reactor = MemoryReactorClock()
    collector: Any = FakeCollector()
    server = StatusServer(status_endpoint(reactor, "9998"), collector, reactor)
    with logged() as log:
        server.open()
        assert collector.running
        assert len(reactor.tcpServers) == 1
        reactor.run()
        assert "status on" in log.text
        closed: list[object] = []
        server.close().addCallback(closed.append)
    assert not collector.running
    assert len(closed) == 1
    server.close().addCallback(closed.append)
    assert len(closed) == 2


def test_it_is_not_announced_when_it_was_closed_before_the_reactor_runs() -> None:
    reactor = MemoryReactorClock()
    server = StatusServer(
        status_endpoint(reactor, "9998"),
        FakeCollector(),  # type: ignore[arg-type]
        reactor,
    )
    with logged() as log:
        server.open()
        server.close()
        reactor.run()
    assert log.events == []


def test_what_cannot_be_opened() -> None:
    reactor = RefusingReactor(OSError(98, "in use"))
    collector: Any = FakeCollector()
    server = StatusServer(status_endpoint(reactor, "9998"), collector, reactor)
    with pytest.raises(ListenError):
        server.open()
    assert not collector.running
    server = StatusServer(Never(), collector, reactor)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        server.open()
