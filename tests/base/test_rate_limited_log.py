"""One event is a line; many within a second are one line too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger

from echoproto.base.rate_limited_log import RateLimitedLog
from tests.logs import logged

LOG = Logger(namespace="echoproto.test")


def test_the_first_is_told_at_once_and_the_rest_in_one_line() -> None:
    clock = Clock()
    tally = RateLimitedLog(LOG, clock)
    with logged() as log:
        for number in range(5):
            tally.tell("refused", "refused {client}", client=number)
        assert log.lines == ["refused 0"]
        clock.advance(1)
        assert log.lines[1:] == ["refused 4 (and 3 more of this kind within a second)"]
        assert log.events[1]["more"] == 3
        tally.tell("refused", "refused {client}", client=5)
        clock.advance(1)
        assert log.lines[2:] == ["refused 5"]
        clock.advance(1)
        tally.tell("refused", "refused {client}", client=6)
        assert log.lines[3:] == ["refused 6"]
        clock.advance(1)
        assert not clock.getDelayedCalls()


def test_kinds_do_not_hide_each_other() -> None:
    tally = RateLimitedLog(LOG, Clock())
    with logged() as log:
        tally.tell("one", "first")
        tally.tell("other", "second")
    assert log.lines == ["first", "second"]


def test_the_line_that_counts_says_whose_they_are() -> None:
    clock = Clock()
    tally = RateLimitedLog(LOG, clock)
    with logged() as log:
        tally.tell("kind", "{who} did it", "a", who="a")
        for who in "aabbbbcdde":
            tally.tell("kind", "{who} did it", who, who=who)
        clock.advance(1)
    assert log.lines[1] == (
        "e did it (and 9 more of this kind within a second, "
        "in all 4 of b, 2 of a, 2 of d, and those of 2 others)"
    )


def test_what_is_left_can_be_told_at_once() -> None:
    clock = Clock()
    tally = RateLimitedLog(LOG, clock)
    with logged() as log:
        tally.tell("kind", "{which}", which="first")
        tally.flush()
        assert log.lines == ["first"]
        for which in "abc":
            tally.tell("kind", "{which}", which=which)
        tally.flush()
    assert log.lines[1:] == ["a", "c (and 1 more of this kind within a second)"]
    assert not clock.getDelayedCalls()


@given(st.lists(st.floats(0, 3), max_size=50))
def test_all_are_counted_in_a_line_a_second(pauses: list[float]) -> None:
    clock = Clock()
    tally = RateLimitedLog(LOG, clock)
    with logged() as log:
        for pause in pauses:
            tally.tell("kind", "it happened")
            clock.advance(pause)
        clock.advance(1)
    assert sum(1 + event.get("more", 0) for event in log.events) == len(pauses)
    assert len(log.lines) <= 2 + clock.seconds()
    assert clock.seconds() == pytest.approx(sum(pauses) + 1)
