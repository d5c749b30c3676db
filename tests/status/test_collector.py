"""How a snapshot is gathered: from this process, and from what workers have reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.task import Clock

from echoproto import EchoFactory, EchoService
from echoproto.status.collector import ProcessCollector, WorkersCollector
from echoproto.status.health import Health
from echoproto.status.kernel import ListenDrops
from echoproto.status.report import Report, total
from echoproto.status.snapshot import Process
from tests.status.played import REPORT
from tests.transports import TCPLikeTransport


class FakeWorkers:
    """A parent with two workers."""

    def __init__(self) -> None:
        self.ports: list[Any] = []
        self.running = 1
        self.draining = False
        self.asked: list[bool] = []
        self.reports = [
            Process("worker 1", 100, True, replace(REPORT, pid=100)),
            Process("worker 2", 101, False, replace(REPORT, pid=101)),
        ]

    def processes(self, sources: bool) -> list[Process]:
        self.asked.append(sources)
        return self.reports

    def total(self) -> Report:
        return total(each.report for each in self.reports)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock) -> EchoService:
    service = EchoService([], EchoFactory(reactor=clock), reactor=clock)
    service.running = 1
    return service


def test_one_process(service: EchoService, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    drops = [ListenDrops(10, 20, 30), ListenDrops(11, 25, 37)]
    monkeypatch.setattr("echoproto.status.collector.read_drops", lambda: drops.pop(0))
    service.factory.buildProtocol(None).makeConnection(TCPLikeTransport())
    collector = ProcessCollector(service, clock, {"port": "7"}, max_live=5)
    collector.start()
    shown = collector.collect(sources=True)
    assert (shown.total.stats.accepted, shown.workers, shown.health.answering) == (1, False, 1)
    assert shown.total.sources == {"192.168.1.1": 1}
    assert shown.drops == ListenDrops(1, 5, 7)
    assert (shown.settings, shown.max_live, shown.health.listening) == ({"port": "7"}, 5, False)
    assert shown.uptime >= 0
    collector.stop()
    assert clock.getDelayedCalls() == []


def test_the_sources_are_counted_once_a_second_at_most(service: EchoService, clock: Clock) -> None:
    def enter() -> None:
        service.factory.buildProtocol(None).makeConnection(TCPLikeTransport())

    enter()
    collector = ProcessCollector(service, clock, {}, clock=clock.seconds)
    collector.start()
    assert collector.collect().total.sources == {}
    assert collector.collect(sources=True).total.sources == {"192.168.1.1": 1}
    enter()
    clock.advance(0.9)
    shown = collector.collect(sources=True).total
    # All else is of now.
    assert (shown.sources, shown.live) == ({"192.168.1.1": 1}, 2)
    assert collector.collect().total.sources == {}
    clock.advance(0.2)
    assert collector.collect(sources=True).total.sources == {"192.168.1.1": 2}


def test_no_counters_in_the_kernel(
    service: EchoService, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.status.collector.read_drops", lambda: None)
    collector = ProcessCollector(service, clock, {})
    collector.start()
    assert collector.collect().drops is None


def test_a_check_of_the_health_looks_at_no_connection(
    service: EchoService, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Balancers ask for it all the time, and with 10,000 connections a look takes 2 ms."""
    collector = ProcessCollector(service, clock, {})
    collector.start()
    for name in ("Report.of", "read_drops", "read_listeners"):
        monkeypatch.delattr(f"echoproto.status.collector.{name}")
    assert collector.health() == Health(listening=False, draining=False, serving=1, answering=1)
    assert collector.health().not_ready == "not listening"


def test_a_service_that_has_been_stopped_drains(service: EchoService, clock: Clock) -> None:
    collector = ProcessCollector(service, clock, {})
    collector.start()
    assert not collector.health().draining
    service.running = 0
    assert collector.health().draining
    # With a delay, it still runs.
    service.running, service.draining = 1, True
    assert collector.health().draining


def test_workers(clock: Clock) -> None:
    workers = FakeWorkers()
    collector = WorkersCollector(workers, clock, {"workers": "2"})
    collector.start()
    shown = collector.collect(sources=True)
    assert workers.asked == [True]
    assert shown.workers
    assert shown.total.stats == REPORT.stats + REPORT.stats
    assert shown.processes == tuple(workers.reports)
    assert (shown.health.answering, shown.health.not_healthy) == (1, None)
    assert collector.health() == shown.health


def test_no_worker_answers(clock: Clock) -> None:
    workers = FakeWorkers()
    del workers.reports[0]
    collector = WorkersCollector(workers, clock, {})
    collector.start()
    assert collector.health().not_healthy == "no worker answers"
    workers.draining = True
    assert collector.health().not_healthy is None
