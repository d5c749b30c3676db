"""The failures that are known, and whether one of them is why a session fails.

That is asked by a trial: a session that fails is a known failure only if it passes without what
that failure needs. And a session in which none of them can show finds what they hide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.contains import contains
from echoproto.probe.search.traits import Fin
from echoproto.probe.search.trigger import Trigger
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Known", "Left"]

# A session that contains several known failures has so many others without them, at most.
_MOST_VARIANTS = 8

# How often a session that failed beside others has to pass alone.
_ALONE = 3

# A failure that needs nothing that can be taken out, and occurs more seldom than this, is told from
# others by how often a session fails.
_SELDOM = 0.5
_RUNS = 4

# Two races are held in turn until each has failed so often, at most so many times and seconds.
_ENOUGH, _MOST_RACES, _RACE_SECONDS = 10, 100, 5.0

# What else a fault of one kind can look like, in another conversation.
_LOST = frozenset({Fault.TRUNCATED, Fault.STALLED, Fault.CORRUPT, Fault.EXTRA})
_LOOKS_LIKE: dict[Fault, frozenset[Fault]] = {
    Fault.TRUNCATED: _LOST | {Fault.RESET, Fault.NEVER_CLOSED},
    Fault.STALLED: _LOST | {Fault.NEVER_CLOSED},
    Fault.EXTRA: _LOST,
    Fault.RESET: frozenset({Fault.RESET, Fault.REFUSED, Fault.TRUNCATED}),
    Fault.REFUSED: frozenset({Fault.RESET, Fault.REFUSED, Fault.TRUNCATED}),
    Fault.CROSS_TALK: _LOST | {Fault.CROSS_TALK},
}

Run = Callable[[Candidate], Outcome]


@dataclass(frozen=True)
class Left:
    """What still fails without any known failure.

    Attributes:
        candidate: in which no known failure shows, as far as they can be avoided.
        outcome: of a run of it; None if it is the session itself, which was not run again.
    """

    candidate: Candidate
    outcome: Outcome | None = None


@dataclass(frozen=True)
class _One:
    trigger: Trigger
    rate: float
    index: int | None
    masked: bool

    def looks_like(self, kind: Fault) -> bool:
        """Return whether it can have this kind of verdict, too."""
        own = self.trigger.kind
        return kind is own or kind in _LOOKS_LIKE.get(own, ())

    def rate_in(self, candidate: Candidate) -> float:
        """Return how often it occurs in a candidate, where each connection may show it."""
        own = len(self.trigger.candidate.conversations)
        return min(1.0, self.rate * len(candidate.conversations) / own)


class Known:
    """The known failures of a campaign."""

    def __init__(self) -> None:
        self._all: list[_One] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, trigger: Trigger, rate: float, index: int | None, masked: bool = False) -> None:
        """Add a failure.

        Args:
            trigger: what it needs.
            rate: how often it occurs then.
            index: of the failure in the result; None for one that is not to be reported.
            masked: whether it does not show in what is run from now on.
        """
        self._all.append(_One(trigger, rate, index, masked))

    def avoided(self, candidate: Candidate) -> Candidate:
        """Return a candidate without what known failures need, as far as that can be taken out."""
        seen = {candidate}
        while ways := self._ways(candidate):
            left = max(ways[0], key=lambda one: len(one.conversations[0].payload))
            if left in seen:
                break
            seen.add(left)
            candidate = left
        return candidate

    def ending(self, candidate: Candidate) -> Candidate:
        """Return one that sends no FIN as one that must not, if a FIN can show a failure."""
        matters = any(one.trigger.needs_fin for one in self._all)
        if matters and not candidate.ends_with_fin:
            return Candidate(candidate.session, fin=False)
        return candidate

    def can_show(self, candidate: Candidate, kind: Fault | None = None) -> bool:
        """Return whether a candidate has what a known failure needs, and need not have it.

        Args:
            candidate: to be run, or that was run.
            kind: that the failure would be mistaken for; None for any.
        """
        return any(
            not one.trigger.loses(candidate)
            for one in self._present(candidate)
            if kind is None or one.looks_like(kind)
        )

    def is_in(self, candidate: Candidate) -> bool:
        """Return whether a candidate has what a known failure needs."""
        return bool(self._present(candidate))

    def index(self, candidate: Candidate, kind: Fault) -> int | None:
        """Return the index of the first known failure that a candidate has what it needs for."""
        present = self._present(candidate)
        alike = [one for one in present if one.looks_like(kind)]
        return (alike or present)[0].index

    def same(self, trigger: Trigger) -> int | None:
        """Return the index of the known failure that another one is, too, if any."""
        for one in self._all:
            if one.looks_like(trigger.kind) and (
                one.trigger.traits == trigger.traits
                or (not one.masked and _is_longer(trigger, one.trigger))
            ):
                return one.index
        return None

    def same_race(self, trigger: Trigger, run: Run) -> int | None:
        """Return the index of the known failure that another one is, too, if both are a race.

        What a race was not seen to do without some bytes, or without so many, it may do. Then it
        fails about as often without them; and the known failure needs them no more.

        Args:
            trigger: what the other one needs.
            run: runs a candidate.
        """
        for place, one in enumerate(self._all):
            if one.masked or not one.trigger.differs_in_bytes(trigger):
                continue
            if one.looks_like(trigger.kind) and _is_as_often(one.trigger, trigger, run):
                self._all[place] = replace(one, trigger=one.trigger.with_any_bytes())
                return one.index
        return None

    def explains_several(self, together: Candidate, kind: Fault) -> bool:
        """Return whether a known failure of several connections may be why one of them fails."""
        return any(
            one.looks_like(kind) and one.trigger.needs_several for one in self._present(together)
        )

    def explains(self, candidate: Candidate, kind: Fault, any_known: bool = False) -> bool:
        """Return whether a known failure may be why a candidate fails.

        Args:
            candidate: that failed.
            kind: of the failure.
            any_known: whether to count those that could be taken out, too.
        """
        return any(
            one.looks_like(kind) and one.rate >= _SELDOM
            for one in self._present(candidate)
            if any_known or one.trigger.loses(candidate)
        )

    def why(self, candidate: Candidate, kind: Fault, run: Run) -> int | Left | None:
        """Find out whether a candidate fails because of a known failure.

        Args:
            candidate: that failed.
            kind: of the failure.
            run: runs a candidate.

        Returns:
            the index of the known failure (None for one that is not reported), or what fails
            without any.
        """
        masked = [one for one in self._all if one.masked and one.trigger.is_in(candidate)]
        outcome = None
        if any(one.looks_like(kind) for one in masked):
            # It may have been run when that was not known.
            outcome = run(candidate)
            if outcome.ok:
                return masked[0].index
            kind = outcome.kind
        passed: set[Candidate] = set()

        def run_once(one: Candidate) -> Outcome:
            again = run(one)
            if again.ok:
                passed.add(one)
            return again

        if (left := self.without_fin(candidate, run_once)) is not None:
            return left
        present = self._present(candidate)
        alike = [one for one in present if one.looks_like(kind)]
        if not present or (not alike and all(one.trigger.loses(candidate) for one in present)):
            return Left(candidate, outcome)
        for variant in self._variants(candidate):
            if variant in passed:
                continue
            outcome = run(variant)
            if not outcome.ok and not self._is_stuck(variant, outcome, run):
                return Left(variant, outcome)
        return self.index(candidate, kind)

    def why_beside(
        self, candidate: Candidate, kind: Fault, together: Iterable[Candidate], run: Run
    ) -> int | Left | None:
        """Return whether a candidate failed because of a known failure of several connections.

        Args:
            candidate: what failed.
            kind: of its failure.
            together: it, with others that were held at the same time or before.
            run: runs a candidate.

        Returns:
            As :meth:`why`.
        """
        for others in together:
            if (
                others != candidate
                and self.explains_several(others, kind)
                and all(run(candidate).ok for _ in range(_ALONE))
            ):
                return self.index(others, kind)
        return Left(candidate)

    def without_fin(self, candidate: Candidate, run: Run) -> Left | None:
        """Return a candidate without its FIN, if a FIN shows a failure and this one fails without.

        Whatever fails without FIN as well is judged without.
        """
        if not candidate.ends_with_fin or not any(one.trigger.needs_fin for one in self._all):
            return None
        (without,) = Fin().taken_out(candidate)
        outcome = run(without)
        if outcome.ok or self._is_stuck(without, outcome, run):
            return None
        return Left(without, outcome)

    def _is_stuck(self, variant: Candidate, outcome: Outcome, run: Run) -> bool:
        """Return whether a known failure that cannot be taken out explains an outcome."""
        alike = [one for one in self._present(variant) if one.looks_like(outcome.kind)]
        if not alike:
            return False
        rate = max(one.rate_in(variant) for one in alike)
        if rate >= _SELDOM:
            return True
        failed = 1 + sum(not run(variant).ok for _ in range(_RUNS - 1))
        return failed / _RUNS <= max(2 * rate, _SELDOM)

    def _present(self, candidate: Candidate) -> list[_One]:
        return [one for one in self._all if not one.masked and one.trigger.is_in(candidate)]

    def _ways(self, candidate: Candidate) -> list[list[Candidate]]:
        """Return the ways to take the first known failure out that can be."""
        for one in self._present(candidate):
            if ways := one.trigger.taken_out(candidate):
                return ways
        return []

    def _variants(self, candidate: Candidate) -> list[Candidate]:
        """Return the candidate without any known failure, in several ways."""
        found: list[Candidate] = []
        todo, seen = [candidate], {candidate}
        while todo and len(found) < _MOST_VARIANTS:
            current = todo.pop(0)
            ways = self._ways(current)
            following = [one for way in ways for one in way if one not in seen]
            if not ways:
                found.append(current)
            seen.update(following)
            todo += following
        return found


def _is_as_often(known: Trigger, other: Trigger, run: Run) -> bool:
    """Return whether two failures, held in turn, fail about as often.

    One that fails a third as often as the other may fail half as often. If both always do, the
    known one would have been shrunk to the other, unless that passed by chance.
    """
    failed, runs = [0, 0], 0
    until = time.monotonic() + _RACE_SECONDS
    while runs < _MOST_RACES and min(failed) < _ENOUGH and time.monotonic() < until:
        runs += 1
        for index, trigger in enumerate((known, other)):
            failed[index] += not run(trigger.candidate).ok
    if min(failed) == runs:
        return other.is_in(known.candidate)
    return 0 < max(failed) <= 3 * min(failed)


def _is_longer(trigger: Trigger, known: Trigger) -> bool:
    """Return whether a failure is a known one, of which it was not seen what it needs."""
    candidate, own = trigger.candidate, known.candidate
    if known.exact or (known.needs_fin and not candidate.ends_with_fin):
        return False
    if trigger.special - known.special:
        return False
    return contains(candidate.session, own.session, own.fin, known.any_zero)
