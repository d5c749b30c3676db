"""Is it an echo? Several payloads at once; one right answer is enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import Await, Conversation, HalfClose, Pause, Send, Session
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.loop import Loop
from echoproto.probe.wire.run import run
from echoproto.probe.wire.running import Running
from echoproto.probe.wire.target import TargetError
from echoproto.probe.wire.verdict import Action, Fault, Outcome

__all__ = ["BULK", "Contact", "NotAnEchoError", "StoppedError", "first_contact"]

_BANNER_WAIT = 20  # milliseconds
_LATE_BANNER = 1000  # milliseconds
_FLOOD = 8192
_TLS_ALERT = b"\x15\x03"
_HINT_SECONDS = 1.0

# Once one attempt has succeeded, the others get so many times as long as that took, and at
# least so many seconds; and as long again after each byte that moves, since a link may be slow.
_OTHERS, _OTHERS_SECONDS = 4, 0.3

# How long, and how often, a path is tried that answered its first connections only.
_REVIVAL_SECONDS, _REVIVAL_STEP = 5.0, 0.2
_CHECKS, _CHECK_SECONDS = 3, 1.0


class NotAnEchoError(TargetError):
    """The target answers, but is not an echo; the message says what it is."""


class StoppedError(NotAnEchoError):
    """The target was an echo on its first connections, and nothing came back on any other one.

    Attributes:
        count: how many connections were answered.
        outcome: of one after them.
        runs: how many were tried after them, one after the other, and failed too.
    """

    def __init__(self, count: int, outcome: Outcome, runs: int) -> None:
        first = "the first connection" if count == 1 else f"the first {count} connections"
        verdict = outcome.verdict
        super().__init__(
            f"an echo on {first} only; of those after, each is {verdict.kind}: {verdict.message}"
        )
        self.count = count
        self.outcome = outcome
        self.runs = runs


@dataclass(frozen=True)
class _Attempt:
    """One payload to try.

    Attributes:
        name: for people.
        payload: what to send.
        fin: whether FIN follows: some paths forward nothing before the end.
    """

    name: str
    payload: bytes
    fin: bool = False

    @property
    def conversation(self) -> Conversation:
        """A silence first, for servers that speak first; then the payload."""
        end = HalfClose() if self.fin else Await()
        return Conversation((Pause(_BANNER_WAIT), Send(self.payload), end))


BULK = 8192
"""The size of the largest attempt, in bytes."""

_ATTEMPTS = (
    _Attempt("4 bytes", b"echo"),
    _Attempt("a line", b"echo\n"),
    _Attempt("16 bytes", b"0123456789abcdef"),
    _Attempt("1 byte", b"e"),
    _Attempt("8 KiB", bytes(range(32, 96)) * (BULK // 64)),
    _Attempt("NUL", b"\0", fin=True),
    _Attempt("1 byte", b"e", fin=True),
    _Attempt("a line", b"echo\n", fin=True),
    _Attempt("55", b"\x55", fin=True),
)


@dataclass(frozen=True)
class Contact:
    """What the first attempts showed.

    Attributes:
        conversation: one that worked, to ask later whether the path still works.
        probe: the payload to measure round trips with; empty if only FIN brings an answer.
        together: whether several attempts work at the same time; a path may mix them up.
        bulk_seconds: how long 8 KiB took to come back; None if they did not.
        buffering: what the path passes and what it keeps back, in words; empty if it passes all.
    """

    conversation: Conversation
    probe: bytes
    together: bool
    bulk_seconds: float | None
    buffering: str


def first_contact(connector: Connector, wait: float) -> Contact:
    """Make the attempts, all at the same time; if none works, one after the other.

    A path may break these exchanges too, so one wrong answer does not rule out an echo.

    Args:
        connector: where to connect.
        wait: seconds to wait for the first right answer.

    Raises:
        NotAnEchoError: if none is answered as by an echo.
        StoppedError: if the first ones are, and none that is made later.
        LocalError: if this machine is out of ports, descriptors or memory.
    """
    limits = Limits(stall=wait, half_close=False, connect=wait)
    outcomes = _at_once(connector, limits)
    if _begin_alike(outcomes):
        silence = Conversation((Pause(_LATE_BANNER),))
        # The second one gets nothing that a path has left of the attempts, and copies to it.
        if all((silent := run(silence, connector, limits)).kind is Fault.EXTRA for _ in range(2)):
            raise NotAnEchoError(_why_not([silent], lambda: ""))
    together = any(map(_answered, outcomes))
    if not together:
        # Perhaps a path that mixes connections up, or bears one only.
        again = _in_turn(connector, limits, outcomes)
        outcomes = again if any(map(_answered, again)) else outcomes
    if not any(map(_answered, outcomes)):
        made = [one for one in outcomes if one is not None]
        raise NotAnEchoError(_why_not(made, lambda: _hint(connector)))
    contact = _contact(outcomes, together)
    if count := _only_first(outcomes):
        _goes_on(connector, contact.conversation, count, limits)
    return contact


def _only_first(outcomes: Sequence[Outcome | None]) -> int:
    """Return how many attempts were answered before all others were not; 0 if it is not so."""
    answered = [one is not None and any(one.answered) for one in outcomes]
    count = sum(answered)
    return count if count < len(answered) and all(answered[:count]) else 0


def _goes_on(connector: Connector, conversation: Conversation, count: int, limits: Limits) -> None:
    """Return once the conversation that worked works again, alone.

    Raises:
        StoppedError: if it does not for some seconds, and the first time as long as any wait.
    """
    until = time.monotonic() + _REVIVAL_SECONDS
    stall = limits.stall
    runs = 0
    while True:
        outcome = run(conversation, connector, replace(limits, stall=stall))
        runs += 1
        if any(outcome.answered):
            return
        if time.monotonic() > until and runs >= _CHECKS:
            raise StoppedError(count, outcome, runs)
        stall = min(stall, _CHECK_SECONDS)
        time.sleep(_REVIVAL_STEP)


def _at_once(connector: Connector, limits: Limits) -> list[Outcome | None]:
    """Return the outcomes of the attempts; None for those that took much longer than others.

    Raises:
        NotAnEchoError: if the target expects TLS.
    """
    running = [Running(Session((a.conversation,)), connector, limits) for a in _ATTEMPTS]
    loop = Loop()
    tls = _TlsAttempt(connector, loop, limits.connect)
    began = time.monotonic()
    answered, until, patience = began, math.inf, math.inf
    try:
        for one in running:
            loop.add(one)
        while loop and time.monotonic() < until:
            done = loop.turn(min(until, tls.due))
            tls.turn([one.outcome for one in running if one.outcome is not None])
            if until == math.inf and any(_answered(one.outcome) for one in done):
                answered = time.monotonic()
                patience = max(_OTHERS * (answered - began), _OTHERS_SECONDS)
            moved = (one.last_moved for one in running if one.outcome is None)
            until = max([answered, *moved]) + patience
    finally:
        loop.close()
    return [one.outcome for one in running]


class _TlsAttempt:
    """A handshake beside the attempts, once some have ended and none has been answered.

    A TLS server ends a connection at 5 bytes, which are the header of a record, and waits for
    the rest of fewer. An echo completes no handshake.

    Attributes:
        due: when to call :meth:`turn` at the latest.
    """

    def __init__(self, connector: Connector, loop: Loop, wait: float) -> None:
        self.due = math.inf
        self._connector, self._loop, self._wait = connector, loop, wait
        self._began = time.monotonic()
        self._running: Running | None = None

    def turn(self, outcomes: Sequence[Outcome]) -> None:
        """Do what is due.

        Args:
            outcomes: of the attempts that are done.

        Raises:
            NotAnEchoError: if the handshake is complete, and no attempt has been answered.
        """
        if not outcomes or self._connector.target.scheme != "tcp" or any(map(_answered, outcomes)):
            self.due = math.inf
        elif self._running is None:
            # The others may be answered a little later.
            took = min(outcome.seconds for outcome in outcomes)
            self.due = self._began + took + max(_OTHERS * took, _OTHERS_SECONDS)
            if time.monotonic() >= self.due:
                self.due = math.inf
                self._running = _tls_handshake(self._connector, self._wait)
                self._loop.add(self._running)
        elif self._running.outcome is not None and self._running.outcome.kind is not Fault.REFUSED:
            raise NotAnEchoError(_why_not(outcomes, lambda: _try_tls(self._connector)))


def _tls_handshake(connector: Connector, wait: float) -> Running:
    """Return a session over TLS with a target without; it is refused if that does not speak it."""
    where = (connector.family, connector.where)
    secure = Connector(replace(connector.target, scheme="tls", insecure=True), where)
    limits = Limits(stall=wait, half_close=False, connect=wait)
    return Running(Session((Conversation(),)), secure, limits)


def _in_turn(
    connector: Connector, limits: Limits, outcomes: Sequence[Outcome | None]
) -> list[Outcome | None]:
    """Return the outcomes of the attempts when each is made alone; None for those not made.

    Those are not made that come after a right one, and those that stalled before: what other
    connections spoil is wrong or closed, and each silence takes the whole wait.

    Args:
        connector: where to connect.
        limits: how long to wait.
        outcomes: of the attempts at the same time.
    """
    alone: list[Outcome | None] = []
    for attempt, before in zip(_ATTEMPTS, outcomes, strict=True):
        skipped = before is None or before.kind is Fault.STALLED or any(map(_answered, alone))
        alone.append(None if skipped else run(attempt.conversation, connector, limits))
    return alone


def _contact(outcomes: Sequence[Outcome | None], together: bool) -> Contact:
    whole = [
        attempt
        for attempt, outcome in zip(_ATTEMPTS, outcomes, strict=True)
        if outcome is not None and (outcome.ok or outcome.kind is Fault.NEVER_CLOSED)
    ]
    small = [a for a in whole if not a.fin and len(a.payload) < BULK]
    # The shortest that works says most about the path's own time.
    probe = min(small, key=lambda a: len(a.payload)).payload if small else b""
    bulk = next(o for a, o in zip(_ATTEMPTS, outcomes, strict=True) if len(a.payload) == BULK)
    return Contact(
        conversation=whole[0].conversation if whole else _ATTEMPTS[0].conversation,
        probe=probe,
        together=together,
        bulk_seconds=bulk.round_trips[0][1] if bulk and bulk.ok and bulk.round_trips else None,
        buffering=_buffering(outcomes) if together else "",
    )


def _answered(outcome: Outcome | None) -> bool:
    """Return whether the outcome is that of an echo, if perhaps a broken one."""
    if outcome is None:
        return False
    if outcome.ok or outcome.kind is Fault.NEVER_CLOSED:
        return True
    if outcome.verdict.received > 0 and outcome.kind in (Fault.TRUNCATED, Fault.STALLED):
        return True  # a part of it came back
    (conversation,) = outcome.session.conversations
    return outcome.kind is Fault.CORRUPT and _resembles(outcome, conversation.payload)


def _begin_alike(outcomes: Sequence[Outcome | None]) -> bool:
    """Return whether all answers begin with the same byte, and each is wrong.

    So does a banner that comes together with the echo, since it was late.
    """
    begun = [one for one in outcomes if one is not None and one.verdict.received]
    first = {_answer(one)[1][:1] for one in begun}
    alike = len(begun) > 1 and len(first) == 1
    return alike and all(one.kind in (Fault.CORRUPT, Fault.EXTRA) for one in begun)


def _resembles(outcome: Outcome, payload: bytes) -> bool:
    """Return whether wrong bytes are those sent, with a fault, and not an answer to them."""
    got = outcome.verdict.got
    return any(payload[i : i + 2] in got for i in range(len(payload) - 1))


def _buffering(outcomes: Sequence[Outcome | None]) -> str:
    """Return what is kept back, if anything, while something else passes."""
    held, passed = [], []
    for attempt, outcome in zip(_ATTEMPTS, outcomes, strict=True):
        if not attempt.fin:
            if outcome is None or outcome.kind is Fault.STALLED:
                held.append(attempt.name)
            elif outcome.ok:
                passed.append(attempt.name)
    if not held:
        return ""
    kept = f"keeps back {', '.join(held)}"
    return f"passes {', '.join(passed)}; {kept}" if passed else f"{kept} until FIN"


def _why_not(outcomes: Sequence[Outcome], hint: Callable[[], str]) -> str:
    for outcome in outcomes:
        if outcome.kind is Fault.REFUSED and "TLS" in outcome.verdict.message:
            return outcome.verdict.message
    # A wrong answer says more than none.
    clearest = min(outcomes, key=lambda one: one.kind not in (Fault.CORRUPT, Fault.EXTRA))
    verdict = clearest.verdict
    unasked = [outcome for outcome in outcomes if outcome.ok is False and not outcome.verdict.sent]
    if any(outcome.kind is Fault.EXTRA for outcome in unasked):
        size, data = _answer(unasked[0])
        if size >= _FLOOD:
            return f"not an echo: it floods, {size} bytes arrived that were never sent (extra)"
        return f"not an echo: it sent a banner, {_text(data)}"
    match verdict.kind:
        case Fault.REFUSED:
            return verdict.message
        case Fault.CORRUPT | Fault.EXTRA:
            data = _answer(clearest)[1]
            if data.startswith(_TLS_ALERT):
                return f"not an echo: it answered with a TLS alert{hint()}"
            return f"not an echo: it answered {_text(data)}"
        case Fault.STALLED:
            return (
                f"not an echo: it took {verdict.sent} bytes and sent nothing back in "
                f"{clearest.seconds:.3g} s (stalled){hint()}"
            )
        case Fault.RESET:
            return f"not an echo: it reset the connection at the first bytes{hint()}"
    return f"not an echo: it closed the connection without an answer{hint()}"


def _answer(outcome: Outcome) -> tuple[int, bytes]:
    """Return the size of the first read, and its first bytes."""
    received = (e for e in outcome.timelines[0] if e.action is Action.RECEIVED)
    return next(((event.size, event.data) for event in received), (0, b""))


def _text(data: bytes) -> str:
    """Return bytes as text if they are text, else in hexadecimal."""
    line = data.splitlines()[0] if data.splitlines() else data
    text = line.decode("ascii", "replace")
    return repr(text) if line and text.isprintable() and text.isascii() else data[:16].hex(" ")


def _hint(connector: Connector) -> str:
    """Return a hint if the other side expects TLS but the target was given without it.

    Of a program, how it has ended.
    """
    if words := connector.last_words():
        return f" ({words})"
    if connector.target.scheme != "tcp":
        return ""
    loop = Loop()
    loop.add(handshake := _tls_handshake(connector, _HINT_SECONDS))
    while loop:
        loop.turn()
    refused = handshake.outcome is None or handshake.outcome.kind is Fault.REFUSED
    return "" if refused else _try_tls(connector)


def _try_tls(connector: Connector) -> str:
    return f" (it expects TLS: try tls:{connector.target.place})"
