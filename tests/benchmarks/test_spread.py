"""Medians and quartiles."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.spread import Spread, median_interval


def test_of_nothing_and_of_one() -> None:
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)


def test_outliers_do_not_move_it() -> None:
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([5.0, 2.0, 3.0, 4.0, -1e9]) == Spread(3.0, 2.0, 4.0)


def test_the_interval_of_a_median() -> None:
    # From tables of the sign test: for 95%, the ranks that it reaches from and to.
    assert median_interval(range(1, 6)) is None
    assert median_interval(range(1, 7)) == (1, 6)
    assert median_interval(range(1, 16)) == (4, 12)
    assert median_interval(range(1, 31)) == (10, 21)
    assert median_interval(range(30, 0, -1), 0.99) == (8, 23)


@given(st.lists(st.integers(1, 1000), min_size=1))
def test_order(values: list[int]) -> None:
    found = Spread.of(values)
    assert found
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
