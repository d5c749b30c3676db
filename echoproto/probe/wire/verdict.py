"""The result of a session: the kind of fault, where the bytes first differ, and when."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from echoproto.probe.script.conversation import Reset, Session

__all__ = ["Action", "Event", "Fault", "Outcome", "Verdict"]


class Fault(str, enum.Enum):
    """The kind of fault that a path showed in a conversation."""

    NONE = "ok"
    """All bytes came back."""
    CORRUPT = "corrupt"
    """A byte came back different."""
    EXTRA = "extra"
    """More came back than was sent."""
    TRUNCATED = "truncated"
    """The path closed (EOF) before all bytes were back."""
    STALLED = "stalled"
    """Bytes are missing, and nothing moves any more."""
    RESET = "reset"
    """The path aborted the connection (RST, or a TLS alert)."""
    REFUSED = "refused"
    """The connection or its TLS handshake failed."""
    CROSS_TALK = "cross-talk"
    """The bytes of another conversation came back."""
    NEVER_CLOSED = "never-closed"
    """All bytes are back and this side has closed, but the path does not close its own."""
    DELAYED = "delayed"
    """All came back, but later than allowed."""

    def __str__(self) -> str:
        return self.value


class Action(str, enum.Enum):
    """What happened at one point of a time line."""

    CONNECTED = "connected"
    SENT = "sent"
    RECEIVED = "received"
    SENT_FIN = "sent fin"
    SENT_RESET = "sent reset"
    GOT_EOF = "eof"
    GOT_RESET = "got reset"
    AWAITED = "awaited"
    PAUSED = "paused"
    SLOWED = "slowed"
    HELD = "held"
    TIMED_OUT = "timed out"
    CLOSED = "closed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Event:
    """One point of a conversation's time line.

    Attributes:
        at: seconds since the session began.
        action: what happened.
        step: the index of the step it belongs to; None for what is received, and for the end.
        offset: for ``SENT`` and ``RECEIVED``, the offset of the first byte in its direction.
        size: for ``SENT`` and ``RECEIVED``, the number of bytes.
        data: the first of these bytes, at most 64.
    """

    at: float
    action: Action
    step: int | None = None
    offset: int = 0
    size: int = 0
    data: bytes = b""


@dataclass(frozen=True)
class Verdict:
    """The result of one conversation of a session.

    Attributes:
        kind: ``Fault.NONE`` or the fault.
        message: one sentence for people.
        sent: bytes sent.
        received: bytes received.
        offset: where what was received first differs from what was sent (or ends, or goes on
            too long); None when nothing differs.
        context: the offset of the first byte of ``expected`` and ``got``.
        expected: what was sent around ``offset``.
        got: what was received around ``offset``.
    """

    kind: Fault
    message: str
    sent: int = 0
    received: int = 0
    offset: int | None = None
    context: int = 0
    expected: bytes = b""
    got: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return self.kind is Fault.NONE


@dataclass(frozen=True)
class Outcome:
    """The result of a session.

    Attributes:
        session: what was run.
        verdicts: one for each conversation of the session.
        timelines: the events of each conversation, in order of time; at most 400 of each, the
            last one always included.
        seconds: how long it took.
        round_trips: for each wait that was met, the bytes it covered and the seconds it took.
        captured: what each conversation received, as far as ``Limits.capture`` allows; empty
            without it.
        wait: the longest time without progress, in seconds.
        waited_for: what ended that wait: ``RECEIVED`` or ``GOT_EOF``.
    """

    session: Session
    verdicts: tuple[Verdict, ...]
    timelines: tuple[tuple[Event, ...], ...]
    seconds: float
    round_trips: tuple[tuple[int, float], ...] = field(default=())
    captured: tuple[bytes, ...] = field(default=())
    wait: float = 0.0
    waited_for: Action = Action.RECEIVED

    @property
    def index(self) -> int:
        """Which conversation shows most of the fault; 0 if there is none."""
        faulty = [index for index, verdict in enumerate(self.verdicts) if not verdict.ok]
        return min(faulty, key=lambda i: _BY_VALUE.index(self.verdicts[i].kind), default=0)

    @property
    def verdict(self) -> Verdict:
        """The verdict at :attr:`index`."""
        return self.verdicts[self.index]

    @property
    def kind(self) -> Fault:
        """The kind of :attr:`verdict`."""
        return self.verdict.kind

    @property
    def ok(self) -> bool:
        """Whether every conversation passed."""
        return self.kind is Fault.NONE

    @property
    def answered(self) -> tuple[bool | None, ...]:
        """Whether anything came back, bytes or EOF, in each conversation.

        None for one that resets: before that, nothing may have had the time to.
        """
        return tuple(
            True if verdict.received else None if verdict.ok and Reset() in c.steps else verdict.ok
            for c, verdict in zip(self.session.conversations, self.verdicts, strict=True)
        )

    @property
    def alone(self) -> Outcome:
        """The same with only the conversation at :attr:`index`."""
        at = self.index
        return replace(
            self,
            session=Session((self.session.conversations[at],)),
            verdicts=(self.verdicts[at],),
            timelines=(self.timelines[at],),
            captured=self.captured[at : at + 1],
        )


# One fault shows as several: cross-talk causes a stall on the other side. Wrong bytes show more
# than missing ones, missing ones more than a connection that did not end well.
_BY_VALUE = (
    Fault.CROSS_TALK,
    Fault.CORRUPT,
    Fault.EXTRA,
    Fault.RESET,
    Fault.TRUNCATED,
    Fault.REFUSED,
    Fault.STALLED,
    Fault.NEVER_CLOSED,
    Fault.DELAYED,
)
