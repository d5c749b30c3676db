from __future__ import annotations

from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.verdict import Action
from echoproto.probe.wire.waiting import Waiting

LIMITS = Limits(stall=30, half_close=True, total=60, late=1, max_delay=3)


def open_at(now: float) -> Waiting:
    waiting = Waiting(LIMITS, 0.0)
    waiting.begin(now, own_seconds=5)
    return waiting


def test_late_comes_before_over() -> None:
    waiting = open_at(10)
    assert not waiting.is_late(11)
    assert waiting.is_late(11.1)
    assert not waiting.is_over(39.9)
    assert waiting.is_over(40)
    assert waiting.wake() == 40
    assert waiting.deadline == 75


def test_the_longest_wait_is_kept_with_what_ended_it() -> None:
    waiting = open_at(10)
    waiting.answered(12, Action.RECEIVED, waited=True)
    waiting.answered(12.5, Action.GOT_EOF, waited=True)
    assert (waiting.longest, waiting.waited_for) == (2, Action.RECEIVED)
    assert not waiting.too_long
    waiting.answered(16, Action.GOT_EOF, waited=True)
    assert (waiting.longest, waiting.waited_for) == (3.5, Action.GOT_EOF)
    assert waiting.too_long


def test_what_was_not_waited_for_is_no_delay() -> None:
    waiting = open_at(10)
    waiting.moved(20)
    waiting.answered(21, Action.RECEIVED, waited=True)
    waiting.answered(50, Action.RECEIVED, waited=False)
    assert waiting.longest == 1
    assert waiting.last == 50
    waiting.moved(49)
    assert waiting.last == 50
