"""Hypothesis strategies for payloads, conversations and sessions.

Plain random bytes find next to nothing: a path breaks at a certain byte sequence, at a certain
size, at a certain place or after a certain step. So what is drawn leans towards tokens that mean
something to some device, sizes around the limits of buffers and segments, tokens across such a
limit, one-byte writes, and steps in an order that real programs seldom take.

Each strategy draws a few small numbers and builds the bytes from them: Hypothesis then spends
its time on choices that matter.
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

__all__ = ["BOUNDARIES", "TOKENS", "conversations", "payloads", "sessions"]

TOKENS: tuple[bytes, ...] = (
    # Telnet: IAC alone, doubled, in front of a command, and in the middle of a line end.
    b"\xff", b"\xff\xff", b"\xff\xf4", b"\xff\xf4\xff\xfd\x06", b"\xff\xfb\x01", b"\xff\xf0",
    b"\r\xff", b"\xff\xec",
    # Line ends, whole and in parts, and what text modes make of them.
    b"\r", b"\n", b"\r\n", b"\n\r", b"\r\0", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"\n.\n",
    b"\r\n.\r\n", b"\n..\n",
    b"\nFrom ", b" \n", b"\t", b"        ", b"\v", b"\f", b"\x85", b"\xe2\x80\xa8",
    # Ends of strings and of files, flow control, terminals.
    b"\0", b"\0\0", b"\x03", b"\x04", b"\x1a", b"\x11", b"\x13", b"\x13\x11", b"\x7f", b"\b",
    b"\x15", b"\x17", b"\x1c", b"\x16", b"\x1b", b"\x1b[c", b"\x1b]0;", b"\x9b", b"\x07",
    b"\x18\x18\x18\x18\x18", b"**\x18B00",
    # Escapes and frames of serial lines and consoles.
    b"+++", b"+++ATH\r", b"~.", b"\r~.", b"~~", b"\x10", b"\x10\x03", b"\x10\x10", b"\x02", b"\xc0",
    b"\xdb\xdc", b"\xdb", b"\x7e", b"\x7d", b"\x7d\x5e", b"\x1d", b"\x01",
    # Escapes of text.
    b"\\", b"\\n", b"\\0", b"%", b"%00", b"%s%n", b"&amp;", b"<", b"'", b'"', b"$", b"=", b"=3D",
    # High bits, and UTF-8 whole and broken.
    b"\x80", b"\xa0", b"\xfe", b"\xc3\xa9", b"\xc3", b"\xa9", b"\xc0\x80", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff",
    b"e\xcc\x81", b"\xef\xbf\xbd",
    # First bytes that look like another protocol.
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY UNKNOWN\r\n", b"PROXY ",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\r\n\r\n\0\r\nQUIT\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"POST / HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\0\x05\x01\0\0\x01\0", b"\x16\x03\x01", b"\x17\x03\x03",
    b"\x15\x03\x03\0\x02\x01\0",
    b"SSH-2.0-x\r\n", b"EHLO a\r\n", b"STARTTLS\r\n", b"QUIT\r\n", b"USER a\r\n",
    b"PORT 1,2,3,4,5,6\r\n",
    b"EPRT |1|192.0.2.1|1|\r\n", b"227 Entering Passive Mode (192,0,2,1,4,1)\r\n",
    b"INVITE sip:a SIP/2.0\r\n", b"OPTIONS rtsp://a RTSP/1.0\r\n", b"\x05\x01\0", b"\x04\x01\0\x50",
    b"\x03\0\0\x13\x0e\xe0", b"\xffSMB", b"\xfeSMB", b"\x13BitTorrent protocol",
    b"*1\r\n$4\r\nPING\r\n",
    b"exit\n", b"quit\n", b"\x81\x80\0\0\0\0", b"\x88\0", b"\x1f\x8b\x08", b"0\r\n\r\n",
)  # fmt: skip
"""Byte sequences that mean something to some device on some path."""

BOUNDARIES: tuple[int, ...] = (
    1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 63, 64, 72, 80, 100, 127, 128, 132, 255, 256, 257, 500,
    511, 512, 513, 536, 576, 768, 998, 1000, 1023, 1024, 1025, 1146, 1220, 1280, 1360, 1394, 1400,
    1440, 1448, 1452, 1460, 1492, 1500, 1536, 2000, 2047, 2048, 2049, 2304, 3000, 4000, 4095, 4096,
    4097, 5000, 8000, 8191, 8192, 8193, 8948, 8960, 9000, 10000, 12288, 16000, 16383, 16384, 16385,
    20000, 24576, 32767, 32768, 32769, 50000, 65483, 65495, 65535, 65536, 65537,
)  # fmt: skip
"""Sizes at which a buffer, a segment, a record or a counter is full."""

_BIG = (98304, 100_000, 131_071, 131_072, 131_073, 196_608, 200_000, 262_144, 300_000, 524_288)
_HUGE = (1_000_000, 1_048_576, 1_048_577, 1_500_000, 2_097_152)

_COUNTING = bytes(range(251))  # a prime length: no buffer size is a multiple of it
_CHUNKS = (1, 1, 1, 2, 3, 5, 8, 13, 16, 64, 100, 128, 256, 500, 512, 1000, 1024, 1448, 1460, 4096)
_LONG_CHUNKS = (65536, 10_000_000, 16384, 100_000)

_T = TypeVar("_T")


def fill(size: int, filler: bytes) -> bytes:
    """``filler`` again and again, ``size`` bytes of it."""
    return (filler * (size // len(filler) + 1))[:size]


def payloads(
    tokens: Sequence[bytes] = (), sizes: Sequence[int] = (), max_size: int = 65540
) -> SearchStrategy[bytes]:
    """Bytes to send, at least one.

    Args:
        tokens: byte strings to draw beside :data:`TOKENS`, as often as all of those together.
        sizes: sizes to draw beside :data:`BOUNDARIES`, as often as all of those together.
        max_size: no payload is longer, in bytes.
    """
    words = _with_own(TOKENS, tokens)
    near = _with_own(BOUNDARIES, sizes)

    def recipe(number: int) -> bytes:
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
        return made[:max_size]

    random = st.binary(min_size=1, max_size=min(40, max_size))
    numbers = _numbers(107 * _RECIPES)

    @st.composite
    def payload(draw: DrawFn) -> bytes:
        number = draw(numbers)
        return recipe(number) if number < 100 * _RECIPES else draw(random)

    return payload()


# One number stands for a whole payload: a draw costs Hypothesis more than the echo costs the
# network.
_RECIPES = 1 << 17

_OFFSETS = (0, 1, -1, 2, -2)
_REPEATS = (2, 3, 4, 8, 16, 100, 300)
_TAILS = (0, 1, 2, 3, 10, 100)
_BACK = (0, 1, 2, 3, 4)
_FILLERS: tuple[bytes, ...] = (
    b"\0", _COUNTING, b"a", b"\xff", b"\r\n", b"\n", b" ", b"0123456789abcdef\n",
)  # fmt: skip


def _numbers(count: int) -> SearchStrategy[int]:
    """Numbers below ``count``, each as often as the others; ``st.integers`` leans towards 0."""
    drawn = st.binary(min_size=4, max_size=4)
    return drawn.map(lambda octets: int.from_bytes(octets, "big") * count >> 32)


def _evenly(options: Sequence[_T]) -> SearchStrategy[_T]:
    return _numbers(len(options)).map(lambda number: options[number])


def _pick(number: int, *choices: Sequence[Any]) -> list[Any]:
    """One of each of ``choices``, all from one number."""
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
    """One conversation.

    Args:
        tokens: as for :func:`payloads`.
        sizes: as for :func:`payloads`.
        half_close: whether to draw ``fin``; of no use where it is known to break.
    """
    payload = payloads(tokens, sizes)
    small = payloads(tokens, sizes, max_size=300)
    ends = [end for end in _ENDS if half_close or HalfClose() not in end]
    outline = _evenly([(shape, end) for end in ends for shape in _SHAPES])

    @st.composite
    def conversation(draw: DrawFn) -> Conversation:
        shape, end = draw(outline)
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
                steps = tuple(
                    step
                    for size in range(first, first + 50)
                    for step in (Send(fill(size, b"\0")), Await())
                )
            case "long":
                steps = draw(_LONG)
            case "slow":
                steps = draw(_SLOW)
            case "late":
                steps = (Pause(draw(_MS)), Send(draw(payload)))
            case "idle":
                steps = (Send(draw(small)), Await(), Pause(draw(_MS)), Send(draw(small)))
        return Conversation((*steps, *end))

    return conversation()


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
# For two to five sends, what comes after each.
_BETWEENS = _numbers(4 * 10**5).map(
    lambda number: _pick(number // 4, *[_BETWEEN] * (2 + number % 4))
)
_CUT: SearchStrategy[tuple[int, tuple[Step, ...]]] = _evenly(
    [(size, between) for between in _BETWEEN for size in _CHUNKS]
)
# One size after the other: a fault at one odd size is met by nothing else.
_FIRST_SIZE = _evenly(range(1, 1501, 25))
_TURNS = st.sampled_from((2, 3, 5, 9, 17, 33))
_MS = st.sampled_from((1, 1, 2, 2, 5, 5, 10, 20, 40))


def cut(payload: bytes, size: int, between: Sequence[Step] = ()) -> tuple[Step, ...]:
    """Sends of ``size`` bytes each, with ``between`` after each.

    At most 200: the last one takes what is left. Where there are many, no pauses.
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
    """What the fuzz phase draws: mostly one conversation, sometimes several.

    Args:
        tokens: as for :func:`payloads`.
        sizes: as for :func:`payloads`.
        half_close: as for :func:`conversations`.
        parallel: conversations at the same time, at most; with 1 none are held at once.
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
        match shape:
            case "one":
                said = [draw(one)]
            case "at once" | "in turn":
                said = [_short(draw(one)) for _ in range(count)]
            case "marked":  # the same length, other bytes: whoever mixes them up shows it
                size, wait = len(draw(small)), draw(_WAIT)
                said = [
                    Conversation((Send(fill(size, bytes([0x41 + i]))), *wait)) for i in range(count)
                ]
            case "crowd":
                said = [Conversation((Send(draw(small)),))] * count
            case _:  # one goes away, or does not read: what do the others see?
                ms = draw(_MS)
                victim = Conversation((Pause(min(ms, 10)), Send(draw(small)), Await()))
                said = [draw(_BULLY), *[victim] * (count - 1)]
        return Session(tuple(said), sequential=shape == "in turn")

    return session()


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
    """The first steps, so that several at once take no longer than one."""
    if len(conversation.steps) <= 8 and len(conversation.payload) <= 70_000:
        return conversation
    steps: list[Step] = [
        Send(step.payload[:5000]) if isinstance(step, Send) else step
        for step in conversation.steps[:8]
        if not isinstance(step, SlowRead)
    ]
    return Conversation(tuple(steps))
