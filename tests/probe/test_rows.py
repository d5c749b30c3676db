"""Each fault of time and of numbers is found and explained right; ``rows.py`` takes ten seeds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.probe.rows import CLEAN, ROWS, Row, clean, find

pytestmark = pytest.mark.slow

# test_finds_faults.py has these, or ones of the same fault and of about the same time.
SHORT = ("=100ms", "=300ms", "=500ms", "=1000ms")


# 16 MiB take a busy machine long, and its own silences are taken for the path's.
BY_LOAD = ("stall-at=16M", "idle-cut=2000ms")


def marked(row: Row) -> Any:
    return pytest.param(row, marks=[] if row.fault in BY_LOAD else pytest.mark.waits)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "row", [marked(row) for row in ROWS if not row.fault.endswith(SHORT)], ids=str
)
def test_a_fault_of_time_or_of_numbers_is_found(row: Row) -> None:
    told = []
    # Load can hide a fault of time, or move its threshold; but not every time.
    for seed in range(3):
        failure, result = find(row, seed)
        if failure is not None:
            return
        told += [one.explanation and one.explanation.text for one in result.failures]
    raise AssertionError(told)


@pytest.mark.waits
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", CLEAN)
def test_a_path_that_is_only_late_is_not_accused(fault: str) -> None:
    result = clean(fault, seed=0)
    assert result.failures == []
    assert result.exit_code == 0, result.error
