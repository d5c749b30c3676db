"""Order statistics of round trips."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["percentile"]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of a sequence.

    Args:
        ordered: the values, in ascending order; at least one.
        percent: 0 to 100.
    """
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
