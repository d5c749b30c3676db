"""What to draw: payloads, conversations and sessions, each from one random number generator.

Plain random bytes find almost nothing: a path fails at a certain byte sequence, at a certain
size, at a certain place or after a certain step. So the recipes prefer tokens that mean
something to some device, sizes around the limits of buffers and segments, tokens across such a
limit, one-byte writes, and orders of steps that real programs seldom use. Some recipes try all
of one kind at once, because a test of a hundred conversations has no room for them one by one:
a payload of many tokens, one with every byte, a conversation of all powers of two.

Nothing here needs Hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Step,
)
from echoproto.probe.script.vocabulary import BOUNDARIES, COMMON_TOKENS, COUNTING, TOKENS, fill

__all__ = ["TRIPS", "Recipes", "cut"]

TRIPS = 12
"""How many round trips a conversation takes at most, so that a far path is tested in time."""

_BIG = (98304, 100_000, 131_071, 131_072, 131_073, 196_608, 200_000, 262_144, 300_000, 524_288)
_HUGE = (1_000_000, 1_048_576, 1_048_577, 1_500_000, 2_097_152)

_CHUNKS = (1, 1, 1, 2, 3, 5, 8, 13, 16, 64, 100, 128, 256, 500, 512, 1000, 1024, 1448, 1460, 4096)
_LONG_CHUNKS = (65536, 10_000_000, 16384, 100_000)

_OFFSETS = (0, 0, 0, 1, -1, 2, -2)
_REPEATS = (2, 3, 4, 8, 16, 100, 300)
_TAILS = (0, 1, 2, 3, 10, 100)
_BACK = (0, 1, 2, 3, 4)
_FILLERS: tuple[bytes, ...] = (
    b"\0", COUNTING, b"a", b"\xff", b"\r\n", b"\n", b" ", b"0123456789abcdef\n",
)  # fmt: skip
_MANY_WORDS = (4, 8, 16, 32)
_MS = (1, 1, 2, 2, 5, 5, 10, 20, 40)
_TURNS = (2, 3, 5, 9, TRIPS)
_POWERS = tuple(1 << bits for bits in range(17))

_SHAPES = (
    ["plain"] * 22
    + ["two small"] * 12
    + ["several"] * 20
    + ["chunks"] * 12
    + ["small chunks"] * 14
    + ["ping-pong"] * 6
    + ["powers"] * 8
    + ["long"] * 3
    + ["sizes"] * 2
    + ["late", "idle", "slow", "held", "held at the end", "nothing"]
)
_ENDS: Sequence[tuple[Step, ...]] = (
    *[()] * 5,
    (Await(),),
    (Await(),),
    (HalfClose(),),
    (HalfClose(),),
    (Reset(),),
    (Await(), HalfClose()),
    (Await(), Reset()),
    (HalfClose(), Pause(1)),
)
_HELD_END: Sequence[Step] = (HalfClose(), Hold(220))
_BETWEEN: Sequence[tuple[Step, ...]] = (*[()] * 5, *[(Await(),)] * 4, (Pause(1),))

_TOGETHER = ["at once"] * 2 + ["in turn", "marked", "marked", "bully", "bully"]
_BULLIES = (
    Conversation((Reset(),)),
    Conversation((Send(b"a"), Reset())),
    Conversation((Send(b"a"), Await(), Reset())),
    Conversation((Send(fill(70_000, COUNTING)), Reset())),
    Conversation((HalfClose(),)),
    Conversation((Send(b"a" * 5000), HalfClose())),
    Conversation((Send(b"a"), Await(), HalfClose())),
    Conversation((SlowRead(8_000_000), Send(fill(100_000, COUNTING)))),
)

_SMALL = 300
_MEMBER = 5000  # the maximum payload of one of several simultaneous conversations

_T = TypeVar("_T")


class Recipes:
    """Makes what the strategies draw.

    Args:
        tokens: byte strings to use in addition to :data:`TOKENS`, as often as all of those
            together.
        sizes: sizes to use in addition to :data:`BOUNDARIES`, as often as all of those together.
        half_close: whether to use ``fin``, which is useless where it is known to fail.
        parallel: the maximum number of simultaneous conversations.
    """

    def __init__(
        self,
        tokens: Sequence[bytes] = (),
        sizes: Sequence[int] = (),
        half_close: bool = True,
        parallel: int = 64,
    ) -> None:
        # Half of them, so that the best known causes do not depend on luck.
        self._words = _with_own((*TOKENS, *_repeated(COMMON_TOKENS, len(TOKENS))), tokens)
        self._near = _with_own((*BOUNDARIES, *_repeated(_POWERS, len(BOUNDARIES) // 2)), sizes)
        self._ends = [end for end in _ENDS if half_close or HalfClose() not in end]
        self._shapes = [s for s in _SHAPES if half_close or s != "held at the end"]
        self._parallel = parallel
        crowds = [count for count in (5, 8, 16, 33, 64) if count <= parallel] or [parallel]
        self._outlines: list[tuple[str, int]] = [("one", 1)] * 164
        if parallel > 1:
            for count in (2, 2, 3, 4):
                self._outlines += [(shape, count) for shape in _TOGETHER if count <= parallel]
            self._outlines += [("crowd", crowds[index % len(crowds)]) for index in range(3)]

    def payload(self, rng: Random, max_size: int) -> bytes:
        """Return a payload of 1 to ``max_size`` bytes."""
        return self._payload(rng)[:max_size]

    def _payload(self, rng: Random) -> bytes:
        form = rng.randrange(110)
        if form < 7:
            return rng.randbytes(rng.randint(1, 40))
        if form < 29:
            return rng.choice(self._words)
        if form < 59:
            size, filler = rng.choice(self._near), rng.choice(_FILLERS)
            return fill(max(1, size + rng.choice(_OFFSETS)), filler)
        if form < 65:
            return rng.choice(self._words) + rng.choice(self._words)
        if form < 73:
            before, after = rng.choice(_TAILS), rng.choice(_TAILS)
            return fill(before, b"a") + rng.choice(self._words) + fill(after, b"b")
        if form < 83:
            word, back = rng.choice(self._words), rng.choice(_BACK)
            before = rng.choice(self._near) - min(back, len(word) + 1)
            return fill(max(0, before), b"a") + word + b"b" * back
        if form < 90:
            return rng.choice(self._words) * rng.choice(_REPEATS)
        if form < 99:
            return b"".join(rng.choices(self._words, k=rng.choice(_MANY_WORDS)))
        if form < 101:
            return bytes(range(256))
        # As many between 2**k and 2**(k+1) for each k.
        bits = rng.randrange(16)
        return fill((1 << bits) + rng.randrange(1 << bits), rng.choice(_FILLERS))

    def conversation(self, rng: Random) -> Conversation:
        """Return one conversation."""
        shape = rng.choice(self._shapes)
        end = _HELD_END if shape == "held at the end" else rng.choice(self._ends)
        return Conversation((*self._steps(rng, shape), *end))

    def _steps(self, rng: Random, shape: str) -> Sequence[Step]:
        """Return the steps of a conversation, but for its end."""
        match shape:
            case "plain":
                return (self._send(rng),)
            case "several":
                counts = range(rng.randint(2, 5))
                return [s for _ in counts for s in (self._send(rng), *rng.choice(_BETWEEN))]
            case "chunks":
                payload = self._send(rng).payload
                return cut(payload, rng.choice(_CHUNKS), rng.choice(_BETWEEN))
            case "small chunks":
                payload = self._send(rng, _SMALL).payload
                return cut(payload, rng.choice(_CHUNKS), rng.choice(_BETWEEN))
            case "ping-pong":
                return (self._send(rng, _SMALL), Await()) * rng.choice(_TURNS)
            case "two small":
                return (self._send(rng, _SMALL), self._send(rng, _SMALL))
            case "powers":
                # One conversation for a fault at any of them: a hundred draws hit few twice.
                offset, filler = rng.choice((0, 0, 0, 1, -1)), rng.choice((b"\0", *_FILLERS[:3]))
                return _ladder([max(1, size + offset) for size in _POWERS], filler)
            case "sizes":
                # One size after the other: nothing else finds a fault at one odd size.
                first = rng.randrange(1, 1501, 25)
                return _ladder(range(first, first + 50), b"\0")
            case _:
                return self._timed_steps(rng, shape)

    def _timed_steps(self, rng: Random, shape: str) -> Sequence[Step]:
        match shape:
            case "long":
                size, filler = rng.choice((*_BIG, *_BIG, *_HUGE)), rng.choice(_FILLERS[:3])
                return cut(fill(size, filler), rng.choice(_LONG_CHUNKS))
            case "slow":
                size, filler = rng.choice((60_000, 100_000, 200_000)), rng.choice(_FILLERS[:3])
                return (SlowRead(8_000_000), Send(fill(size, filler)))
            case "held":
                return (Hold(rng.choice((110, 220))), self._bulk(rng))
            case "held at the end":
                return (self._bulk(rng),)
            case "late":
                return (Pause(rng.choice(_MS)), self._send(rng))
            case "idle":
                pause = Pause(rng.choice(_MS))
                return (self._send(rng, _SMALL), Await(), pause, self._send(rng, _SMALL))
        return ()

    def _bulk(self, rng: Random) -> Send:
        """Return what fills the buffers of a relay whose client does not read."""
        size = rng.choice((70_000, 100_000, 130_000, 200_000))
        return Send(fill(size, rng.choice(_FILLERS[:3])))

    def _send(self, rng: Random, max_size: int = 65540) -> Send:
        return Send(self.payload(rng, max_size))

    def session(self, rng: Random) -> Session:
        """Return a session: mostly one conversation, sometimes several."""
        shape, count = rng.choice(self._outlines)
        members = self._members(rng, shape, count)
        return Session(tuple(members), sequential=shape == "in turn")

    def _members(self, rng: Random, shape: str, count: int) -> list[Conversation]:
        """Return the ``count`` conversations of a session."""
        match shape:
            case "one":
                return _side_by_side(self.conversation(rng), self._parallel)
            case "at once" | "in turn":
                return [_short(self.conversation(rng)) for _ in range(count)]
            case "marked":  # the same length, other bytes: shows when they are mixed up
                size = len(self.payload(rng, _MEMBER))
                wait: tuple[Step, ...] = rng.choice([(), (Await(),)])
                letters = [bytes([0x41 + index]) for index in range(count)]
                return [Conversation((Send(fill(size, letter)), *wait)) for letter in letters]
            case "crowd":
                return [Conversation((self._send(rng, _MEMBER),))] * count
        # One leaves, or does not read: are the others affected?
        pause = Pause(min(rng.choice(_MS), 10))
        victim = Conversation((pause, self._send(rng, _MEMBER), Await()))
        return [rng.choice(_BULLIES), *[victim] * (count - 1)]


def cut(payload: bytes, size: int, between: Sequence[Step] = ()) -> tuple[Step, ...]:
    """Return sends of ``size`` bytes, with the steps of ``between`` after each.

    There are at most 201: the last one takes the rest. Pauses are left out of more than 10, and
    only the first ``TRIPS`` are awaited: each takes a round trip.
    """
    pieces = [payload[i : i + size] for i in range(0, min(len(payload), size * 200), size)]
    if len(payload) > size * 200:
        pieces.append(payload[size * 200 :])
    if len(pieces) > 10:
        between = [step for step in between if not isinstance(step, Pause)]
    steps = [step for piece in pieces[:TRIPS] for step in (Send(piece), *between)]
    between = [step for step in between if not isinstance(step, Await)]
    return (*steps, *(step for piece in pieces[TRIPS:] for step in (Send(piece), *between)))


def _ladder(sizes: Sequence[int], filler: bytes) -> Sequence[Step]:
    return [step for size in sizes for step in (Send(fill(size, filler)), Await())]


def _side_by_side(conversation: Conversation, most: int) -> list[Conversation]:
    """Return the steps as conversations at the same time if they take many round trips.

    Args:
        conversation: what was drawn.
        most: how many conversations there may be; what does not fit is left out.
    """
    groups: list[list[Step]] = [[]]
    trips = 0
    for step in conversation.steps:
        if trips == TRIPS:
            groups.append([])
            trips = 0
        groups[-1].append(step)
        trips += isinstance(step, Await)
    return [Conversation(tuple(group)) for group in groups[:most]]


def _short(conversation: Conversation) -> Conversation:
    """Return the first steps, so that several at once take no longer than one."""
    if len(conversation.steps) <= 8 and len(conversation.payload) <= 70_000:
        return conversation
    steps: list[Step] = [
        Send(step.payload[:5000]) if isinstance(step, Send) else step
        for step in conversation.steps[:8]
        if not isinstance(step, SlowRead)
    ]
    return Conversation(tuple(steps))


def _with_own(built_in: Sequence[_T], own: Sequence[_T]) -> Sequence[_T]:
    return (*built_in, *_repeated(own, len(built_in))) if own else built_in


def _repeated(items: Sequence[_T], count: int) -> Sequence[_T]:
    """Return the items again and again, until there are about ``count``, at least each once."""
    return tuple(items) * max(1, count // len(items))
