"""The supervisor: starts that fail, workers that hang, and the ones that accept for them."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated

from echoproto import TCPEndpoint
from echoproto.net import ports
from echoproto.workers.parent import WorkersService
from tests.logs import logged
from tests.workers.fakes import FakeProcess, FakeReactor, pass_time, report, say


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> FakeReactor:
    monkeypatch.setattr(ports, "_make_binding", lambda *args, **named: 0)
    return FakeReactor()


def start(reactor: FakeReactor, count: int, **named: Any) -> WorkersService:
    service = WorkersService(TCPEndpoint(reactor, 0), count, reactor=reactor, **named)
    service.startService()
    return service


def start_ready(reactor: FakeReactor, count: int, **named: Any) -> WorkersService:
    """Start workers that become ready at once."""
    service = start(reactor, count, **named)
    for process in reactor.processes:
        say(process, "ready")
    return service


def covers(process: FakeProcess) -> list[list[int]]:
    """Return for which workers this one was told to accept, one list for each order."""
    orders = [json.loads(line) for line in process.told.splitlines()]
    return [order["workers"] for order in orders if order["kind"] == "cover"]


def prints(process: FakeProcess, text: str) -> None:
    """Let a worker write to its standard error."""
    process.protocol.childDataReceived(2, text.encode())


FAILURES = {
    "it says why": (
        lambda process: say(process, "failed", why="ssl:1: no key; allowed: a key"),
        ProcessTerminated(exitCode=1),
        "ssl:1: no key; allowed: a key",
    ),
    "it ends in a traceback": (
        lambda process: prints(process, "Traceback (most recent call last):\n\nNoSuch: x\n\n"),
        ProcessTerminated(exitCode=1),
        "NoSuch: x",
    ),
    "it says nothing": (lambda process: None, ProcessTerminated(exitCode=3), "exit code 3"),
    "it ends cleanly": (lambda process: None, ProcessDone(0), "exit code 0"),
    "it is killed": (lambda process: None, ProcessTerminated(signal=9), "killed by signal 9"),
}


@pytest.mark.parametrize(("act", "reason", "why"), FAILURES.values(), ids=FAILURES)
def test_a_start_that_fails_is_one_line_and_tried_again_less_and_less(
    reactor: FakeReactor, act: Any, reason: Exception, why: str
) -> None:
    service = start(reactor, 2)
    say(reactor.processes[0], "ready")
    for delay in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0):
        process = reactor.processes[-1]
        # A slow start does not count as a life.
        pass_time(reactor, 3, *reactor.processes)
        with logged() as log:
            act(process)
            process.end(reason)
        assert log.lines == [f"worker 2 could not start ({why}); a new one starts in {delay} s"]
        before = len(reactor.processes)
        for _ in range(int(delay * 10)):
            assert len(reactor.processes) == before
            reactor.advance(0.1)
            report(reactor.processes[0], live=0, echoed=0)
        reactor.advance(0.01)
        assert len(reactor.processes) == before + 1
    assert service.start_failure is None


def test_when_no_worker_has_ever_started_it_is_said(reactor: FakeReactor) -> None:
    service = start(reactor, 3)
    failed = service.when_start_failed()
    for number, process in enumerate(tuple(reactor.processes)):
        assert not failed.called
        say(process, "failed", why=f"reason {number}")
        process.end(ProcessTerminated(exitCode=1))
    assert failed.called
    assert service.start_failure == "reason 2"


def test_one_that_started_is_enough(reactor: FakeReactor) -> None:
    service = start(reactor, 2)
    failed = service.when_start_failed()
    first, second = reactor.processes
    say(first, "ready")
    for process in (first, second):
        process.end(ProcessTerminated(exitCode=1))
    assert not failed.called
    assert service.start_failure is None


def test_a_process_that_the_system_refuses_is_tried_again(
    reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = reactor.spawnProcess

    def refuse(*args: Any, **named: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(reactor, "spawnProcess", refuse)
    with logged() as log:
        service = start(reactor, 1)
        failed = service.when_start_failed()
        reactor.advance(0)
    (line,) = log.lines
    assert line.startswith("worker 1 could not start (cannot start /")
    assert line.endswith(": Resource temporarily unavailable); a new one starts in 0.1 s")
    assert failed.called
    monkeypatch.setattr(reactor, "spawnProcess", spawn)
    reactor.advance(0.1)
    say(reactor.processes[0], "ready")
    assert service.when_ready().called


def test_a_refused_process_does_not_keep_it_from_stopping(
    reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **named: Any) -> Any:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(reactor, "spawnProcess", refuse)
    service = start(reactor, 2)
    assert set(service.pids.values()) == {0}
    over = service.stopService()
    service.abort()
    reactor.advance(0)
    assert over.called


def test_what_a_worker_prints_is_logged_once_it_has_started(reactor: FakeReactor) -> None:
    start(reactor, 1)
    (process,) = reactor.processes
    with logged("twisted.runner.procmon") as log:
        prints(process, "a warning\n")
        assert not log.lines
        say(process, "ready")
        prints(process, "another\n")
    assert log.lines == ["[worker 1] a warning", "[worker 1] another"]


def test_a_worker_that_hangs_is_said_covered_killed_and_replaced(reactor: FakeReactor) -> None:
    start_ready(reactor, 3, worker_timeout=10)
    first, second, third = reactor.processes
    assert [covers(each)[-1:] for each in (first, second, third)] == [[[]], [[]], []]
    with logged() as log:
        pass_time(reactor, 3, first, third)
        assert not log.lines
        pass_time(reactor, 1, first, third)
        assert log.lines == [
            "worker 2 does not answer (no report for 4 s); it is killed after 10 s"
        ]
        assert [covers(each)[-1] for each in (first, third)] == [[1], [1]]
        assert covers(second)[-1] == []
        pass_time(reactor, 5, first, third)
        assert second.signals == []
        pass_time(reactor, 1, first, third)
        assert second.signals == ["KILL"]
        # It may take a while to end, as in a call that cannot be interrupted.
        pass_time(reactor, 3, first, third)
        assert second.signals == ["KILL"]
        assert log.lines[1:] == ["worker 2 has not answered for 10 s: killing pid 4711"]
        second.end(ProcessTerminated(signal=9))
    # It is still away.
    assert covers(first)[-1] == [1]
    reactor.advance(0)
    replacement = reactor.processes[-1]
    say(replacement, "ready")
    assert [covers(each)[-1] for each in (first, third)] == [[], []]
    assert covers(replacement) == []


def test_one_that_answers_again_is_left_alone(reactor: FakeReactor) -> None:
    service = start_ready(reactor, 2, worker_timeout=10)
    first, second = reactor.processes
    pass_time(reactor, 8, first)
    assert [each.answering for each in service.processes()] == [True, False]
    with logged() as log:
        pass_time(reactor, 60, first, second)
    assert log.lines == ["worker 2 answers again"]
    assert covers(first)[-2:] == [[1], []]
    assert second.signals == []


def test_without_a_timeout_none_is_killed(reactor: FakeReactor) -> None:
    start_ready(reactor, 2, worker_timeout=0)
    first, second = reactor.processes
    with logged() as log:
        pass_time(reactor, 1000, first)
    assert log.lines == ["worker 2 does not answer (no report for 4 s); it is left alone"]
    assert second.signals == []


def test_a_start_that_hangs_gets_more_time(reactor: FakeReactor) -> None:
    start(reactor, 2, worker_timeout=5)
    first, second = reactor.processes
    say(first, "ready")
    pass_time(reactor, 59, first)
    assert second.signals == []
    assert covers(first) == [[1]]
    pass_time(reactor, 1, first)
    assert second.signals == ["KILL"]


def test_a_parent_that_was_stopped_does_not_blame_its_workers(reactor: FakeReactor) -> None:
    start_ready(reactor, 2, worker_timeout=10)
    first, second = reactor.processes
    with logged() as log:
        # The reports of this time wait in the pipes; timed calls run before they are read.
        reactor.advance(100)
        report(first, live=0, echoed=0)
        report(second, live=0, echoed=0)
        pass_time(reactor, 5, first, second)
    assert not log.lines
    assert first.signals == second.signals == []


def test_a_worker_that_hangs_in_a_drain_is_killed_and_not_replaced(reactor: FakeReactor) -> None:
    service = start_ready(reactor, 2, worker_timeout=10, drain_timeout=1000)
    first, second = reactor.processes
    over = service.stopService()
    pass_time(reactor, 10, first)
    assert second.signals == ["TERM", "KILL"]
    second.end(ProcessTerminated(signal=9))
    assert covers(first)[-1] == []
    first.end(ProcessDone(0))
    assert over.called
    assert not reactor.getDelayedCalls()


def test_a_worker_that_does_not_drain_is_said(reactor: FakeReactor) -> None:
    service = start_ready(reactor, 2, worker_timeout=30, drain_timeout=1)
    first, second = reactor.processes
    over = service.stopService()
    with logged() as log:
        pass_time(reactor, 6, first)
        assert second.signals == ["TERM", "KILL"]
        second.end(ProcessTerminated(signal=9))
        first.end(ProcessDone(0))
    assert over.called
    assert [line for line in log.lines if line.startswith("worker")] == [
        "worker 2 does not answer (no report for 4 s); it is killed 6 s after the order to stop",
        "worker 2 ended (killed by signal 9) before it had drained",
    ]


def test_one_that_has_just_ended_cannot_be_killed(
    reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> None:
        raise ProcessExitedAlready

    start(reactor, 1, worker_timeout=5)
    (process,) = reactor.processes
    say(process, "ready")
    monkeypatch.setattr(process, "signalProcess", gone)
    pass_time(reactor, 6)
    process.end(ProcessTerminated(signal=11))
    reactor.advance(0)
    assert len(reactor.processes) == 2
