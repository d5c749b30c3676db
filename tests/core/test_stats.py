"""Counters add up, and cross a pipe unchanged."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoproto.core.stats import DURATION_BOUNDS, Stats

counts = st.integers(0, 2**50)
reasons = st.dictionaries(st.sampled_from(["source", "proxy", "slots"]), st.integers(1, 2**40))
stats = st.builds(
    Stats,
    accepted=counts,
    failed=counts,
    silent=counts,
    dropped=counts,
    refused=reasons.map(Counter),
    ended=reasons.map(Counter),
    bytes_echoed=counts,
    bytes_discarded=counts,
    bytes_unreturned=counts,
    durations=st.lists(
        counts, min_size=len(DURATION_BOUNDS) + 1, max_size=len(DURATION_BOUNDS) + 1
    ),
    # Sums of these are exact.
    seconds=st.integers(0, 2**40).map(float),
)


@given(stats, stats, stats)
def test_the_order_of_a_sum_does_not_matter(one: Stats, other: Stats, third: Stats) -> None:
    assert one + other == other + one
    assert (one + other) + third == one + (other + third)
    assert one + Stats() == one


@given(stats)
def test_its_way_through_json_changes_nothing(one: Stats) -> None:
    assert Stats.from_dict(json.loads(json.dumps(one.as_dict()))) == one


def test_a_sum_leaves_its_parts_alone() -> None:
    one = Stats(accepted=1, refused=Counter(source=2), durations=[1] * 9)
    other = Stats(accepted=2, refused=Counter(source=1, proxy=4), durations=[2] * 9)
    both = one + other
    assert (both.accepted, both.refused, both.durations) == (
        3,
        {"source": 3, "proxy": 4},
        [3] * 9,
    )
    assert (one.accepted, one.refused, one.durations) == (1, {"source": 2}, [1] * 9)


@pytest.mark.parametrize(
    ("seconds", "place"), [(0, 0), (0.001, 0), (0.0011, 1), (1, 3), (3600, 7), (3601, 8)]
)
def test_durations(seconds: float, place: int) -> None:
    one = Stats()
    one.add_duration(seconds)
    assert one.durations.index(1) == place
    assert one.seconds == seconds
