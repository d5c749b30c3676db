"""The median over the rounds with its spread."""

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
