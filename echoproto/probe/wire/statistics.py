"""Statistics of round trips: what is needed of the standard module, which imports much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["mean", "median", "percentile"]


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value."""
    return math.fsum(values) / len(values)


def median(values: Iterable[float]) -> float:
    """Return the middle of at least one value; of an even number, the lower one."""
    return percentile(sorted(values), 50)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of a sequence.

    Args:
        ordered: the values, in ascending order; at least one.
        percent: 0 to 100.
    """
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
