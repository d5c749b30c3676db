"""What to send: conversations as plain data, with a text form that parses back to itself.

A :class:`Conversation` is one TCP connection, from connect to close, as a tuple of frozen
steps. A :class:`Session` is several conversations with one target, simultaneous or in sequence.
Nothing here connects, draws or judges; the rest of the probe passes these objects around, saves
them and prints them.

The text form::

    send 0d ff; await; send 00*4097; fin

``send`` takes bytes in hexadecimal: ``0d ff`` or ``0dff``, a run ``00*4097``, a range ``00..ff``
(both ends included), a repeated group ``(0d 0a)*100``, or text: ``"abc\\r\\n"``. ``await`` waits
until everything sent so far is back, ``pause 20`` waits 20 ms, ``hold 200`` reads nothing for
200 ms while the steps go on, ``absent 2200`` as the first step connects only after 2200 ms in
which this session has no connection, ``slow 65536`` reads at most so many bytes per second from
there on, ``fin`` closes the sending side, ``reset`` aborts with RST. ``nothing`` is the
conversation without a step. ``urgent 61`` sends one byte as urgent data. ``|`` separates
simultaneous conversations, ``then`` those in sequence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from echoproto.probe.script.payload import (
    MAX_PAYLOAD,
    ConversationError,
    format_payload,
    parse_payload,
    split_unquoted,
)
from echoproto.probe.script.words import shorten

__all__ = [
    "Absent",
    "Await",
    "Conversation",
    "ConversationError",
    "HalfClose",
    "Hold",
    "Pause",
    "Reset",
    "Send",
    "Session",
    "SlowRead",
    "Step",
    "Urgent",
    "key_of",
]

MAX_PAUSE = 3_600_000
MAX_CONVERSATIONS = 1024

EMPTY = "nothing"


class _Printer(Protocol):
    """What prints for Hypothesis and IPython.

    Both would print a dataclass by its fields, and bytes at full length.
    """

    def text(self, text: str) -> None: ...


@dataclass(frozen=True, repr=False)
class Send:
    """Send ``payload`` in one write, as a segment of its own where it fits one."""

    payload: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.payload) <= MAX_PAYLOAD:
            raise ConversationError(
                f"send: {len(self.payload)} bytes; allowed are 1 to {MAX_PAYLOAD}"
            )

    @classmethod
    def parse(cls, text: str) -> Send:
        """Read the text form of the payload: ``0d ff 00*4097``.

        Raises:
            ConversationError: as :func:`parse_payload` does, and if there are no bytes.
        """
        return cls(parse_payload(text))

    def __str__(self) -> str:
        return f"send {format_payload(self.payload)}"

    def __repr__(self) -> str:
        return f'Send.parse("{format_payload(self.payload)}")'

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True)
class Urgent(Send):
    """Send one byte as urgent data (RFC 6093), in a write of its own.

    Linux calls it out-of-band data, and takes it out of the stream of a receiver that has not
    set SO_OOBINLINE (tcp(7), socket(7)). Few have, so that it comes back from few echoes.
    """

    def __post_init__(self) -> None:
        if len(self.payload) != 1:
            raise ConversationError(f"urgent: {len(self.payload)} bytes; it must be 1")

    def __str__(self) -> str:
        return f"urgent {format_payload(self.payload)}"


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
class Absent:
    """Connect only after ``ms`` milliseconds without any connection of this session."""

    ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.ms <= MAX_PAUSE:
            raise ConversationError(f"absent: {self.ms}; allowed are 0 to {MAX_PAUSE} milliseconds")

    def __str__(self) -> str:
        return f"absent {self.ms}"


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
class Hold:
    """From here on, do not read for ``ms`` milliseconds; the steps go on meanwhile."""

    ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.ms <= MAX_PAUSE:
            raise ConversationError(f"hold: {self.ms}; allowed are 0 to {MAX_PAUSE} milliseconds")

    def __str__(self) -> str:
        return f"hold {self.ms}"


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


Step = Send | Await | Pause | SlowRead | Hold | Absent | HalfClose | Reset


@dataclass(frozen=True, repr=False)
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
            if isinstance(step, Absent) and index:
                raise ConversationError("'absent' can only be the first step")
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
        return cls(tuple(_parse_step(part.strip()) for part in split_unquoted(text, ";")))

    @property
    def payload(self) -> bytes:
        """All bytes sent, joined."""
        return b"".join(step.payload for step in self.steps if isinstance(step, Send))

    @property
    def urgent(self) -> frozenset[int]:
        """The offsets in the payload of the bytes that are sent as urgent data."""
        offset = 0
        found = []
        for step in self.steps:
            if isinstance(step, Send):
                if isinstance(step, Urgent):
                    found.append(offset)
                offset += len(step.payload)
        return frozenset(found)

    @property
    def absent_ms(self) -> int:
        """For how many milliseconds there is no connection before it."""
        return sum(step.ms for step in self.steps[:1] if isinstance(step, Absent))

    @property
    def own_seconds(self) -> float:
        """The seconds that its pauses, holds and slow reading take on any path."""
        waits = (step for step in self.steps if isinstance(step, Pause | Hold | Absent))
        pauses = sum(step.ms / 1000 for step in waits)
        rates = [step.rate for step in self.steps if isinstance(step, SlowRead)]
        return pauses + sum(len(self.payload) / rate for rate in rates)

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps)) or EMPTY

    def __repr__(self) -> str:
        return f'Conversation.parse("{self}")'

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True, repr=False)
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
        if self.is_simultaneous and self.has_absence:
            raise ConversationError("'absent' needs 'then': with '|' there is a connection")

    @property
    def is_simultaneous(self) -> bool:
        """Whether it has several connections at the same time."""
        return len(self.conversations) > 1 and not self.sequential

    @property
    def has_absence(self) -> bool:
        """Whether it has a time without any connection."""
        return any(conversation.absent_ms for conversation in self.conversations)

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
        parts, at_once = split_unquoted(text, r"\bthen\b"), split_unquoted(text, r"\|")
        sequential = len(parts) > 1
        if len(at_once) > 1:
            if sequential:
                raise ConversationError("'|' and 'then' cannot be mixed in one session")
            parts = at_once
        return cls(tuple(map(Conversation.parse, parts)), sequential)

    @property
    def joiner(self) -> str:
        """The separator of two conversations in the text form."""
        return " then " if self.sequential else " | "

    def __str__(self) -> str:
        return self.joiner.join(map(str, self.conversations))

    def __repr__(self) -> str:
        return f'Session.parse("{self}")'

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:
        printer.text(repr(self))


_STEP_HELP = (
    "allowed are send HEX, await, pause MS, hold MS, slow RATE, fin, reset, urgent HEX, absent MS"
)
_COUNTED: dict[str, type[Pause | Hold | SlowRead | Absent]] = {
    "pause": Pause, "hold": Hold, "slow": SlowRead, "absent": Absent
}  # fmt: skip


def key_of(session: Session) -> int:
    """Return a hash by which to remember a session, without its megabytes.

    It tells steps of different kinds apart, as that of a dataclass does not.
    """
    kinds = tuple(tuple(map(type, conversation.steps)) for conversation in session.conversations)
    return hash((kinds, session))


def _parse_step(text: str) -> Step:
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word in ("send", "urgent"):
        return (Send if word == "send" else Urgent)(parse_payload(rest))
    if word in _COUNTED:
        if not re.fullmatch(r"[0-9]{1,40}", rest):
            raise ConversationError(f"{word}: {shorten(rest, 40)!r} is not a whole number")
        return _COUNTED[word](int(rest))
    plain: dict[str, Step] = {"await": Await(), "fin": HalfClose(), "reset": Reset()}
    if word not in plain or rest:
        raise ConversationError(f"{shorten(text, 40)!r} is not a step; {_STEP_HELP}")
    return plain[word]
