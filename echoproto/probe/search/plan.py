"""What is held on a path, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from echoproto.probe.script.conversation import Await, HalfClose, Session
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.result import Phase

__all__ = ["Plan", "Planned"]

# How long one session's bytes may take.
_SECONDS_EACH = 5.0

# A session that waits for so many seconds is held in the background.
_WAITS = 0.5

# How long all bytes under way may take: what waits longer would seem to be late.
_SECONDS_AT_ONCE = 0.5

# Sessions under way at the same time where only the round trip limits them, on average.
_AT_ONCE = 32


@dataclass(frozen=True)
class Planned:
    """One session to hold.

    Attributes:
        phase: catalogue, fuzz or idle.
        name: its number in the catalogue, its count in the fuzz phase, or how long it is silent.
        title: its title in the catalogue; else empty.
        session: what to run.
        fin: whether its conversations end with a FIN where the path bears that.
    """

    phase: Phase
    name: str
    title: str
    session: Session
    fin: bool = True

    @property
    def parallel(self) -> int:
        """How many connections it has open at the same time."""
        return 1 if self.session.sequential else len(self.session.conversations)

    @property
    def waits(self) -> bool:
        """Whether most of its time is its own waiting, on any path."""
        each = [conversation.own_seconds for conversation in self.session.conversations]
        return (sum(each) if self.session.sequential else max(each)) >= _WAITS

    @property
    def absent(self) -> bool:
        """Whether it needs a time without any connection."""
        return self.session.has_absence

    @cached_property
    def size(self) -> int:
        """How many bytes it sends; a session under way is asked for each one that follows."""
        return sum(len(conversation.payload) for conversation in self.session.conversations)


class Plan:
    """How long things take on a path.

    Args:
        known: what the preflight found.
    """

    def __init__(self, known: Preflight) -> None:
        self._known = known

    @property
    def most_bytes(self) -> float:
        """The largest session that the path carries in time, in bytes; infinite for no limit."""
        return self._known.rate * _SECONDS_EACH

    @property
    def bytes_at_once(self) -> float:
        """How many bytes may be under way, so that sessions do not wait for each other's."""
        return self._known.rate * _SECONDS_AT_ONCE

    def seconds(self, sample: Sequence[Planned], count: int) -> float:
        """Return about how long so many sessions take, in seconds.

        Args:
            sample: some of them.
            count: how many there are.
        """
        if not sample:
            return 0.0
        trips = sum(map(_round_trips, sample)) * self._known.round_trip / _AT_ONCE
        carrying = sum(planned.size for planned in sample) / self._known.rate
        return max(trips, carrying) * count / len(sample)


def _round_trips(planned: Planned) -> int:
    """Return how many round trips a session takes: connect, each wait, and the end."""
    each = []
    for conversation in planned.session.conversations:
        steps = conversation.steps
        ends = not steps or not isinstance(steps[-1], HalfClose)
        each.append(1 + sum(isinstance(step, Await | HalfClose) for step in steps) + ends)
    return sum(each) if planned.session.sequential else max(each)
