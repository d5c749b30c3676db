"""Limits are validated where they are given."""

from __future__ import annotations

from typing import Any

import pytest

from echoproto import Limits


@pytest.mark.parametrize("name", ["max_connections", "max_per_source", "max_bytes_per_second"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (2**40 + 1, ValueError),
        (10**400, ValueError),
        pytest.param(10**5000, ValueError, id="of 5001 digits"),
        (1.5, TypeError),
        (float("nan"), TypeError),
        ("5", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_whole_numbers(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(
        error, match=f"{name}=.*; allowed: 1 to [0-9]+ .*, a whole number; 0 for no limit$"
    ):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-5, ValueError),
        (-0.1, ValueError),
        (1e-9, ValueError),
        (1e9, ValueError),
        (10**400, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("5", TypeError),
        (False, TypeError),
    ],
)
def test_seconds(value: Any, error: type[Exception]) -> None:
    with pytest.raises(
        error, match=r"idle_timeout=.*; allowed: 0.1 to 31536000 seconds; 0 for no limit$"
    ):
        Limits(idle_timeout=value)


def test_what_is_right() -> None:
    limits = Limits(5, 2, 1.5, 1000)
    assert (limits.max_connections, limits.max_per_source) == (5, 2)
    assert Limits(idle_timeout=3).idle_timeout == 3


def test_without_limits_nothing_is_made() -> None:
    limits = Limits()
    made: list[Any] = [
        limits.make_slots(lambda: 0),
        limits.make_source_gate(),
        limits.make_pacers(lambda: None),  # type: ignore[arg-type, return-value]
        limits.make_sweep(set, lambda: None),  # type: ignore[arg-type, return-value]
    ]
    assert made == [None] * 4
