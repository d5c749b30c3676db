"""Each fault of time and of numbers is found and explained right; ``rows.py`` takes ten seeds."""

from __future__ import annotations

import pytest

from tests.probe.rows import CLEAN, ROWS, Row, clean, find

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_fault_of_time_or_of_numbers_is_found(row: Row) -> None:
    told = []
    # Load can hide a fault of time, or move its threshold; but not every time.
    for seed in range(3):
        failure, result = find(row, seed)
        if failure is not None:
            return
        told += [one.explanation and one.explanation.text for one in result.failures]
    raise AssertionError(told)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", CLEAN)
def test_a_path_that_is_only_late_is_not_accused(fault: str) -> None:
    result = clean(fault, seed=0)
    assert result.failures == []
    assert result.exit_code == 0, result.error
