"""How a snapshot is gathered: from this process, and from workers that may be silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.task import Clock

from echoproto.core.factory import EchoFactory
from echoproto.status.collector import ProcessCollector, WorkersCollector
from echoproto.status.kernel import ListenDrops
from echoproto.status.report import Report
from echoproto.status.snapshot import Snapshot
from tests.status.played import REPORT


class FakeService:
    """A service of one process."""

    def __init__(self) -> None:
        self.factory = EchoFactory()
        self.ports: list[Any] = []
        self.running = 1


class FakeWorkers:
    """A parent, whose workers say what the test has them say."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pids = {f"worker {n + 1}": 100 + n for n in range(count)}
        self.ports: list[Any] = []
        self.running = 1
        self.draining = False
        self.told: list[tuple[str, str, bool]] = []
        self.handlers: dict[str, Any] = {}

    def on(self, kind: str, handler: Any) -> None:
        self.handlers[kind] = handler

    def tell(self, name: str, kind: str, sources: bool) -> None:
        self.told.append((name, kind, sources))

    def say(self, number: int, **changed: Any) -> None:
        """A worker answers."""
        name = f"worker {number}"
        report = replace(REPORT, **{"pid": self.pids[name], **changed})
        self.handlers["report"](name, **report.as_message())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers(2)


@pytest.fixture
def collector(workers: FakeWorkers, clock: Clock) -> WorkersCollector:
    made = WorkersCollector(workers, clock, {"workers": "2"})
    made.start()
    return made


def asked(collector: Any, sources: bool = False) -> list[Snapshot]:
    """Ask; the answer will be in the list."""
    answers: list[Snapshot] = []
    collector.collect(sources).addCallback(answers.append)
    return answers


def test_one_process(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    drops = [ListenDrops(10, 20, 30), ListenDrops(11, 25, 37)]
    monkeypatch.setattr("echoproto.status.collector.read_drops", lambda: drops.pop(0))
    service: Any = FakeService()
    service.factory.accepted = 3
    collector = ProcessCollector(service, clock, {"port": "7"}, max_live=5)
    collector.start()
    (told,) = asked(collector)
    assert (told.total.accepted, told.workers, told.answering) == (3, False, 1)
    assert told.drops == ListenDrops(1, 5, 7)
    assert (told.settings, told.max_live, told.listening) == ({"port": "7"}, 5, False)
    assert told.uptime >= 0
    collector.stop()
    assert clock.getDelayedCalls() == []


def test_no_counters_in_the_kernel(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoproto.status.collector.read_drops", lambda: None)
    collector = ProcessCollector(FakeService(), clock, {})  # type: ignore[arg-type]
    collector.start()
    assert asked(collector)[0].drops is None


def test_a_service_that_has_been_stopped_drains(clock: Clock) -> None:
    service: Any = FakeService()
    collector = ProcessCollector(service, clock, {})
    collector.start()
    assert not asked(collector)[0].draining
    service.running = 0
    assert asked(collector)[0].draining
    # With a delay, it still runs.
    service.running, service.draining = 1, True
    assert asked(collector)[0].draining


def test_all_answer(collector: WorkersCollector, workers: FakeWorkers) -> None:
    answers = asked(collector)
    assert workers.told == [("worker 1", "report", False), ("worker 2", "report", False)]
    workers.say(1, accepted=5)
    assert answers == []
    workers.say(2, accepted=7)
    (told,) = answers
    assert told.total.accepted == 12
    assert told.workers
    assert [(each.name, each.pid, each.answering) for each in told.processes] == [
        ("worker 1", 100, True),
        ("worker 2", 101, True),
    ]


def test_those_who_ask_meanwhile_share_the_answer(
    collector: WorkersCollector, workers: FakeWorkers
) -> None:
    first, second = asked(collector), asked(collector)
    workers.say(1)
    workers.say(2)
    assert len(workers.told) == 2
    assert first == second
    assert len(first) == 1


def test_who_wants_sources_too_asks_again(
    collector: WorkersCollector, workers: FakeWorkers
) -> None:
    plain, full, full_too = asked(collector), asked(collector, True), asked(collector, True)
    workers.say(1, sources={})
    workers.say(2, sources={})
    assert len(plain) == 1
    assert full == []
    assert workers.told[2:] == [("worker 1", "report", True), ("worker 2", "report", True)]
    workers.say(1)
    workers.say(2)
    assert full[0].total.sources == {"192.0.2.1": 4, "2001:db8::/64": 2}
    assert full_too == full


def test_a_silent_worker_is_told_with_its_last_words(
    collector: WorkersCollector, workers: FakeWorkers, clock: Clock
) -> None:
    asked(collector)
    workers.say(1, accepted=5)
    workers.say(2, accepted=7)
    answers = asked(collector)
    workers.say(1, accepted=6)
    assert answers == []
    clock.advance(0.75)
    (told,) = answers
    assert told.total.accepted == 13
    assert [each.answering for each in told.processes] == [True, False]
    # From now on nobody waits for it, and its pipe is not filled with questions.
    del workers.told[:]
    answers = asked(collector)
    workers.say(1, accepted=8)
    assert answers[0].total.accepted == 15
    assert workers.told == [("worker 1", "report", False)]
    # It answers the one question late, and is back.
    workers.say(2, accepted=9)
    answers = asked(collector)
    workers.say(1, accepted=8)
    workers.say(2, accepted=9)
    assert [each.answering for each in answers[0].processes] == [True, True]


def test_nobody_answers(collector: WorkersCollector, workers: FakeWorkers, clock: Clock) -> None:
    answers = asked(collector)
    clock.advance(0.75)
    assert answers[0].not_healthy == "no worker answers"
    answers = asked(collector)
    clock.advance(0)
    assert answers[0].answering == 0


def test_what_a_worker_counted_that_is_gone_stays(
    collector: WorkersCollector, workers: FakeWorkers, clock: Clock
) -> None:
    asked(collector)
    workers.say(1, accepted=5, live=5)
    workers.say(2, accepted=7, live=2)
    del workers.pids["worker 1"]
    answers = asked(collector)
    workers.say(2, accepted=7, live=2)
    assert (answers[0].total.accepted, answers[0].total.live) == (12, 2)
    assert [each.pid for each in answers[0].processes] == [0, 101]
    # Its successor begins at nothing, and has yet to say so.
    workers.pids["worker 1"] = 200
    answers = asked(collector)
    workers.say(2, accepted=7, live=2)
    clock.advance(0.75)
    assert (answers[0].total.accepted, answers[0].total.live) == (12, 2)
    assert answers[0].processes[0].report == Report()
    for accepted in (1, 2):
        workers.say(1, accepted=accepted, live=1)
        answers = asked(collector)
        workers.say(1, accepted=accepted, live=1)
        workers.say(2, accepted=7, live=2)
        assert (answers[0].total.accepted, answers[0].total.live) == (12 + accepted, 3)


def test_the_last_word_of_one_that_ends_counts(
    collector: WorkersCollector, workers: FakeWorkers
) -> None:
    workers.say(1, accepted=5, live=0)
    workers.say(2, accepted=7, live=0)
    workers.pids.clear()
    workers.draining = True
    collector.stop()
    (told,) = asked(collector)
    assert told.total.accepted == 12
    assert told.not_healthy is None


def test_who_waits_is_told_when_it_stops(
    collector: WorkersCollector, workers: FakeWorkers, clock: Clock
) -> None:
    plain, full = asked(collector), asked(collector, True)
    collector.stop()
    assert (len(plain), len(full)) == (1, 1)
    assert clock.getDelayedCalls() == []
