"""What a shrunk failure needs, found with a few trials: its trigger."""

from __future__ import annotations

import functools
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import (
    Hold,
    Pause,
    Reset,
    Send,
    SlowRead,
    Urgent,
)
from echoproto.probe.search.candidate import Candidate, cut_writes
from echoproto.probe.search.edits import map_sends, payloads
from echoproto.probe.search.explain.align import kind_of_change
from echoproto.probe.search.explain.explanation import Effect, Explanation
from echoproto.probe.search.explain.frame import POOLS, text
from echoproto.probe.search.reproduce import TIMED, without_fin
from echoproto.probe.search.traits import (
    AtOnce,
    Bytes,
    Data,
    Empty,
    Fin,
    Held,
    InTurn,
    Length,
    Silence,
    StepOf,
    Trait,
    Write,
    Writes,
)
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Trigger", "find_trigger", "refined", "silence_trigger"]

Run = Callable[[Candidate], Outcome]
"""Runs a candidate."""

_ANY_KIND = frozenset(Fault) - {Fault.NONE}

_PART = 0.75  # a pause of less than this part of the shrunk one does not show the failure
# Bytes that most devices take for text, one of each parity, and not those of the shrunk session.
_ANY = b"ac"
# How often a candidate that fails at half of the known rate passes by chance, at most: the rate is
# of a few runs, and differs from one moment to the next.
_MISS = 0.001
_MOST_TRIES = 300
# What failed in all runs is run so often again when something passes for the first time; so often
# a candidate has to pass then, and more often if that was a race.
_CONTROLS = 5
_SHARP_TRIES, _RACE_TRIES = 5, 20
# So many seconds of one candidate's passes are enough, after two of them.
_SECONDS, _FEW = 2.0, 2
_MANY = 1000
_LARGE = 8_000_000
# Streams that are cut shorter than this are not worth testing.
_SHORT = 16


@dataclass(frozen=True)
class Trigger:
    """What a failure needs.

    Attributes:
        kind: of the failure.
        candidate: the shrunk failure.
        traits: all of them are needed. Those that lose least are first.
    """

    kind: Fault
    candidate: Candidate
    traits: tuple[Trait, ...]

    def is_in(self, candidate: Candidate) -> bool:
        """Return whether a candidate has all that the failure needs."""
        return all(trait.is_in(candidate) for trait in self.traits)

    def taken_out(self, candidate: Candidate) -> list[list[Candidate]]:
        """Return what is left of a candidate without each of the traits, the best first.

        What loses parts of it is only there if nothing else is.
        """
        ways = [(trait, trait.taken_out(candidate)) for trait in self.traits]
        clean = [left for trait, left in ways if left and not trait.loses]
        return clean or [left for _, left in ways if left]

    @property
    def any_zero(self) -> bool:
        """Whether a 00 of the shrunk session stands for any byte."""
        return not any(
            isinstance(trait, Bytes) and any(b"\0" in one for one in trait.sequences)
            for trait in self.traits
        )

    @property
    def exact(self) -> bool:
        """Whether a longer session may not show it."""
        return any(
            isinstance(trait, Empty) or (isinstance(trait, Write) and trait.exact)
            for trait in self.traits
        )

    @property
    def needs_fin(self) -> bool:
        """Whether it needs a FIN."""
        return any(isinstance(trait, Fin) for trait in self.traits)

    @property
    def special(self) -> frozenset[type[Trait]]:
        """The kinds of traits that it needs besides bytes, whatever they are and however many."""
        return frozenset(type(t) for t in self.traits) - {Data, Length, Write, Writes}

    def differs_in_bytes(self, other: Trigger) -> bool:
        """Return whether both need the same steps, at least one, and differ in the bytes only."""
        needs = self.special - {Bytes}
        return bool(needs) and needs == other.special - {Bytes}

    def with_any_bytes(self) -> Trigger:
        """Return it without what it needs of the bytes, except that there is one."""
        traits = [t for t in self.traits if not isinstance(t, Bytes | Length | Write | Data)]
        sent = (Data(1),) if payloads(self.candidate.session) else ()
        return replace(self, traits=(*traits, *sent))

    @property
    def needs_several(self) -> bool:
        """Whether it needs several connections."""
        return any(isinstance(trait, AtOnce | InTurn) for trait in self.traits)

    def loses(self, candidate: Candidate) -> bool:
        """Return whether it cannot be taken out of a candidate without more than itself."""
        return not any(t.taken_out(candidate) for t in self.traits if not t.loses)


def find_trigger(
    candidate: Candidate,
    kind: Fault,
    run: Run,
    rate: float = 1.0,
) -> Trigger:
    """Find out what a shrunk failure needs.

    Args:
        candidate: the shrunk failure.
        kind: of the failure.
        run: runs a candidate.
        rate: how often it fails.
    """
    return _Study(candidate, kind, run, rate).find()


def refined(trigger: Trigger, explanation: Explanation | None) -> Trigger:
    """Return a trigger with what an explanation has found: all bytes that fare as its own do.

    What does not close because nothing comes back at all looks like a stall in other sessions.
    """
    if explanation is None:
        return trigger
    if trigger.kind is Fault.NEVER_CLOSED and explanation.effect is Effect.WITHHELD:
        trigger = replace(trigger, kind=Fault.STALLED)
    if not explanation.bytes_:
        return trigger
    becomes = dict(explanation.becomes)

    def with_others(trait: Trait) -> Trait:
        if not isinstance(trait, Bytes):
            return trait
        own = {_is_lost(one, becomes) for one in trait.sequences}
        others = [one for one in explanation.bytes_ if _is_lost(one, becomes) in own]
        return Bytes(tuple(dict.fromkeys((*trait.sequences, *others))))

    return replace(trigger, traits=tuple(map(with_others, trigger.traits)))


def _is_lost(sequence: bytes, becomes: Mapping[bytes, bytes]) -> bool | None:
    """Return whether bytes are lost, or become others; None if that is not known."""
    if (got := becomes.get(sequence)) is None:
        return None
    return kind_of_change(sequence, got) is Effect.DELETED


def silence_trigger(candidate: Candidate, kind: Fault) -> Trigger:
    """Return what a failure needs of which only the silence matters, or that nothing is read.

    Args:
        candidate: the shrunk failure.
        kind: of the failure.
    """
    steps = [step for conversation in candidate.conversations for step in conversation.steps]
    if hold := max((step.ms for step in steps if isinstance(step, Hold)), default=0):
        return Trigger(kind, candidate, (Held(int(hold * _PART)),))
    pause = max((step.ms for step in steps if isinstance(step, Pause)), default=0)
    return Trigger(kind, candidate, (Silence(int(pause * _PART)),))


class _Study:
    def __init__(
        self,
        candidate: Candidate,
        kind: Fault,
        run: Run,
        rate: float,
    ) -> None:
        self._candidate = candidate
        self._session = candidate.session
        self._kind = kind
        self._run = run
        self._tries = _SHARP_TRIES
        self._sharp = rate == 1
        self._controlled = False
        if rate < 1:
            tries = math.ceil(math.log(_MISS) / math.log(1 - max(rate, 0.01) / 2))
            self._tries = min(tries, _MOST_TRIES)

    def find(self) -> Trigger:
        traits: list[Trait] = []
        sent = payloads(self._session)
        zeros = any(b"\0" in payload for payload in sent)
        others = any(payload.strip(b"\0") for payload in sent)
        any_zero = zeros and self._fails_with_any(_zeros_replaced)
        any_other = others and self._fails_with_any(_others_replaced)
        if (zeros and not any_zero) or (others and not any_other):
            traits.append(Bytes(self._sequences(any_zero, any_other)))
        traits += self._steps()
        longest = max(map(len, sent), default=0)
        # Bytes of any value: is it their number that matters?
        runs = [len(run) for payload in sent for run in re.findall(rb"\0+", payload)]
        if (any_zero and max(runs) > 1) or (not traits and longest > 1):
            traits += self._size(longest)
        elif not traits and longest == len(sent) == 1 and not self._fails(self._larger(longest)):
            traits.append(Write(1, exact=True))
        if sent and not any(isinstance(trait, Bytes) for trait in traits):
            traits.append(Data(1))
        if self._needs_no_data():
            traits.append(Empty())
        if self._session.sequential:
            traits.append(InTurn())
        elif len(self._session.conversations) > 1:
            traits.append(AtOnce(len(self._session.conversations)))
        return Trigger(self._kind, self._candidate, tuple(traits))

    def _sequences(self, any_zero: bool, any_other: bool) -> tuple[bytes, ...]:
        """Return the sequences of bytes that matter."""
        pattern = rb"[^\0]+" if any_zero else rb"\0+" if any_other else rb".+"
        streams = [c.payload for c in self._session.conversations]
        found = [match for stream in streams for match in re.findall(pattern, stream, re.DOTALL)]
        return tuple(dict.fromkeys(found))

    def _steps(self) -> list[Trait]:
        traits: list[Trait] = []
        conversations = self._session.conversations
        steps = [step for conversation in conversations for step in conversation.steps]
        if self._needs_fin():
            traits.append(Fin())
        traits += [
            StepOf(kind)
            for kind in (Urgent, SlowRead, Hold, Reset)
            if any(isinstance(s, kind) for s in steps)
        ]
        pause = max((step.ms for step in steps if isinstance(step, Pause)), default=0)
        several = any(sum(isinstance(s, Send) for s in c.steps) > 1 for c in conversations)
        if pause >= 20 or (pause and not several):
            traits.append(Silence(int(pause * _PART)))
        if several:
            traits.append(Writes())
        return traits

    def _needs_fin(self) -> bool:
        """Return whether it passes without a FIN, or shows another fault."""
        candidate = self._candidate
        if not candidate.ends_with_fin or self._kind in (Fault.REFUSED, Fault.CROSS_TALK):
            return False
        return not self._fails(Fin().taken_out(candidate)[0], without_fin(self._kind))

    def _needs_no_data(self) -> bool:
        """Return whether one conversation without a byte passes with one."""
        if self._session.conversations[1:] or payloads(self._session):
            return False
        # What a path sends of its own comes in place of the bytes where there are any.
        alike = {Fault.CORRUPT} if self._kind is Fault.EXTRA else set()
        kinds = frozenset({self._kind, *alike})
        return not self._fails(Empty().taken_out(self._candidate)[0], kinds)

    def _size(self, longest: int) -> list[Trait]:
        """Return what size matters: of a write, or of all that a connection sends."""
        size = max(len(c.payload) for c in self._session.conversations)
        if not self._sharp and longest > _SHORT:
            # By chance, shrinking ends at more than it needs.
            return [Write(longest // 2, exact=False)]
        halved = cut_writes(self._candidate, longest - 1, _MANY)
        if self._fails(halved):
            # What is large is shrunk to a thousandth, or for as long as there is time.
            least = size - size // 100 if size > _LARGE else size
            return [Length(least)] if size > _SHORT else [Data(size)]
        if self._is_of_equal_bytes(longest):
            return [Bytes(tuple(bytes([byte]) * longest for byte in range(256)))]
        return [Write(longest, exact=not self._fails(self._larger(longest)))]

    def _larger(self, size: int) -> Candidate:
        """Return it with one byte more in each write of a size."""
        larger = map_sends(self._session, lambda _, b: b + b[-1:] if len(b) == size else b)
        return Candidate(larger, self._candidate.fin)

    def _is_of_equal_bytes(self, longest: int) -> bool:
        """Return whether a run of equal bytes matters, not their number."""
        if longest < 4:
            return False
        return not self._fails(self._filled(lambda b: text(len(b), POOLS[0])))

    def _filled(self, change: Callable[[bytes], bytes]) -> Candidate:
        session = map_sends(self._session, lambda _, payload: change(payload))
        return Candidate(session, self._candidate.fin)

    def _fails_with_any(self, change: Callable[[int, bytes], bytes]) -> bool:
        return all(self._fails(self._filled(functools.partial(change, other))) for other in _ANY)

    def _fails(self, candidate: Candidate, kinds: frozenset[Fault] = _ANY_KIND) -> bool:
        if self._fails_in(candidate, self._tries, kinds):
            return True
        if not self._sharp or self._controlled:
            return False
        # A race that failed each time so far may pass by now. Then two passes say nothing.
        self._controlled = True
        self._sharp = all(self._fails_in(self._candidate, 1) for _ in range(_CONTROLS))
        if self._sharp:
            return False
        self._tries = _RACE_TRIES
        return self._fails_in(candidate, self._tries, kinds)

    def _fails_in(
        self, candidate: Candidate, tries: int, kinds: frozenset[Fault] = _ANY_KIND
    ) -> bool:
        until = time.monotonic() + _SECONDS
        for ran in range(tries):
            if ran >= _FEW and time.monotonic() > until:
                break
            outcome = self._run(candidate)
            if outcome.kind in TIMED:
                outcome = self._run(candidate)  # a busy machine can look like this once
            if outcome.kind in kinds:
                return True
        return False


def _zeros_replaced(other: int, payload: bytes) -> bytes:
    return payload.replace(b"\0", bytes([other]))


def _others_replaced(other: int, payload: bytes) -> bytes:
    return bytes(b and other for b in payload)
