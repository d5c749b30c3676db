"""Hypothesis strategies for payloads, conversations and sessions.

Plain random bytes find almost nothing: a path fails at a certain byte sequence, at a certain
size, at a certain place or after a certain step. So the strategies prefer tokens that mean
something to some device, sizes around the limits of buffers and segments, tokens across such a
limit, one-byte writes, and orders of steps that real programs seldom use.

Each strategy draws a few small numbers and builds the bytes from them, so that Hypothesis
spends its time on choices that matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Step,
)
from echoproto.probe.script.vocabulary import BOUNDARIES, TOKENS, fill

__all__ = ["conversations", "cut", "payloads", "sessions"]

_BIG = (98304, 100_000, 131_071, 131_072, 131_073, 196_608, 200_000, 262_144, 300_000, 524_288)
_HUGE = (1_000_000, 1_048_576, 1_048_577, 1_500_000, 2_097_152)

_COUNTING = bytes(range(251))  # a prime length: no buffer size is a multiple of it
_CHUNKS = (1, 1, 1, 2, 3, 5, 8, 13, 16, 64, 100, 128, 256, 500, 512, 1000, 1024, 1448, 1460, 4096)
_LONG_CHUNKS = (65536, 10_000_000, 16384, 100_000)

_T = TypeVar("_T")


def payloads(
    tokens: Sequence[bytes] = (), sizes: Sequence[int] = (), max_size: int = 65540
) -> SearchStrategy[bytes]:
    """Return a strategy for bytes to send, at least one.

    Args:
        tokens: byte strings to draw in addition to :data:`TOKENS`, as often as all of those
            together.
        sizes: sizes to draw in addition to :data:`BOUNDARIES`, as often as all of those
            together.
        max_size: the maximum size of a payload, in bytes.
    """
    words = _with_own(TOKENS, tokens)
    near = _with_own(BOUNDARIES, sizes)
    random = st.binary(min_size=1, max_size=min(40, max_size))
    numbers = _numbers(107 * _RECIPES)

    @st.composite
    def payload(draw: DrawFn) -> bytes:
        number = draw(numbers)
        if number >= 100 * _RECIPES:
            return draw(random)
        return _recipe(number, words, near)[:max_size]

    return payload()


def _recipe(number: int, words: Sequence[bytes], near: Sequence[int]) -> bytes:
    """Return the payload that a number stands for.

    Args:
        number: below ``100 * _RECIPES``.
        words: the tokens.
        near: the sizes.
    """
    form, rest = divmod(number, _RECIPES)
    made: bytes
    if form < 26:
        (word,) = _pick(rest, words)
        made = word
    elif form < 58:
        size, filler, offset = _pick(rest, near, _FILLERS, _OFFSETS)
        made = fill(max(1, size + offset), filler)
    elif form < 66:
        first, second = _pick(rest, words, words)
        made = first + second
    elif form < 74:
        word, before, after = _pick(rest, words, _TAILS, _TAILS)
        made = fill(before, b"a") + word + fill(after, b"b")
    elif form < 84:
        size, word, back = _pick(rest, near, words, _BACK)
        made = fill(max(0, size - min(back, len(word) + 1)), b"a") + word + b"b" * back
    elif form < 92:
        word, times = _pick(rest, words, _REPEATS)
        made = word * times
    else:  # as many between 2**k and 2**(k+1) for each k
        filler, bits, rest = _pick(rest, _FILLERS, range(16), range(1024))
        made = fill((1 << bits) + ((rest << bits) >> 10), filler)
    return made


# One number stands for a whole payload: to Hypothesis a draw costs more than the echo costs
# the network.
_RECIPES = 1 << 17

_OFFSETS = (0, 1, -1, 2, -2)
_REPEATS = (2, 3, 4, 8, 16, 100, 300)
_TAILS = (0, 1, 2, 3, 10, 100)
_BACK = (0, 1, 2, 3, 4)
_FILLERS: tuple[bytes, ...] = (
    b"\0", _COUNTING, b"a", b"\xff", b"\r\n", b"\n", b" ", b"0123456789abcdef\n",
)  # fmt: skip


def _numbers(count: int) -> SearchStrategy[int]:
    """Return a strategy for numbers below ``count``, each equally likely.

    ``st.integers`` prefers small ones.
    """
    drawn = st.binary(min_size=4, max_size=4)
    return drawn.map(lambda octets: int.from_bytes(octets, "big") * count >> 32)


def _evenly(options: Sequence[_T]) -> SearchStrategy[_T]:
    return _numbers(len(options)).map(lambda number: options[number])


def _pick(number: int, *choices: Sequence[Any]) -> list[Any]:
    """Pick one of each of ``choices``, all from one number."""
    picked = []
    for choice in choices:
        number, index = divmod(number, len(choice))
        picked.append(choice[index])
    return picked


def _with_own(built_in: Sequence[_T], own: Sequence[_T]) -> Sequence[_T]:
    return (*built_in, *(tuple(own) * max(1, len(built_in) // len(own)))) if own else built_in


def conversations(
    tokens: Sequence[bytes] = (),
    sizes: Sequence[int] = (),
    half_close: bool = True,
) -> SearchStrategy[Conversation]:
    """Return a strategy for one conversation.

    Args:
        tokens: as for :func:`payloads`.
        sizes: as for :func:`payloads`.
        half_close: whether to draw ``fin``, which is useless where it is known to fail.
    """
    payload = payloads(tokens, sizes)
    small = payloads(tokens, sizes, max_size=300)
    ends = [end for end in _ENDS if half_close or HalfClose() not in end]
    outline = _evenly([(shape, end) for end in ends for shape in _SHAPES])

    @st.composite
    def conversation(draw: DrawFn) -> Conversation:
        shape, end = draw(outline)
        return Conversation((*_steps(draw, shape, payload, small), *end))

    return conversation()


def _steps(
    draw: DrawFn, shape: str, payload: SearchStrategy[bytes], small: SearchStrategy[bytes]
) -> Sequence[Step]:
    """Draw the steps of a conversation, but for its end."""
    steps: Sequence[Step] = ()
    match shape:
        case "plain":
            steps = (Send(draw(payload)),)
        case "several":
            steps = tuple(
                step for between in draw(_BETWEENS) for step in (Send(draw(payload)), *between)
            )
        case "chunks":
            steps = cut(draw(payload), *draw(_CUT))
        case "small chunks":
            steps = cut(draw(small), *draw(_CUT))
        case "ping-pong":
            steps = (Send(draw(small)), Await()) * draw(_TURNS)
        case "two small":
            steps = (Send(draw(small)), Send(draw(small)))
        case "sizes":
            first = draw(_FIRST_SIZE)
            sizes = range(first, first + 50)
            steps = tuple(step for size in sizes for step in (Send(fill(size, b"\0")), Await()))
        case "long":
            steps = draw(_LONG)
        case "slow":
            steps = draw(_SLOW)
        case "late":
            steps = (Pause(draw(_MS)), Send(draw(payload)))
        case "idle":
            steps = (Send(draw(small)), Await(), Pause(draw(_MS)), Send(draw(small)))
    return steps


_SHAPES = (
    ["plain"] * 22
    + ["two small"] * 12
    + ["several"] * 20
    + ["chunks"] * 12
    + ["small chunks"] * 14
    + ["ping-pong"] * 6
    + ["long"] * 3
    + ["sizes"] * 2
    + ["late", "idle", "slow", "nothing"]
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
_BETWEEN: Sequence[tuple[Step, ...]] = (*[()] * 5, *[(Await(),)] * 4, (Pause(1),))
# For two to five sends, the steps after each.
_BETWEENS = _numbers(4 * 10**5).map(
    lambda number: _pick(number // 4, *[_BETWEEN] * (2 + number % 4))
)
_CUT: SearchStrategy[tuple[int, tuple[Step, ...]]] = _evenly(
    [(size, between) for between in _BETWEEN for size in _CHUNKS]
)
# One size after the other: nothing else finds a fault at one odd size.
_FIRST_SIZE = _evenly(range(1, 1501, 25))
_TURNS = st.sampled_from((2, 3, 5, 9, 17, 33))
_MS = st.sampled_from((1, 1, 2, 2, 5, 5, 10, 20, 40))


def cut(payload: bytes, size: int, between: Sequence[Step] = ()) -> tuple[Step, ...]:
    """Return sends of ``size`` bytes, with the steps of ``between`` after each.

    There are at most 201: the last one takes the rest. Pauses are left out of more than 10.
    """
    pieces = [payload[i : i + size] for i in range(0, min(len(payload), size * 200), size)]
    if len(payload) > size * 200:
        pieces.append(payload[size * 200 :])
    if len(pieces) > 10:
        between = [step for step in between if not isinstance(step, Pause)]
    return tuple(step for piece in pieces for step in (Send(piece), *between))


_LONG = _evenly(
    [
        (size, filler, chunk)
        for size in (*_BIG, *_BIG, *_HUGE)
        for filler in _FILLERS[:3]
        for chunk in _LONG_CHUNKS
    ]
).map(lambda long: cut(fill(long[0], long[1]), long[2]))
_SLOW: SearchStrategy[tuple[Step, ...]] = _evenly(
    [(size, filler) for size in (60_000, 100_000, 200_000) for filler in _FILLERS[:3]]
).map(lambda slow: (SlowRead(8_000_000), Send(fill(*slow))))


def sessions(
    tokens: Sequence[bytes] = (),
    sizes: Sequence[int] = (),
    half_close: bool = True,
    parallel: int = 32,
) -> SearchStrategy[Session]:
    """Return the strategy of the fuzz phase: mostly one conversation, sometimes several.

    Args:
        tokens: as for :func:`payloads`.
        sizes: as for :func:`payloads`.
        half_close: as for :func:`conversations`.
        parallel: the maximum number of simultaneous conversations; with 1 there are no
            sessions of several.
    """
    one = conversations(tokens, sizes, half_close)
    if parallel < 2:
        return one.map(Session.of)
    small = payloads(tokens, sizes, max_size=5000)
    crowds = [count for count in (5, 8, 16, 33, 64) if count <= parallel] or [parallel]
    outline = _evenly(
        [("one", 1)] * 164
        + [(shape, count) for count in (2, 2, 3, 4) for shape in _TOGETHER if count <= parallel]
        + [("crowd", crowds[i % len(crowds)]) for i in range(3)]
    )

    @st.composite
    def session(draw: DrawFn) -> Session:
        shape, count = draw(outline)
        members = _members(draw, shape, count, one, small)
        return Session(tuple(members), sequential=shape == "in turn")

    return session()


def _members(
    draw: DrawFn,
    shape: str,
    count: int,
    one: SearchStrategy[Conversation],
    small: SearchStrategy[bytes],
) -> list[Conversation]:
    """Draw the ``count`` conversations of a session."""
    match shape:
        case "one":
            return [draw(one)]
        case "at once" | "in turn":
            return [_short(draw(one)) for _ in range(count)]
        case "marked":  # the same length, other bytes: shows when they are mixed up
            size, wait = len(draw(small)), draw(_WAIT)
            return [
                Conversation((Send(fill(size, bytes([0x41 + i]))), *wait)) for i in range(count)
            ]
        case "crowd":
            return [Conversation((Send(draw(small)),))] * count
        case _:  # one leaves, or does not read: are the others affected?
            ms = draw(_MS)
            victim = Conversation((Pause(min(ms, 10)), Send(draw(small)), Await()))
            return [draw(_BULLY), *[victim] * (count - 1)]


_TOGETHER = ["at once"] * 2 + ["in turn", "marked", "marked", "bully", "bully"]
_WAIT: SearchStrategy[tuple[Step, ...]] = st.sampled_from([(), (Await(),)])
_BULLY = st.sampled_from(
    [
        Conversation((Reset(),)),
        Conversation((Send(b"a"), Reset())),
        Conversation((Send(b"a"), Await(), Reset())),
        Conversation((Send(fill(70_000, _COUNTING)), Reset())),
        Conversation((HalfClose(),)),
        Conversation((Send(b"a" * 5000), HalfClose())),
        Conversation((Send(b"a"), Await(), HalfClose())),
        Conversation((SlowRead(8_000_000), Send(fill(100_000, _COUNTING)))),
    ]
)


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
