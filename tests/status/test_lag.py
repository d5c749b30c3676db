"""How late the event loop is."""

from __future__ import annotations

from twisted.internet.task import Clock

from echoproto.status.lag import LoopLag


def test_lateness_is_measured_and_the_most_of_a_minute_kept() -> None:
    clock = Clock()
    lag = LoopLag(clock, clock.seconds)
    assert (lag.last, lag.most) == (0.0, 0.0)
    lag.start()
    clock.advance(0.25)
    assert (lag.last, lag.most) == (0.0, 0.0)
    clock.advance(2.25)
    assert (lag.last, lag.most) == (2.0, 2.0)
    for _ in range(239):
        clock.advance(0.25)
    assert (lag.last, lag.most) == (0.0, 2.0)
    clock.advance(0.25)
    assert lag.most == 0.0


def test_four_looks_a_second_and_none_after_the_end() -> None:
    clock = Clock()
    lag = LoopLag(clock, clock.seconds)
    lag.start()
    lag.start()
    (call,) = clock.getDelayedCalls()
    assert call.getTime() == 0.25
    lag.stop()
    lag.stop()
    assert clock.getDelayedCalls() == []


def test_a_time_of_day_that_is_set_is_no_lag() -> None:
    wall, steady = Clock(), Clock()
    lag = LoopLag(wall, steady.seconds)
    lag.start()
    # An hour ahead: the reactor calls at once, which is early.
    wall.advance(3600)
    assert lag.last == 0.0
