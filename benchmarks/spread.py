"""A median over the rounds with its spread: what noise leaves of many measurements."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """
    The middle of some values and how far they lie around it.

    Attributes:
        median: half of the values lie below, half above.
        low, high: the quartiles, between which the middle half lies; single rounds in which
            something else kept the machine busy do not move them.
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
