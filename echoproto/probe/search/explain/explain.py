"""From the shortest conversation that fails to what about it matters.

Pure logic: it runs sessions through a function, and needs neither a target nor a campaign. Each
question is asked by experiment, from the cheapest to the dearest, until the budget is spent;
what is not known by then is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses

from echoproto.probe.script.conversation import Await, Pause, Reset, Send, Session
from echoproto.probe.search.explain.content import Content
from echoproto.probe.search.explain.effects import find_effect, find_silent
from echoproto.probe.search.explain.explanation import Effect, Explanation, Need, Size, Unit
from echoproto.probe.search.explain.extent import Extent
from echoproto.probe.search.explain.findings import Findings
from echoproto.probe.search.explain.frame import POOLS, Frame, text
from echoproto.probe.search.explain.lab import Budget, Lab, SpentError, Trial
from echoproto.probe.search.explain.needs import find_fin, find_needs
from echoproto.probe.search.explain.pattern import every_nth
from echoproto.probe.search.explain.sentence import sentence
from echoproto.probe.search.explain.suspects import suspects_of
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["explain"]

_MOST_PASSES = 50
_MOST_STUDIES = 3


def explain(
    session: Session,
    trial: Trial,
    rate: tuple[int, int] = (1, 1),
    budget: Budget | None = None,
) -> Explanation | None:
    """Find out what about a failing session matters.

    Args:
        session: the shortest that fails.
        trial: runs a session, and returns what happened with what was received.
        rate: how often the session failed, in how many runs.
        budget: what may be spent; by default 300 conversations or 10 seconds.

    Returns:
        the explanation; None if the session does not fail any more, or too little was found out.
    """
    often, spent = rate[0] / rate[1], 0
    left = (budget or Budget()).for_rate(often)
    for _ in range(_MOST_STUDIES):
        lab = Lab(trial, left, often)
        found, everything = _studied(lab, session, rate)
        contradicted = lab.is_contradicted(session)
        spent += lab.conversations
        if not contradicted or not lab.can_afford():
            break
        # It fails more seldom than was seen, so that each pass takes more runs.
        often, left = often / 2, lab.budget_left
    if found.effect is None or found.unclear or contradicted:
        return None
    if not everything and not found.says_when():
        return None  # it would say of every stream what only some show
    explanation = Explanation(
        text="",
        effect=found.effect,
        bytes_=tuple(found.bytes_),
        becomes=tuple((t, found.becomes[t]) for t in found.bytes_ if t in found.becomes),
        size=found.size,
        position=found.position,
        needs=tuple(need for need in Need if need in found.needs),
        pause_ms=found.pause_ms,
        hold_ms=found.hold_ms,
        connections=found.connections,
        every=found.every,
        rate=rate,
        delay_ms=found.delay_ms,
        conversations=spent,
        sizes_tried=tuple(sorted(found.sizes_tried.items())),
    )
    line = sentence(explanation, found)
    return dataclasses.replace(explanation, text=line, suspects=suspects_of(explanation))


def _studied(lab: Lab, session: Session, rate: tuple[int, int]) -> tuple[Findings, bool]:
    """Return what is found out, and whether it is all that says when it happens.

    Of a flaky failure, the rate says when.
    """
    found = Findings()
    with contextlib.suppress(SpentError):
        _Study(lab, found, session, rate).run()
        return found, lab.tries > 1 or not lab.passed
    return found, lab.seldom


class _Study:
    """The questions, in order."""

    def __init__(self, lab: Lab, found: Findings, session: Session, rate: tuple[int, int]) -> None:
        self._lab = lab
        self._found = found
        self._session = session
        self._rate = rate

    def run(self) -> None:
        """Ask all questions.

        Raises:
            SpentError: if the budget is spent before.
        """
        lab, found = self._lab, self._found
        base = self._seen_again()
        if base is None:
            return
        lab.cost, lab.stalls = base.seconds, base.kind is Fault.STALLED
        found.part = base.verdicts[base.index].received > 0
        base = self._every(base)
        frame = Frame(base.session, base.index)
        # In case that the budget ends before more is known.
        found.effect = _first_guess(base)
        if found.effect is Effect.DELAYED:
            found.delay_ms = round(1000 * base.wait)
        find_needs(lab, frame, found)
        if Need.SLOW_READER in found.needs or Need.HOLD in found.needs:
            self._slow(frame, base)
            return
        frame, base = self._revived(frame, base)
        if not frame.payloads:
            find_effect(lab, frame, found, base, [])
            find_silent(lab, frame, found)
            return
        richest = self._bytes_and_sizes(frame)
        find_effect(lab, frame, found, base, richest)
        if not frame.own_places:
            find_silent(lab, frame, found)

    def _seen_again(self) -> Outcome | None:
        """Return an outcome in which the session fails, if it still does."""
        for passed in range(_MOST_PASSES):
            if not (base := self._lab.run(self._session)).ok:
                if passed and self._lab.tries == 1:
                    self._lab.expect(1 / (passed + 1))
                return base
        return None

    def _slow(self, frame: Frame, base: Outcome) -> None:
        """Make do with one run: a reader that is slow, or holds, takes its time."""
        sent = frame.conversation.payload
        self._found.size = Size(Unit.IN_FLIGHT, len(sent)) if sent else None
        find_effect(self._lab, frame, self._found, base, [])
        if Need.SLOW_READER in self._found.needs:
            find_fin(self._lab, frame, self._found)  # at the end, as it takes long too

    def _every(self, base: Outcome) -> Outcome:
        """Find out whether it is every Nth connection; return the outcome to go on with."""
        lab, session = self._lab, base.session
        several = len(session.conversations) > 1
        if (self._rate[0] == self._rate[1] and not several) or (several and not session.sequential):
            return base
        one = Session((session.conversations[base.index],))
        if (nth := every_nth(lab, one)) is None:
            return base
        self._found.every = nth
        lab.expect_every(nth)
        return lab.failing(one) or base

    def _revived(self, frame: Frame, base: Outcome) -> tuple[Frame, Outcome]:
        """Return a session with bytes, if one without a FIN fails in the place of ``frame``'s.

        That the path does not close may mean that it does nothing at all.
        """
        found = self._found
        if base.kind is not Fault.NEVER_CLOSED or frame.payloads:
            return frame, base
        steps = (Send(text(5, POOLS[0])), Await())
        asked = frame.with_steps((*steps, Pause(1), Reset()))
        if (dead := self._lab.failing(asked)) is None:
            return frame, base
        found.needs = [need for need in found.needs if need is not Need.FIN]
        found.effect = _first_guess(dead)
        self._lab.passed = False  # what passed had sent nothing
        alive = Frame(frame.with_steps(steps), frame.index)
        return alive, self._lab.failing(alive.session) or dead

    def _bytes_and_sizes(self, frame: Frame) -> list[Outcome]:
        lab, found = self._lab, self._found
        content = Content(lab, frame, found)
        with lab.keeping(0.4):
            content.find()
        one = frame.payloads[0][:1] if len(found.bytes_) == 1 else b"a"
        long = sum(map(len, frame.payloads)) > 1
        constant = content.pool is not None and len(set(b"".join(frame.payloads))) == 1 and long
        if content.pool is not None and not (constant and found.bytes_[0:1] == [one]):
            return []
        if Need.SEVERAL_CONNECTIONS in found.needs and not long:
            return []
        equal = content.run or constant
        extent = Extent(
            lab, frame, found, lambda size: one * size if equal else text(size, POOLS[0])
        )
        with lab.keeping(0.1):
            extent.find()
            if content.run and found.size is not None:
                found.size = dataclasses.replace(found.size, unit=Unit.RUN)
        if equal and found.position is not None:
            found.position = None  # equal bytes do not tell which of them is missing
        return [extent.outcomes[size] for size in sorted(extent.outcomes)]


def _first_guess(base: Outcome) -> Effect:
    guesses = {
        Fault.CORRUPT: Effect.REPLACED,
        Fault.EXTRA: Effect.INSERTED,
        Fault.TRUNCATED: Effect.TRUNCATED,
        Fault.STALLED: Effect.WITHHELD,
        Fault.RESET: Effect.RESET,
        Fault.REFUSED: Effect.REFUSED,
        Fault.CROSS_TALK: Effect.MIXED,
        Fault.NEVER_CLOSED: Effect.NOT_CLOSED,
        Fault.DELAYED: Effect.DELAYED,
    }
    return guesses[base.kind]
