"""The delay before a drain, and what is logged of it."""

from __future__ import annotations

from twisted.internet.task import Clock

from echoproto.drain.progress import DrainDelay, Progress
from tests.logs import logged


def delay(clock: Clock, seconds: float) -> DrainDelay:
    return DrainDelay(clock, seconds, Progress(clock, lambda: 7, lambda: 0))


def test_a_delay_logs_for_how_long_connections_are_accepted() -> None:
    clock = Clock()
    with logged() as log:
        over = delay(clock, 3).start()
        for _ in range(3):
            assert not over.called
            clock.advance(1)
    assert over.called
    assert clock.getDelayedCalls() == []
    assert log.lines == [
        f"draining: still accepting connections for {seconds} s; 7 connections"
        for seconds in (3, 2, 1)
    ]


def test_no_delay() -> None:
    clock = Clock()
    with logged() as log:
        assert delay(clock, 0).start().called
    assert clock.getDelayedCalls() == []
    assert log.lines == []


def test_a_delay_that_is_skipped() -> None:
    clock = Clock()
    begun = delay(clock, 30)
    over = begun.start()
    clock.advance(1)
    begun.skip()
    begun.skip()
    assert over.called
    assert clock.getDelayedCalls() == []
    # Or before it has begun.
    later = delay(clock, 30)
    later.skip()
    assert later.start().called
