"""The median over the rounds with its spread."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """
    The median of some values and their quartiles.

    Attributes:
        median: half of the values are below, half above.
        low, high: the quartiles; the middle half of the values is between them. Single rounds
            on a busy machine do not change them.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Return the spread of `values`; None if there are none."""
        ordered = sorted(values)
        if not ordered:
            return None
        if len(ordered) == 1:
            return cls(ordered[0], ordered[0], ordered[0])
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, low, high)


def median_interval(
    values: Iterable[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """
    Return an interval that contains the true median with a confidence, whatever the distribution.

    It reaches from the k-th lowest to the k-th highest value: each value is below the true median
    with a probability of one half, so the number of those below it is binomial (the sign test).

    Returns:
        None if there are too few values: fewer than six for 95%.
    """
    ordered = sorted(values)
    n = len(ordered)
    below, k = 0.0, 0
    while k < n // 2:
        below += math.comb(n, k) / 2**n
        if 2 * below > 1 - confidence:
            break
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k else None
