"""Sessions as whole numbers, in an order that Hypothesis shrinks well.

Hypothesis shrinks the numbers that were drawn: it leaves out groups of them and lowers those
that stay. So each step, each byte and each size has a number of its own, 0 stands for the
simplest, and leaving out a group leaves out a step or some bytes. How likely a number is plays
no part here: that is decided by the recipes, whose sessions :func:`encode` turns into numbers.

A session is its conversations, each followed by a number for what comes next: 0 nothing, 1
another one at the same time, 2 another one after it. A conversation is a number for each step,
then 0. A payload is its size, a number for each byte, then 0; a run of bytes has three or more
numbers. With a size, bytes that do not matter can be left out one by one where the size does
matter: zeros take their place, at the end. A size of 0 is that of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from echoproto.probe.script.conversation import (
    Absent,
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
from echoproto.probe.script.recipes import TRIPS
from echoproto.probe.script.vocabulary import fill

__all__ = [
    "Draw",
    "decode_conversation",
    "decode_payload",
    "decode_session",
    "encode_conversation",
    "encode_payload",
    "encode_session",
]

Draw = Callable[[int], int]
"""Returns a number from 0 to its argument, which is included."""

# A longer run is written as several, so that what Hypothesis draws by itself stays small.
MAX_RUN = 65540
MAX_TOTAL = 300_000

# Of numbers that were not made by the functions below.
MAX_PARTS = 20_000
MAX_ITEMS = 500
MAX_PIECES = 201

MAX_PAUSE = 50
MAX_HOLD = 220
RATES = (10**9, 10**8, 8_000_000)

# What a payload consists of: 1 to 256 is a byte, one more than its value. A run of zeros has its
# size, one of another byte, or of bytes that count up, also its last byte and whether it counts;
# a repeated unit has the total size and the parts of the unit. So lowering the kind of a run
# leaves zeros and the byte that matters after them. A run that counts up does not begin again
# after ff, and has zeros before 00: its last byte cannot be lowered below the one that matters.
_END, _ZEROS, _BYTES, _UNITS = 0, 257, 258, 259
# From this many bytes on, a run is shorter than its bytes.
_MIN_RUN = 4
_MAX_UNIT = 300

_SEND, _AWAIT, _FIN, _RESET, _PAUSE, _SLOW, _CUT, _HOLD = range(1, 9)

# What is between two pieces of a payload that is sent in pieces of one size. From so many pieces
# on, it is written as one: two hundred steps, one by one, would take Hypothesis a minute.
_BETWEEN: Sequence[tuple[Step, ...]] = ((), (Await(),), (Pause(1),))
_MIN_PIECES = 6


def decode_payload(draw: Draw, max_size: int) -> bytes:
    """Return the payload that the numbers stand for, at least one byte.

    Args:
        draw: returns the next number.
        max_size: the maximum size, in bytes; what is beyond is cut off.
    """
    total = min(draw(MAX_TOTAL), max_size)
    payload = _decode_parts(draw, _UNITS, max_size)[: total or max_size]
    return payload.ljust(total, b"\0") or b"\0"


def _decode_parts(draw: Draw, most: int, max_size: int) -> bytes:
    """Return what parts of the kinds up to ``most`` stand for, up to the end.

    The end is read even if there is no space left: what follows must not depend on sizes.
    """
    parts: list[bytes] = []
    left = max_size
    while len(parts) < MAX_PARTS and (kind := draw(most)) != _END:
        part = _decode_run(kind, draw, left) if kind >= _ZEROS else bytes([kind - 1])
        parts.append(part)
        left = max(0, left - len(part))
    return b"".join(parts)


def _decode_run(kind: int, draw: Draw, max_size: int) -> bytes:
    size = min(draw(MAX_RUN), max_size)
    if kind == _ZEROS:
        return bytes(size)
    if kind == _UNITS:
        return fill(size, _decode_parts(draw, _BYTES, _MAX_UNIT) or b"\0")
    last, counts = max(draw(256) - 1, 0), draw(1)
    if not counts:
        return bytes([last]) * size
    return bytes(range(max(0, last + 1 - size), last + 1)).rjust(size, b"\0")


def encode_payload(payload: bytes) -> Iterator[int]:
    """Yield the numbers from which :func:`decode_payload` makes the payload."""
    total = len(payload) if _MIN_RUN <= len(payload) <= MAX_TOTAL else 0
    yield total
    if total and payload.endswith(bytes(_MIN_RUN)):
        payload = payload.rstrip(b"\0")
    size = len(payload)
    if (period := _period(payload)) > 1:
        # Each run but the last has whole units, so that the next one begins with one.
        whole = MAX_RUN - MAX_RUN % period
        for start in range(0, size, whole):
            run = min(whole, size - start)
            yield from (_UNITS, run, *_encode_parts(payload[:period]))
        yield _END
    else:
        yield from _encode_parts(payload)


def _encode_parts(payload: bytes) -> Iterator[int]:
    at = 0
    while at < len(payload):
        run, numbers = _encode_part(payload[at : at + MAX_RUN])
        yield from numbers
        at += run
    yield _END


def _period(payload: bytes) -> int:
    """Return the size of the unit that the payload repeats; 0 if it is not a short one."""
    period = 0
    while 0 <= period <= min(_MAX_UNIT, len(payload) // 2):
        period = payload.find(payload[:16], period + 1)
        if 0 < period <= _MAX_UNIT and payload[period:] == payload[:-period]:
            return period if 2 * period <= len(payload) and len(payload) > 32 else 0
    return 0


def _encode_part(payload: bytes) -> tuple[int, tuple[int, ...]]:
    """Return how many of the bytes make one run or one byte, and its numbers."""
    byte = payload[0]
    if payload.startswith(payload[:1] * _MIN_RUN):
        run = len(payload) - len(payload.lstrip(payload[:1]))
        return run, (_BYTES, run, byte + 1, 0) if byte else (_ZEROS, run)
    run = 1
    while run < min(len(payload), 256 - byte) and payload[run] == byte + run:
        run += 1
    return (run, (_BYTES, run, byte + run, 1)) if run >= _MIN_RUN else (1, (byte + 1,))


def decode_conversation(draw: Draw, max_size: int, half_close: bool = True) -> Conversation:
    """Return the conversation that the numbers stand for.

    Args:
        draw: returns the next number.
        max_size: the maximum size of all payloads together, in bytes.
        half_close: whether there may be a ``fin``. One that may not be, or that follows
            another, ends the conversation, and so does a send after it.
    """
    steps: list[Step] = []
    left, closed = max_size, not half_close
    for _ in range(MAX_ITEMS):
        kind = draw(_HOLD)
        if kind == _END:
            break
        if kind in (_SEND, _CUT):
            if left < 1 or (closed and half_close):
                break
            sends = _decode_sends(kind, draw, left)
            left -= sum(len(step.payload) for step in sends if isinstance(step, Send))
            steps += sends
        elif kind == _FIN:
            if closed:
                break
            closed = True
            steps.append(HalfClose())
        elif kind == _RESET:
            steps.append(Reset())
            break
        else:
            steps.append(_decode_wait(kind, draw))
    return Conversation(tuple(steps))


def _decode_sends(kind: int, draw: Draw, max_size: int) -> Sequence[Step]:
    if kind == _SEND:
        return [Send(decode_payload(draw, max_size))]
    # In the order in which Hypothesis should lower them; a size of 0 is one piece.
    between, size = _BETWEEN[draw(len(_BETWEEN) - 1)], draw(MAX_RUN)
    payload = decode_payload(draw, max_size)
    size = max(size or len(payload), -(-len(payload) // MAX_PIECES))
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    after = [*[between] * (len(pieces) - 1), ()]
    return [s for piece, steps in zip(pieces, after, strict=True) for s in (Send(piece), *steps)]


def _decode_wait(kind: int, draw: Draw) -> Step:
    if kind == _AWAIT:
        return Await()
    if kind == _HOLD:
        return Hold(draw(MAX_HOLD))
    return Pause(draw(MAX_PAUSE)) if kind == _PAUSE else SlowRead(RATES[draw(len(RATES) - 1)])


def encode_conversation(conversation: Conversation) -> Iterator[int]:
    """Yield the numbers from which :func:`decode_conversation` makes the conversation."""
    steps = conversation.steps
    at = 0
    while at < len(steps):
        between, pieces = _pieces(steps, at)
        if _MIN_PIECES <= len(pieces) <= MAX_PIECES:
            yield from (_CUT, between, len(pieces[0]), *encode_payload(b"".join(pieces)))
            at += len(pieces) + (len(pieces) - 1) * len(_BETWEEN[between])
        else:
            yield from _encode_step(steps[at])
            at += 1
    if not (steps and isinstance(steps[-1], Reset)):
        yield _END


def _pieces(steps: Sequence[Step], at: int) -> tuple[int, list[bytes]]:
    """Return the payloads of one size from a step on, and the number of what is between them."""
    first = steps[at]
    if not isinstance(first, Send) or len(first.payload) > MAX_RUN:
        return 0, []
    # What follows the first send is at most one step.
    following = tuple(s for s in steps[at + 1 : at + 2] if not isinstance(s, Send))
    between = _BETWEEN.index(following) if following in _BETWEEN else 0
    stride = 1 + len(_BETWEEN[between])
    pieces = [first.payload]
    for place in range(at + stride, len(steps), stride):
        step = steps[place]
        if not isinstance(step, Send) or len(step.payload) != len(first.payload):
            break
        if tuple(steps[place - stride + 1 : place]) != _BETWEEN[between]:
            break
        pieces.append(step.payload)
    return between, pieces


def _encode_step(step: Step) -> Iterator[int]:
    match step:
        case Send():
            yield from (_SEND, *encode_payload(step.payload))
        case Await():
            yield _AWAIT
        case HalfClose():
            yield _FIN
        case Reset():
            yield _RESET
        case Pause():
            yield from (_PAUSE, step.ms)
        case Hold():
            yield from (_HOLD, step.ms)
        case SlowRead():
            yield from (_SLOW, RATES.index(step.rate))
        case Absent():
            raise ValueError("no session with a time without a connection is drawn")


def decode_session(draw: Draw, max_size: int, half_close: bool, parallel: int) -> Session:
    """Return the session that the numbers stand for.

    Args:
        draw: returns the next number.
        max_size: the maximum size of all payloads of a conversation, in bytes.
        half_close: whether a single conversation may have a ``fin``. In a session of several,
            one that closes early is a question of its own.
        parallel: the maximum number of conversations.
    """
    conversations: list[Conversation] = []
    sequential = False
    while True:
        conversations.append(_within_trips(decode_conversation(draw, max_size)))
        if len(conversations) >= parallel or not (following := draw(2)):
            break
        if len(conversations) == 1:
            sequential = following == 2
    if len(conversations) == 1 and not half_close:
        conversations = [_without_fin(conversations[0])]
    return Session(tuple(conversations), sequential)


def _within_trips(conversation: Conversation) -> Conversation:
    """Return the conversation without the awaits that are more than a recipe has."""
    steps = conversation.steps
    awaits = [place for place, step in enumerate(steps) if isinstance(step, Await)]
    if len(awaits) <= TRIPS:
        return conversation
    left_out = set(awaits[TRIPS:])
    return Conversation(tuple(s for place, s in enumerate(steps) if place not in left_out))


def _without_fin(conversation: Conversation) -> Conversation:
    return Conversation(tuple(s for s in conversation.steps if not isinstance(s, HalfClose)))


def encode_session(session: Session, parallel: int) -> Iterator[int]:
    """Yield the numbers from which :func:`decode_session` makes the session."""
    following = 2 if session.sequential else 1
    members: Sequence[Conversation] = session.conversations
    for number, conversation in enumerate(members, 1):
        yield from encode_conversation(conversation)
        if number < parallel:
            yield following if number < len(members) else _END
