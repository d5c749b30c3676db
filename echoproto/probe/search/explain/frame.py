"""The failing session as a frame: the same steps with other payloads. Pure functions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Reset,
    Send,
    Session,
    Step,
)
from echoproto.probe.script.vocabulary import fill
from echoproto.probe.search.edits import map_sends, payloads
from echoproto.probe.wire.verdict import Outcome

__all__ = ["POOLS", "Frame", "marked", "text"]

POOLS: tuple[bytes, ...] = (
    b"acefijlmoqrtwxyz" + b"bdghknpsuv",  # letters
    b"0123456789",
    bytes(b for b in range(0x21, 0x7F) if b.bit_count() % 2 == 0),
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    bytes(range(0xA1, 0xFF)),
)
"""Bytes that mostly mean nothing to any device; where one pool fails, another may pass."""

# A prime, so that it divides no size at which a buffer is full.
_PERIOD = 1021
# Long enough not to be found in another text by chance.
_MARK = 64


def text(size: int, pool: bytes, seed: int = 1) -> bytes:
    """Return bytes from a pool, no two equal ones in a row.

    A long one repeats itself, so that its text form stays short.

    Args:
        size: how many.
        pool: to draw from.
        seed: another seed gives another text.
    """
    if size > _PERIOD:
        return fill(size, text(_PERIOD, pool, seed))
    draw = random.Random(seed).randbytes(size)
    made = bytearray(size)
    # From two halves of the pool in turn, so that neighbours differ.
    for half in (0, 1):
        letters = pool[half::2]
        table = bytes(letters[value % len(letters)] for value in range(256))
        made[half::2] = draw[half::2].translate(table)
    return bytes(made)


def marked(session: Session) -> Session:
    """Return the session with texts for its payloads that tell its conversations apart."""
    texts = [
        text(max(len(step.payload), _MARK), POOLS[0], seed)
        for seed, conversation in enumerate(session.conversations)
        for step in conversation.steps
        if isinstance(step, Send)
    ]
    return map_sends(session, lambda place, payload: texts[place])


class Frame:
    """A session whose payloads are exchanged.

    Args:
        session: that fails.
        index: the conversation that shows the fault.

    Attributes:
        payloads: of all sends, in order; their index is called a place.
    """

    def __init__(self, session: Session, index: int) -> None:
        self.session = session
        self.index = index
        self.payloads = payloads(session)
        self._owners = [
            owner
            for owner, conversation in enumerate(session.conversations)
            for step in conversation.steps
            if isinstance(step, Send)
        ]

    @property
    def conversation(self) -> Conversation:
        """The one that shows the fault."""
        return self.session.conversations[self.index]

    @property
    def own_places(self) -> list[int]:
        """The places of the conversation that shows the fault."""
        return [place for place, owner in enumerate(self._owners) if owner == self.index]

    def owner(self, place: int) -> int:
        """Return the conversation that a place belongs to."""
        return self._owners[place]

    def start(self, place: int) -> int:
        """Return the offset of a place in the stream of its conversation."""
        owner = self._owners[place]
        before = (p for p in range(place) if self._owners[p] == owner)
        return sum(len(self.payloads[p]) for p in before)

    def filled(self, changes: Mapping[int, bytes]) -> Session:
        """Return the session with other payloads at some places."""
        return map_sends(self.session, lambda place, payload: changes.get(place, payload))

    def all_text(self, pool: bytes, seed: int) -> Session:
        """Return the session with each payload replaced by a text of its size."""
        return map_sends(
            self.session, lambda place, payload: text(len(payload), pool, seed + 7 * place)
        )

    def split(
        self, place: int, parts: Sequence[bytes], between: Sequence[Step] = (Await(),)
    ) -> Session:
        """Return the session with the parts as sends of their own at a place.

        Args:
            place: which send to replace.
            parts: what to send instead; empty ones are left out.
            between: the steps between two of them.
        """
        steps: list[Step] = []
        for part in filter(None, parts):
            steps += [*between, Send(part)] if steps else [Send(part)]
        owner, at = self._owners[place], -1
        changed: list[Step] = []
        for step in self.session.conversations[owner].steps:
            if isinstance(step, Send):
                at += 1
                if self._place_of(owner, at) == place:
                    changed += steps
                    continue
            changed.append(step)
        return self.with_steps(changed, owner)

    def with_steps(self, steps: Sequence[Step], index: int | None = None) -> Session:
        """Return the session with other steps in one conversation."""
        conversations = list(self.session.conversations)
        conversations[self.index if index is None else index] = Conversation(tuple(steps))
        return Session(tuple(conversations), self.session.sequential)

    def without_end(self) -> list[Step]:
        """Return the steps of the faulty conversation up to its last send or pause."""
        steps = list(self.conversation.steps)
        while steps and isinstance(steps[-1], Await | HalfClose | Reset):
            steps.pop()
        return steps

    def streams(self, outcome: Outcome, index: int | None = None) -> tuple[bytes, bytes]:
        """Return what one conversation sent in all, and what came back."""
        at = self.index if index is None else index
        sent = outcome.session.conversations[at].payload
        # What was never sent is not missing.
        sent = sent[: outcome.verdicts[at].sent] if outcome.verdicts[at].sent else sent
        return sent, outcome.captured[at] if outcome.captured else b""

    def _place_of(self, owner: int, number: int) -> int:
        return [place for place, its in enumerate(self._owners) if its == owner][number]
