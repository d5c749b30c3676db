"""What to send: conversations as plain data, with a text form that parses back to itself.

A :class:`Conversation` is one TCP connection, from connect to close, as a tuple of frozen
steps. A :class:`Session` is several conversations with one target, simultaneous or in sequence.
Nothing here connects, draws or judges; the rest of the probe passes these objects around, saves
them and prints them.

The text form::

    send 0d ff; await; send 00*4097; fin

``send`` takes bytes in hexadecimal: ``0d ff``, a run ``00*4097``, a range ``00..ff`` (both
ends included), or a repeated group ``(0d 0a)*100``. ``await`` waits until everything
sent so far is back, ``pause 20`` waits 20 milliseconds, ``slow 65536`` reads at most so many bytes
per second from there on, ``fin`` closes the sending side, ``reset`` aborts with RST. ``nothing`` is
the conversation without a step. ``|`` separates simultaneous conversations,
``then`` those in sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "Await",
    "Conversation",
    "ConversationError",
    "HalfClose",
    "Pause",
    "Reset",
    "Send",
    "Session",
    "SlowRead",
    "Step",
    "format_payload",
    "parse_payload",
]

MAX_PAYLOAD = 64 * 1024 * 1024
MAX_PAUSE = 60_000
MAX_CONVERSATIONS = 1024

# A run or a range is written short from this many bytes on; below, plain hex reads better.
_MIN_RUN = 4

EMPTY = "nothing"


class ConversationError(ValueError):
    """The text or the steps are not a conversation; the message is one line."""


@dataclass(frozen=True)
class Send:
    """Send ``payload`` in one write, as a segment of its own where it fits one."""

    payload: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.payload) <= MAX_PAYLOAD:
            raise ConversationError(
                f"send: {len(self.payload)} bytes; allowed are 1 to {MAX_PAYLOAD}"
            )

    def __str__(self) -> str:
        return f"send {format_payload(self.payload)}"


@dataclass(frozen=True)
class Await:
    """Wait until everything sent so far is back."""

    def __str__(self) -> str:
        return "await"


@dataclass(frozen=True)
class Pause:
    """Send nothing for ``ms`` milliseconds, and continue reading."""

    ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.ms <= MAX_PAUSE:
            raise ConversationError(f"pause: {self.ms}; allowed are 0 to {MAX_PAUSE} milliseconds")

    def __str__(self) -> str:
        return f"pause {self.ms}"


@dataclass(frozen=True)
class SlowRead:
    """From here on, read at most ``rate`` bytes per second."""

    rate: int

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= 10**9:
            raise ConversationError(f"slow: {self.rate}; allowed are 1 to {10**9} bytes per second")

    def __str__(self) -> str:
        return f"slow {self.rate}"


@dataclass(frozen=True)
class HalfClose:
    """Close the sending side (FIN) and continue reading (RFC 9293, section 3.6)."""

    def __str__(self) -> str:
        return "fin"


@dataclass(frozen=True)
class Reset:
    """Abort the connection with RST."""

    def __str__(self) -> str:
        return "reset"


Step = Send | Await | Pause | SlowRead | HalfClose | Reset


@dataclass(frozen=True)
class Conversation:
    """One connection: the steps that this side takes, in order.

    Raises:
        ConversationError: if a step cannot follow the one before it: nothing follows a reset,
            and nothing can be sent after ``fin``.
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        closed = False
        for index, step in enumerate(self.steps):
            if isinstance(step, Reset) and index != len(self.steps) - 1:
                raise ConversationError("nothing can follow 'reset'")
            if closed and isinstance(step, Send | HalfClose):
                raise ConversationError(f"'{str(step).split()[0]}' cannot follow 'fin'")
            closed = closed or isinstance(step, HalfClose)

    @classmethod
    def parse(cls, text: str) -> Conversation:
        """Read the text form; ``str()`` of the result is the canonical spelling of ``text``.

        Raises:
            ConversationError: naming the word that is not understood, and what is allowed.
        """
        if text.strip() in ("", EMPTY):
            return cls()
        return cls(tuple(_parse_step(part.strip()) for part in text.split(";")))

    @property
    def payload(self) -> bytes:
        """All bytes sent, joined."""
        return b"".join(step.payload for step in self.steps if isinstance(step, Send))

    @property
    def own_seconds(self) -> float:
        """The seconds that its pauses and its slow reading take on any path."""
        pauses = sum(step.ms / 1000 for step in self.steps if isinstance(step, Pause))
        size = len(self.payload)
        return pauses + sum(size / s.rate for s in self.steps if isinstance(s, SlowRead))

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps)) or EMPTY

    def __repr__(self) -> str:
        return f"Conversation.parse({str(self)!r})"


@dataclass(frozen=True)
class Session:
    """Several conversations with one target.

    Attributes:
        conversations: at least one. They are simultaneous: each connects after the one before
            it has connected, and those without ``fin`` or ``reset`` stay open until all are
            done.
        sequential: one after the other instead, each on a new connection.
    """

    conversations: tuple[Conversation, ...]
    sequential: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.conversations) <= MAX_CONVERSATIONS:
            raise ConversationError(
                f"a session of {len(self.conversations)} conversations; "
                f"allowed are 1 to {MAX_CONVERSATIONS}"
            )
        if len(self.conversations) == 1 and self.sequential:
            # One form for one meaning: equality and the text form must agree.
            object.__setattr__(self, "sequential", False)

    @classmethod
    def of(cls, script: Conversation | Session) -> Session:
        """Return ``script`` if it is a session, else the session of this one conversation."""
        return script if isinstance(script, Session) else cls((script,))

    @classmethod
    def parse(cls, text: str) -> Session:
        """Read the text form: conversations joined by ``|``, or by ``then``.

        Raises:
            ConversationError: as :meth:`Conversation.parse` does, and if both are mixed.
        """
        parts = re.split(r"\bthen\b", text)
        sequential = len(parts) > 1
        if "|" in text:
            if sequential:
                raise ConversationError("'|' and 'then' cannot be mixed in one session")
            parts = text.split("|")
        return cls(tuple(map(Conversation.parse, parts)), sequential)

    @property
    def joiner(self) -> str:
        """The separator of two conversations in the text form."""
        return " then " if self.sequential else " | "

    def __str__(self) -> str:
        return self.joiner.join(map(str, self.conversations))

    def __repr__(self) -> str:
        return f"Session.parse({str(self)!r})"


_STEP_HELP = "allowed are send HEX, await, pause MS, slow BYTES_PER_S, fin, reset"


def _parse_step(text: str) -> Step:
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word == "send":
        return Send(parse_payload(rest))
    if word in ("pause", "slow"):
        if not re.fullmatch(r"[0-9]{1,10}", rest):
            raise ConversationError(f"{word}: {_shorten(rest)!r} is not a whole number")
        return Pause(int(rest)) if word == "pause" else SlowRead(int(rest))
    plain: dict[str, Step] = {"await": Await(), "fin": HalfClose(), "reset": Reset()}
    if word not in plain or rest:
        raise ConversationError(f"{_shorten(text)!r} is not a step; {_STEP_HELP}")
    return plain[word]


_TOKEN = re.compile(
    r"\s*(?:\((?P<group>[^()]*)\)\*(?P<times>[0-9]{1,9})"
    r"|(?P<first>[0-9a-fA-F]{2})\.\.(?P<last>[0-9a-fA-F]{2})"
    r"|(?P<byte>[0-9a-fA-F]{2})(?:\*(?P<run>[0-9]{1,9}))?)(?=\s|$)"
)


def parse_payload(text: str) -> bytes:
    """Return bytes from their text form, e.g. ``0d ff 00*4097 00..ff (0d 0a)*3``.

    Raises:
        ConversationError: for any other word, or more than ``MAX_PAYLOAD`` bytes.
    """
    return b"".join(_payload_parts(text.strip()))


def _payload_parts(text: str) -> Iterator[bytes]:
    total = position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConversationError(
                f"{_shorten(text[position:].strip())!r} is not a payload; "
                "allowed are bytes in hexadecimal such as 0d ff, 00*4097, 00..ff, (0d 0a)*3"
            )
        position = match.end()
        if match["first"]:
            unit, times = bytes(range(int(match["first"], 16), int(match["last"], 16) + 1)), 1
            if not unit:
                raise ConversationError(f"the range {match[0].strip()} runs backwards")
        elif match["byte"]:
            unit, times = bytes.fromhex(match["byte"]), int(match["run"] or 1)
        else:
            unit, times = parse_payload(match["group"]), int(match["times"])
        total += len(unit) * times
        if total > MAX_PAYLOAD:
            raise ConversationError(f"more than {MAX_PAYLOAD} bytes in one send")
        yield unit * times


def format_payload(payload: bytes) -> str:
    """Return the short text form of ``payload``; :func:`parse_payload` reads it back."""
    period = payload.find(payload[:16], 1) if len(payload) > 32 else -1
    if 1 < period <= len(payload) // 2 and payload[period:] == payload[:-period]:
        times, rest = divmod(len(payload), period)
        tail = f" {_format_plain(payload[:rest])}" if rest else ""
        return f"({_format_plain(payload[:period])})*{times}{tail}"
    return _format_plain(payload)


def _format_plain(payload: bytes) -> str:
    words: list[str] = []
    index, size = 0, len(payload)
    while index < size:
        first = payload[index]
        run = bytes([first]) * _MIN_RUN
        if payload.startswith(run, index):
            end = size - len(payload[index:].lstrip(run[:1]))
            words.append(f"{first:02x}*{end - index}")
            index = end
            continue
        end = index + 1
        while end < size and payload[end] == payload[end - 1] + 1:
            end += 1
        if end - index >= _MIN_RUN:
            words.append(f"{first:02x}..{payload[end - 1]:02x}")
            index = end
            continue
        words.append(f"{first:02x}")
        index += 1
    return " ".join(words)


def _shorten(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
