"""A session and how it ends, and the parts of it that a failure may need. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    Session,
    Step,
    Urgent,
)

__all__ = [
    "Candidate",
    "apart",
    "cut_writes",
    "doubled_bytes",
    "first_bytes",
    "merge_sends",
    "replace_bytes",
    "shorter_pauses",
    "without_steps",
]

_ROUNDS = 4
_HARMLESS = b"aeiotxyz" + b"0123456789" + bytes(range(0x20, 0x7F)) + bytes(range(256))


@dataclass(frozen=True)
class Candidate:
    """A session to be judged.

    Attributes:
        session: what to run.
        fin: whether each conversation that does not end with a reset ends with a FIN, written or
            not. Without, only a FIN that is written is sent.
    """

    session: Session
    fin: bool = True

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """The conversations of the session."""
        return self.session.conversations

    @property
    def at_once(self) -> int:
        """How many of its conversations are open at the same time."""
        return 1 if self.session.sequential else len(self.conversations)

    @property
    def ends_with_fin(self) -> bool:
        """Whether any of its conversations sends a FIN."""
        return any(
            HalfClose() in c.steps or (self.fin and Reset() not in c.steps)
            for c in self.conversations
        )

    def has(self, kind: type[Step]) -> bool:
        """Return whether there is such a step."""
        return any(isinstance(step, kind) for c in self.conversations for step in c.steps)

    def changed(self, change: Callable[[tuple[Step, ...]], Sequence[Step]]) -> Candidate:
        """Return it with the steps of each conversation changed."""
        conversations = tuple(Conversation(tuple(change(c.steps))) for c in self.conversations)
        return replace(self, session=Session(conversations, self.session.sequential))


def apart(candidate: Candidate) -> list[Candidate]:
    """Return each conversation by itself."""
    return [replace(candidate, session=Session((c,))) for c in candidate.conversations]


def without_steps(candidate: Candidate, *kinds: type[Step]) -> Candidate:
    """Return it without the steps of these kinds."""
    return candidate.changed(lambda steps: [s for s in steps if not isinstance(s, kinds)])


def merge_sends(candidate: Candidate) -> Candidate:
    """Return it with all that a conversation sends in one write, where its first one was."""

    def merged(steps: tuple[Step, ...]) -> Sequence[Step]:
        sends = [place for place, step in enumerate(steps) if type(step) is Send]
        if len(sends) < 2:
            return steps
        payload = b"".join(s.payload for s in steps if type(s) is Send)
        last = steps[sends[-1] + 1 :]
        between = [s for s in steps[: sends[-1]] if not isinstance(s, Send | Await)]
        return [*between, Send(payload), *last]

    return candidate.changed(merged)


def replace_bytes(
    candidate: Candidate, singles: bytes, longer: re.Pattern[bytes] | None
) -> Candidate:
    """Return it without some bytes and sequences of bytes; other ones take their place.

    Args:
        candidate: to change.
        singles: bytes to replace wherever they are.
        longer: of each match of this, one byte is replaced.
    """
    meant = set(singles) | set(longer.pattern if longer else b"")
    other = next((bytes([b]) for b in _HARMLESS if b not in meant), b"")
    table = bytes.maketrans(singles, other * len(singles)) if other else None

    def changed(conversation: Conversation) -> Conversation:
        stream = conversation.payload.translate(table)
        # What takes the place of a byte may join another match, but hardly twice.
        for _ in range(_ROUNDS if longer and other else 0):
            assert longer is not None
            if longer.search(stream) is None:
                break
            stream = longer.sub(lambda match: other + match[0][1:], stream)
        return _with_stream(conversation, stream)

    conversations = tuple(map(changed, candidate.conversations))
    return replace(candidate, session=Session(conversations, candidate.session.sequential))


def _with_stream(conversation: Conversation, stream: bytes) -> Conversation:
    steps: list[Step] = []
    at = 0
    for step in conversation.steps:
        if isinstance(step, Send):
            payload = stream[at : at + len(step.payload)]
            at += len(payload)
            step = step if payload == step.payload else replace(step, payload=payload)
        steps.append(step)
    return Conversation(tuple(steps))


def cut_writes(candidate: Candidate, most: int, pieces: int) -> Candidate:
    """Return it with each write in pieces of ``most`` bytes, all awaited.

    Args:
        candidate: to change.
        most: bytes of a piece.
        pieces: how many to send at most in a conversation; the rest is left out.
    """

    def cut(steps: tuple[Step, ...]) -> Sequence[Step]:
        made: list[Step] = []
        count = 0
        for step in steps:
            if type(step) is not Send:
                made.append(step)
                continue
            for start in range(0, len(step.payload), most):
                if count == pieces:
                    break
                if count:
                    made.append(Await())
                made.append(Send(step.payload[start : start + most]))
                count += 1
        return made

    return candidate.changed(cut)


def doubled_bytes(candidate: Candidate) -> Candidate:
    """Return it with two bytes in each write of one."""
    return candidate.changed(
        lambda steps: [
            Send(s.payload * 2) if type(s) is Send and len(s.payload) == 1 else s for s in steps
        ]
    )


def first_bytes(candidate: Candidate, most: int) -> Candidate:
    """Return it with only the first ``most`` bytes of each conversation."""

    def shortened(steps: tuple[Step, ...]) -> Sequence[Step]:
        made: list[Step] = []
        left = most
        for step in steps:
            if isinstance(step, Send):
                if not left:
                    continue
                if not isinstance(step, Urgent):
                    step = Send(step.payload[:left])
                left -= len(step.payload)
            made.append(step)
        return made

    return candidate.changed(shortened)


def shorter_pauses(candidate: Candidate, most: int) -> Candidate:
    """Return it with no pause, and no reader that holds, longer than ``most`` milliseconds."""
    return candidate.changed(
        lambda steps: [
            replace(s, ms=min(s.ms, most)) if isinstance(s, Pause | Hold) else s for s in steps
        ]
    )
