"""What the strategies draw, once for all tests that look at its distribution."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from echoproto.probe.script.conversation import Session
from echoproto.probe.script.strategies import payloads, sessions


def drawn(strategy: SearchStrategy[Any], count: int, seed_: int = 1) -> list[Any]:
    """The first values that a strategy draws; the same in every run."""
    values: list[Any] = []

    @seed(seed_)
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def draw(value: Any) -> None:
        values.append(value)

    draw()
    return values


@pytest.fixture(scope="session")
def some_payloads() -> list[bytes]:
    return drawn(payloads(), 1000)


@pytest.fixture(scope="session")
def some_sessions() -> list[Session]:
    return drawn(sessions(), 800)
