"""Whether the path works at all, and how long it takes to come back."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from echoproto.probe.script.conversation import Reset, Session
from echoproto.probe.script.words import shorten
from echoproto.probe.search.explain.explanation import Explanation
from echoproto.probe.search.explain.stopped import explain_stop
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.reproduce import TIMED
from echoproto.probe.search.reproduced import PathGoneError
from echoproto.probe.wire.answers import Answers
from echoproto.probe.wire.clock import Clock
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.run import run
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

__all__ = ["DEAD", "Availability", "availability_of"]

DEAD = frozenset({Fault.REFUSED, Fault.RESET, Fault.TRUNCATED, *TIMED})
"""Kinds that a path shows on which nothing works any more."""

_CHECKS = 3
_REVIVAL_SECONDS = 5.0
# A supervisor restarts a server within milliseconds, or waits for a while on purpose.
_FIRST_STEP, _STEP = 0.02, 0.2


class Availability:
    """Whether a path works, from a conversation that worked in the preflight.

    A session that fails because nothing serves the path shows nothing about its bytes. So after one
    that got no answer, the path is asked; if it does not work, it is waited for, as long as the
    supervisor of a server that has crashed takes to restart it.

    Args:
        check: holds the conversation, alone.
        answers: which connections were answered.
        patience: seconds after which silence is a fault; before, an answer is late.

    Attributes:
        outages: how often the path was away, and came back, for a reason that is not known.
        gone: whether it did not come back.
        seen_dead: how the conversation failed when the path did not work.
    """

    def __init__(self, check: Callable[[], Outcome], answers: Answers, patience: float) -> None:
        self.outages = 0
        self.gone = False
        self.seen_dead = Fault.NONE
        self._check = check
        self._answers = answers
        self._patience = patience
        self._unanswered = 0  # experiments in a row
        self._first: Outcome | None = None  # of these
        self._before: tuple[Session, ...] = ()  # the one before these
        self._away: dict[Session, float] = {}

    def works(self) -> bool:
        """Return whether the path works now."""
        for _ in range(_CHECKS):
            outcome = self._check()
            if any(outcome.answered):
                return True
            self.seen_dead = outcome.kind
        return False

    @property
    def goes_away(self) -> bool:
        """Whether it was away more than once, so that something here may be what makes it."""
        return self.outages > 1

    def is_explained(self) -> None:
        """Note that what makes it go away is known, and avoided from now on."""
        self.outages = 0

    def wait(self) -> float | None:
        """Wait until the path works, for a while at most; once it is gone, no more.

        What is silent may only be late, and is given the whole patience.

        Returns:
            how many seconds it did not work; 0 if it works, None if it did not come back.
        """
        began, step = time.monotonic(), _FIRST_STEP
        if self.works():
            return 0.0
        while not self.gone:
            silent = self.seen_dead in TIMED
            most = max(_REVIVAL_SECONDS, self._patience) if silent else _REVIVAL_SECONDS
            if time.monotonic() >= began + most:
                break
            time.sleep(step)
            step = min(2 * step, _STEP)
            if self.works():
                self.outages += 1
                return time.monotonic() - began
        self.gone = True
        return None

    def run(
        self, hold: Callable[[], list[Outcome]], failed: Callable[[Outcome], bool]
    ) -> list[Outcome]:
        """Hold experiments at the same time; once more if the path was away.

        Args:
            hold: holds them, and returns their outcomes.
            failed: whether an outcome counts as a failure.

        Raises:
            PathGoneError: if the path does not come back.
        """
        outcomes = hold()
        if self._look_after_all(outcomes, failed):
            outcomes = hold()
            # What follows is to find it there.
            self._look_after_all(outcomes, failed)
        return outcomes

    def _look_after_all(
        self, outcomes: Sequence[Outcome], failed: Callable[[Outcome], bool]
    ) -> bool:
        return any(self.look_after(outcome, failed(outcome)) for outcome in outcomes)

    def look_after(self, outcome: Outcome, failed: bool) -> bool:
        """Ask whether the path works after an experiment, where it may not; wait until it does.

        It is asked when it refused a connection, when nothing came back several times in a row, and
        after each experiment once it is known to go away.

        Args:
            outcome: of the experiment.
            failed: whether that counts as a failure.

        Returns:
            whether it may have failed only because the path was away.

        Raises:
            PathGoneError: if the path does not come back.
        """
        answered, goes_away = not failed or any(outcome.answered), self.goes_away
        refused = not answered and outcome.kind is Fault.REFUSED
        if answered:
            self._worked(outcome)
        else:
            self._unanswered += 1
            self._first = self._first or outcome
        # 2, 4, 8 and so on: many a fault answers nothing, and an experiment more is not for free.
        in_a_row = self._unanswered > 1 and not self._unanswered & (self._unanswered - 1)
        if not (refused or in_a_row or goes_away):
            return False
        gone = self.wait()
        if gone is None:
            raise self._gone(self._first or outcome)
        self._first = None
        if gone:
            self._worked(outcome)
            self._away[outcome.session] = max(gone, self.away_after(outcome.session))
        return bool(gone) and (refused or not (answered or goes_away))

    def _worked(self, outcome: Outcome) -> None:
        """Note that the path worked after an experiment."""
        self._unanswered, self._first, self._before = 0, None, (outcome.session,)

    def away_after(self, session: Session) -> float:
        """Return how many seconds the path was away after an experiment, at most."""
        return self._away.get(session, 0.0)

    def used_up(
        self, verdicts: Sequence[Verdict], before: Sequence[Session], runs: int
    ) -> Explanation | None:
        """Return what is seen if each connection up to some number was answered, and none since.

        Where a relay crashes instead, those under way are reset, and the others refused; where it
        hangs, those under way had begun to come back.

        Args:
            verdicts: on the conversations that failed since.
            before: what ended just before the first of these began.
            runs: how many sessions failed.
        """
        count = self._answers.stopped_after
        kinds = {self.seen_dead, *(verdict.kind for verdict in verdicts)}
        kinds = {Fault.STALLED if kind in TIMED else kind for kind in kinds}
        if count is None or len(kinds) > 1 or any(verdict.received for verdict in verdicts):
            return None
        if kinds == {Fault.REFUSED} and (self._answers.last < count or any(map(_resets, before))):
            return None  # the reset may be why nothing listens any more
        return explain_stop(kinds.pop(), count, runs)

    def _gone(self, first: Outcome) -> PathGoneError:
        number = self._answers.stopped_after
        connection = "" if number is None else f", connection {number + 1}"
        session = shorten(str(first.session), 60)
        since = f"nothing has worked since an experiment ({session}: {first.kind}){connection}"
        verdicts = [verdict for verdict in first.verdicts if not verdict.ok]
        explanation = self.used_up(verdicts, self._before, self._unanswered)
        return PathGoneError(first, since, explanation)


def _resets(session: Session) -> bool:
    """Return whether the session resets a connection."""
    return any(Reset() in conversation.steps for conversation in session.conversations)


def availability_of(connector: Connector, known: Preflight) -> Availability:
    """Return what is to be known of whether a target works.

    Args:
        connector: where to connect.
        known: what the preflight found.
    """
    limits = known.limits(Clock(known.round_trips).late)
    check = functools.partial(run, known.check, connector, limits)
    return Availability(check, connector.answers, known.patience)
