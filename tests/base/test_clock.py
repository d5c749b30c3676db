"""The clock of delayed calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock

from echoproto.base.clock import use_monotonic_clock
from tests.reactors import run


class WallClock:
    """A clock that can be set."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def __call__(self) -> float:
        return time.time() + self.set_by


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """The clock that a reactor uses by default."""
    clock = WallClock()
    monkeypatch.setattr(ReactorBase, "seconds", staticmethod(clock))
    return clock


def asyncio_reactor() -> AsyncioSelectorReactor:
    return AsyncioSelectorReactor(asyncio.new_event_loop())


@pytest.fixture(params=[SelectReactor, asyncio_reactor])
def reactor(request: pytest.FixtureRequest, wall: WallClock) -> Iterator[Any]:
    make: Callable[[], Any] = request.param
    made = make()
    yield made
    if isinstance(made, AsyncioSelectorReactor):
        made._asyncioEventloop.close()


# A delay that the jump affects would last half a minute, or no time at all.
@pytest.mark.parametrize("jump", [-30.0, 30.0])
def test_a_delay_keeps_its_length_when_the_wall_clock_is_set(
    reactor: Any, wall: WallClock, jump: float
) -> None:
    async def main(reactor: Any) -> float:
        began = time.monotonic()
        delay: Deferred[object] = deferLater(reactor, 0.1)
        wall.set_by = jump
        await delay
        return time.monotonic() - began

    use_monotonic_clock(reactor)
    assert 0.1 <= run(main, reactor) < 20.0


def test_a_reactor_with_delayed_calls_keeps_its_clock() -> None:
    reactor = MemoryReactorClock()
    reactor.callLater(1, lambda: None)
    use_monotonic_clock(reactor)
    assert reactor.seconds() == 0.0
