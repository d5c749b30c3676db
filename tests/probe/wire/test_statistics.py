from __future__ import annotations

from echoproto.probe.wire.statistics import mean, percentile


def test_percentile() -> None:
    assert percentile([1.0], 50) == 1
    assert percentile([float(i) for i in range(1, 101)], 99) == 99
    assert percentile([1, 2, 3, 4], 50) == 2


def test_mean() -> None:
    assert mean([3.0]) == 3
    assert mean([0.1] * 10) == 0.1
