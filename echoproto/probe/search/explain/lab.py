"""Runs the experiments on one failure, within a budget."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import Session, key_of
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Budget", "Lab", "SpentError", "Trial", "room_for"]

Trial = Callable[[Session], Outcome]
"""Runs a session; the outcome has what each conversation received in ``captured``."""

# How often a session that fails at the known rate passes by chance, at most: where there are runs
# enough for that, and where there are not, so that its passes say nothing.
_MISS, _MOST_MISSED = 0.01, 0.05
_MOST_TRIES = 150
# An experiment that takes longer, in seconds, or more runs, is dear.
_DEAR = 0.25
_MANY = 12

# So many of those that passed, of so few bytes each, are run again so often at least, in so many
# seconds.
_MOST_AGAIN, _SMALL, _AGAIN, _AGAIN_SECONDS = 10, 10_000, 5, 0.5

# A failing session that received more bytes is run again when it is asked for again.
_REMEMBERED = 1_000_000

_ROOM = 65536


def room_for(session: Session) -> int:
    """Return how many bytes to capture of each conversation, to see what became of its own."""
    return _ROOM + 2 * max(len(conversation.payload) for conversation in session.conversations)


class SpentError(Exception):
    """The budget is spent: what is not known by now stays unknown."""


@dataclass(frozen=True)
class Budget:
    """How much an explanation may cost.

    Attributes:
        conversations: to run, at most; of a failure in some runs only, five times as many.
        seconds: to spend, at most.
    """

    conversations: int = 300
    seconds: float = 10.0

    def for_rate(self, rate: float) -> Budget:
        """Return what may be spent on a failure that occurs so often."""
        return self if rate == 1 else replace(self, conversations=5 * self.conversations)


class Lab:
    """Answers whether a session fails.

    Args:
        trial: runs a session.
        budget: what may be spent.
        rate: how often the failure occurs, above 0, at most 1.

    Attributes:
        conversations: run so far.
        tries: how often a session must pass before it counts as one that passes.
        seldom: whether the failure is so seldom that no session counts as one that passes.
        cost: how long the failing session itself takes to run, in seconds; set by its owner.
        passed: whether any session passed so far.
        stalls: whether the failure itself is a stall, so that one more is no surprise.
    """

    def __init__(self, trial: Trial, budget: Budget, rate: float) -> None:
        self.conversations = 0
        self.cost = 0.0
        self.stalls = False
        self.passed = False
        self.tries = 1
        self.seldom = False
        self._trial = trial
        self._kept = 0.0
        self._budget = budget
        self._until = time.monotonic() + budget.seconds
        # By hash, and without the outcomes that hold much: there are hundreds, of megabytes each.
        self._passed: set[int] = set()
        self._failed: dict[int, Outcome] = {}
        self._latest: collections.deque[Session] = collections.deque(maxlen=_MOST_AGAIN)
        self.expect(rate)

    def expect(self, rate: float) -> None:
        """Set how often the failure occurs."""
        if rate < 1:
            # The true rate may be lower than the one that was seen.
            low = max(0.8 * rate, 0.01)
            self.tries = min(_MOST_TRIES, math.ceil(math.log(_MISS) / math.log(1 - low)))
            self.seldom = (1 - low) ** self.tries > _MOST_MISSED
        else:
            self.expect_every(1)

    def expect_every(self, nth: int) -> None:
        """Set that the failure occurs on every Nth connection."""
        self.tries, self.seldom = nth, False

    @property
    def dear(self) -> bool:
        """Whether each experiment takes so long, or so many runs, that few can be made."""
        return self.tries * self.cost > _DEAR or self.tries > _MANY

    @property
    def seconds_left(self) -> float:
        """What is left of the time."""
        return self._until - time.monotonic()

    @property
    def budget_left(self) -> Budget:
        """What is left of the budget."""
        return Budget(self._budget.conversations - self.conversations, self.seconds_left)

    def can_afford(self, conversations: int = 1, seconds: float = 0.0) -> bool:
        """Return whether so much is left of the budget."""
        left = self._budget.conversations - self.conversations
        return left >= conversations and self.seconds_left >= seconds

    @contextlib.contextmanager
    def keeping(self, part: float) -> Iterator[None]:
        """Keep a part of the budget for later; end the block when the rest is spent."""
        self._kept = part
        try:
            yield
        except SpentError:
            pass
        finally:
            self._kept = 0.0

    def run(self, session: Session) -> Outcome:
        """Run a session once.

        Raises:
            SpentError: if the budget is spent.
        """
        if self.seconds_left <= self._kept * self._budget.seconds:
            raise SpentError
        if self.conversations >= (1 - self._kept) * self._budget.conversations:
            raise SpentError
        self.conversations += len(session.conversations)
        outcome = self._trial(session)
        self.passed = self.passed or outcome.ok
        return outcome

    def failing(self, session: Session) -> Outcome | None:
        """Return an outcome in which the session fails; None if it passes each time.

        Raises:
            SpentError: if the budget is spent, or the passes say nothing.
        """
        key = key_of(session)
        if key in self._passed:
            return None
        if (known := self._failed.get(key)) is not None:
            return known
        for _ in range(self.tries):
            outcome = self._run_surely(session, self.run)
            if not outcome.ok:
                break
        if outcome.ok:
            if self.seldom:
                raise SpentError
            self._passed.add(key)
            if sum(len(conversation.payload) for conversation in session.conversations) <= _SMALL:
                self._latest.append(session)
            return None
        if sum(map(len, outcome.captured)) <= _REMEMBERED:
            self._failed[key] = outcome
        return outcome

    def _run_surely(self, session: Session, run: Trial) -> Outcome:
        outcome = run(session)
        if outcome.kind is Fault.STALLED and self.tries == 1 and not self.stalls:
            # A busy machine can look like this once.
            outcome = run(session)
        return outcome

    def is_contradicted(self, session: Session) -> bool:
        """Return whether sessions fare otherwise now: then they passed by chance.

        Args:
            session: the failing one.
        """
        if not self._passed:
            return False
        until = time.monotonic() + _AGAIN_SECONDS
        rounds = range(max(self.tries, _AGAIN))
        for again, passed in itertools.product(rounds, reversed(tuple(self._latest))):
            if time.monotonic() > until or (again and not self.can_afford()):
                break
            if not self._run_surely(passed, self._run_again).ok:
                return True
        if self.tries > 1:
            return False
        # What failed in all runs has to fail in each of these.
        for again in range(_AGAIN):
            if again and (time.monotonic() > until or not self.can_afford()):
                break
            if self._run_again(session).ok:
                return True
        return False

    def _run_again(self, session: Session) -> Outcome:
        """Run what is not asked for the first time: once at least, whatever is left."""
        self.conversations += len(session.conversations)
        return self._trial(session)

    def fails(self, session: Session) -> bool:
        """Return whether the session fails; raises as :meth:`failing`."""
        return self.failing(session) is not None
