"""What a conversation must have to show a failure, and the same conversation without it.

A shrunk failure needs each of its parts: with one of them taken out, it cannot show. So what a
failure needs is a list of traits, and a session that lacks one of them cannot fail for its reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from echoproto.probe.script.conversation import (
    Await,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    SlowRead,
    Step,
    Urgent,
)
from echoproto.probe.search.candidate import (
    Candidate,
    apart,
    cut_writes,
    doubled_bytes,
    first_bytes,
    merge_sends,
    replace_bytes,
    shorter_pauses,
    without_steps,
)

__all__ = [
    "AtOnce",
    "Bytes",
    "Data",
    "Empty",
    "Fin",
    "Held",
    "InTurn",
    "Length",
    "Silence",
    "StepOf",
    "Trait",
    "Write",
    "Writes",
]

ANY = Send(b"aceg")
"""A write that does no harm to most paths, and of which something is left on all but few."""

# So many writes are left of a session whose writes are cut.
_PIECES = 32


class Trait(Protocol):
    """Something that a session has or has not."""

    @property
    def loses(self) -> bool:
        """Whether taking it out takes parts of the session with it that it does not need."""

    def is_in(self, candidate: Candidate) -> bool:
        """Return whether the candidate has it."""

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        """Return what is left without it; nothing if that is not a session any more."""


@dataclass(frozen=True)
class Bytes:
    """Bytes, or sequences of bytes, anywhere in a stream.

    Attributes:
        sequences: any of which is enough.
    """

    sequences: tuple[bytes, ...]
    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return any(
            sequence in stream
            for stream in {c.payload for c in candidate.conversations}
            for sequence in self.sequences
        )

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        singles = b"".join(sequence for sequence in self.sequences if len(sequence) == 1)
        longer = [re.escape(sequence) for sequence in self.sequences if len(sequence) > 1]
        pattern = re.compile(b"|".join(longer), re.DOTALL) if longer else None
        changed = replace_bytes(candidate, singles, pattern)
        return [] if self.is_in(changed) else [changed]


@dataclass(frozen=True)
class Fin:
    """A FIN of this side."""

    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return candidate.ends_with_fin

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return [Candidate(without_steps(candidate, HalfClose).session, fin=False)]


@dataclass(frozen=True)
class StepOf:
    """A step of a kind: a reset, a slow reader, urgent data."""

    kind: type[Step]
    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return candidate.has(self.kind)

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        if self.kind is Urgent:
            return [
                candidate.changed(
                    lambda steps: [Send(s.payload) if isinstance(s, Urgent) else s for s in steps]
                )
            ]
        return [without_steps(candidate, self.kind)]


@dataclass(frozen=True)
class Silence:
    """A pause of at least so many milliseconds; a reader that holds is silent, too."""

    ms: int
    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        pauses = [
            s.ms for c in candidate.conversations for s in c.steps if isinstance(s, Pause | Hold)
        ]
        return max(pauses, default=-1) >= self.ms

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        # Each by itself is too short, and together they are too.
        count = sum(isinstance(s, Pause | Hold) for c in candidate.conversations for s in c.steps)
        return [shorter_pauses(candidate, self.ms // (2 * max(count, 1)))]


@dataclass(frozen=True)
class Held:
    """A reader that holds for at least so many milliseconds."""

    ms: int
    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        holds = [s.ms for c in candidate.conversations for s in c.steps if isinstance(s, Hold)]
        return max(holds, default=-1) >= self.ms

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return [shorter_pauses(candidate, self.ms // 2)]


@dataclass(frozen=True)
class Writes:
    """Several writes in one conversation."""

    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return any(
            sum(isinstance(step, Send) for step in c.steps) > 1 for c in candidate.conversations
        )

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        changed = merge_sends(candidate)
        return [] if self.is_in(changed) else [changed]


@dataclass(frozen=True)
class Write:
    """A write of a certain size.

    Attributes:
        size: in bytes.
        exact: whether a larger one does not show the failure, unless it is a multiple of more than
            one byte.
    """

    size: int
    exact: bool
    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return any(map(self._shows, self._joined(candidate)))

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        if self.size == 1:
            return [doubled_bytes(candidate)]
        return [cut_writes(candidate, self.size - 1, _PIECES)]

    def _shows(self, size: int) -> bool:
        if self.exact and self.size == 1:
            return size == 1
        return size % self.size == 0 if self.exact else size >= self.size

    def _joined(self, candidate: Candidate) -> Sequence[int]:
        """Return the sizes of what may be read at once: writes, and such that follow each other."""
        sizes: list[int] = []
        for conversation in candidate.conversations:
            together = 0
            for step in conversation.steps:
                if isinstance(step, Send):
                    together += len(step.payload)
                    sizes += [len(step.payload), together]
                elif isinstance(step, Await):
                    together = 0
        return sizes


@dataclass(frozen=True)
class Length:
    """A stream of at least so many bytes in one connection."""

    size: int
    loses = True

    def is_in(self, candidate: Candidate) -> bool:
        return any(len(c.payload) >= self.size for c in candidate.conversations)

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return [first_bytes(candidate, self.size - 1)]


@dataclass(frozen=True)
class Data:
    """Bytes at all: without them, there is nothing left to test."""

    size: int
    loses = True

    def is_in(self, candidate: Candidate) -> bool:
        return any(len(c.payload) >= self.size for c in candidate.conversations)

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return []


@dataclass(frozen=True)
class Empty:
    """A conversation that sends nothing."""

    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return not all(c.payload for c in candidate.conversations)

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return [
            candidate.changed(
                lambda steps: steps if any(isinstance(s, Send) for s in steps) else (ANY, *steps)
            )
        ]


@dataclass(frozen=True)
class AtOnce:
    """Several conversations at the same time."""

    count: int
    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return candidate.at_once >= self.count

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return apart(candidate)


@dataclass(frozen=True)
class InTurn:
    """One conversation after the other."""

    loses = False

    def is_in(self, candidate: Candidate) -> bool:
        return candidate.session.sequential

    def taken_out(self, candidate: Candidate) -> list[Candidate]:
        return apart(candidate)


RESET, SLOW, URGENT = StepOf(Reset), StepOf(SlowRead), StepOf(Urgent)
