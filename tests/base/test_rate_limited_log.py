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
    limited = RateLimitedLog(LOG, lambda: clock)
    with logged() as log:
        for number in range(5):
            limited.warn("refused", "refused {client}", client=number)
        assert log.lines == ["refused 0"]
        clock.advance(1)
        assert log.lines[1:] == ["refused 4 (and 3 more in the last second)"]
        assert log.events[1]["more"] == 3
        limited.warn("refused", "refused {client}", client=5)
        clock.advance(1)
        assert log.lines[2:] == ["refused 5"]
        clock.advance(1)
        limited.warn("refused", "refused {client}", client=6)
        assert log.lines[3:] == ["refused 6"]
        clock.advance(1)
        assert not clock.getDelayedCalls()


def test_kinds_do_not_hide_each_other() -> None:
    limited = RateLimitedLog(LOG, Clock)
    with logged() as log:
        limited.warn("one", "first")
        limited.warn("other", "second")
    assert log.lines == ["first", "second"]


def test_the_line_that_counts_names_the_sources() -> None:
    clock = Clock()
    limited = RateLimitedLog(LOG, lambda: clock)
    with logged() as log:
        limited.warn("kind", "{who} did it", "a", who="a")
        for who in "aabbbbcdde":
            limited.warn("kind", "{who} did it", who, who=who)
        clock.advance(1)
    assert log.lines[1] == (
        "e did it (and 9 more in the last second; "
        "in total 4 from b, 2 from a, 2 from d, and others from 2 more sources)"
    )


def test_what_is_left_can_be_told_at_once() -> None:
    clock = Clock()
    limited = RateLimitedLog(LOG, lambda: clock)
    with logged() as log:
        limited.warn("kind", "{which}", which="first")
        limited.flush()
        assert log.lines == ["first"]
        for which in "abc":
            limited.warn("kind", "{which}", which=which)
        limited.flush()
    assert log.lines[1:] == ["a", "c (and 1 more in the last second)"]
    assert not clock.getDelayedCalls()


@given(st.lists(st.floats(0, 3), max_size=50))
def test_all_are_counted_in_a_line_a_second(pauses: list[float]) -> None:
    clock = Clock()
    limited = RateLimitedLog(LOG, lambda: clock)
    with logged() as log:
        for pause in pauses:
            limited.warn("kind", "it happened")
            clock.advance(pause)
        clock.advance(1)
    assert sum(1 + event.get("more", 0) for event in log.events) == len(pauses)
    assert len(log.lines) <= 2 + clock.seconds()
    assert clock.seconds() == pytest.approx(sum(pauses) + 1)
