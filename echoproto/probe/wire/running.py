"""A session under way: its conversations at the same time, or one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.comparison import verdict_at
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.exchange import Exchange
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

__all__ = ["Running"]

# Fewer bytes are found in another conversation by chance.
_SURE_BYTES = 8
# More equal conversations than this connect at the same time.
_CROWD = 32

_TIMED_OUT = (Fault.STALLED, Fault.NEVER_CLOSED)


class Running:
    """The exchanges of one session, from the first connect to the last verdict.

    A :class:`Loop` waits for their events. In a session of simultaneous conversations each
    connects once the one before it has sent what it can, and none closes before all of them have
    all their bytes.

    Args:
        session: what to run.
        connector: where to connect.
        limits: how long to wait.

    Raises:
        TargetError: if the session cannot be run with the target.

    Attributes:
        began: when, in ``time.monotonic`` seconds.
        outcome: None until it is done.
    """

    def __init__(self, session: Session, connector: Connector, limits: Limits) -> None:
        connector.check(session)
        self.session = session
        self.began = time.monotonic()
        self.outcome: Outcome | None = None
        self._answers = connector.answers
        alone = session.sequential or len(session.conversations) == 1
        self._exchanges = [
            Exchange(conversation, connector, limits, self.began, alone)
            for conversation in session.conversations
        ]
        self._started = 0
        self._absent_until = 0.0  # when the next one may connect; 0 if that is not known yet
        self._captures = limits.capture > 0
        # Where all are equal, their order says nothing, and so many round trips take long.
        self._crowd = len(self._exchanges) > _CROWD and len(set(session.conversations)) == 1

    @property
    def active(self) -> Sequence[Exchange]:
        """The exchanges that are started and not done."""
        return [exchange for exchange in self._exchanges[: self._started] if not exchange.done]

    @property
    def connection(self) -> int:
        """The number of the connection that shows its outcome, of all to this target."""
        return self._exchanges[self.outcome.index if self.outcome else 0].connection

    @property
    def last_moved(self) -> float:
        """When something last moved, in either direction, in what is not done."""
        return max((exchange.waiting.last for exchange in self.active), default=self.began)

    def wake(self) -> float:
        """Return when to call :meth:`advance` if there is no event before."""
        return min((exchange.wake() for exchange in self.active), default=self._absent_until)

    def is_late(self, now: float) -> bool:
        """Return whether it waits for the path, for longer than ``Limits.late``."""
        active = self.active
        return bool(active) and all(e.at_end or e.is_late(now) for e in active)

    def start(self, now: float) -> None:
        """Begin to connect.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory; so do the others.
        """
        self._proceed(now)

    def on_ready(self, exchange: Exchange, events: int, now: float) -> None:
        """Handle the events of one exchange's socket."""
        exchange.on_ready(events, now)
        if not exchange.done:
            exchange.advance(now)
        self._proceed(now)

    def advance(self, now: float) -> None:
        """Do what is due now."""
        for exchange in self.active:
            exchange.advance(now)
        self._proceed(now)

    def give_up(self, now: float) -> None:
        """Conclude now, without waiting for what is missing."""
        for exchange in self.active:
            exchange.give_up(now)
        self._conclude()

    def drop(self) -> None:
        """Release the sockets, whatever the state."""
        for exchange in self._exchanges:
            exchange.drop()

    def _proceed(self, now: float) -> None:
        """Start and close what can be started and closed; conclude when all are done."""
        exchanges, sequential = self._exchanges, self.session.sequential
        while self._started < len(exchanges) and self._may_start(sequential):
            if sequential and self._hangs():
                return self._conclude()  # each of the others would take a timeout
            if self._is_absent(self.session.conversations[self._started].absent_ms, now):
                return None
            self._started += 1
            exchanges[self._started - 1].start(now)
        active = self.active
        if active and self._started == len(exchanges) and all(e.at_end for e in active):
            for exchange in active:
                exchange.close_together(now)
            active = self.active
        if not active and (self._started == len(exchanges) or self._hangs()):
            self._conclude()
        return None

    def _may_start(self, sequential: bool) -> bool:
        """Return whether the next exchange may start."""
        if not self._started:
            return True
        before = self._exchanges[self._started - 1]
        return before.done if sequential else before.under_way or self._crowd

    def _is_absent(self, ms: int, now: float) -> bool:
        """Return whether the next exchange waits, while there is no connection."""
        if ms and not self._absent_until:
            self._absent_until = now + ms / 1000
        if now < self._absent_until:
            return True
        self._absent_until = 0.0
        return False

    def _hangs(self) -> bool:
        """Return whether the exchange that was started last has timed out."""
        verdict = self._exchanges[self._started - 1].verdict if self._started else None
        return self.session.sequential and verdict is not None and verdict.kind in _TIMED_OUT

    def _conclude(self) -> None:
        exchanges = self._exchanges
        waiting = max((exchange.waiting for exchange in exchanges), key=lambda w: w.longest)
        self.outcome = Outcome(
            session=self.session,
            verdicts=tuple(_verdict(exchange, exchanges) for exchange in exchanges),
            timelines=tuple(exchange.timeline.events() for exchange in exchanges),
            seconds=time.monotonic() - self.began,
            round_trips=tuple(sample for e in exchanges for sample in e.round_trips),
            captured=tuple(bytes(e.capture.data) for e in exchanges if self._captures),
            wait=waiting.longest,
            waited_for=waiting.waited_for,
        )
        for exchange, answered in zip(exchanges, self.outcome.answered, strict=True):
            if answered is not None and exchange.verdict is not None:
                self._answers.note(exchange.connection, answered)
        self.drop()


def _verdict(exchange: Exchange, exchanges: Sequence[Exchange]) -> Verdict:
    """Return the exchange's verdict; cross-talk if enough wrong bytes are another's."""
    if exchange.verdict is None:
        return Verdict(Fault.NONE, "not run: an earlier conversation of the session timed out")
    verdict, tail = exchange.verdict, exchange.tail
    if held := exchange.capture.difference:
        sent, received = verdict.sent, verdict.received
        verdict = verdict_at(
            held.kind, held.message, exchange.stream, sent, received, held.offset, held.got
        )
        tail = held.tail
    if verdict.kind not in (Fault.CORRUPT, Fault.EXTRA) or len(tail) < _SURE_BYTES:
        return verdict
    if tail in exchange.stream:
        return verdict
    for number, other in enumerate(exchanges, 1):
        if other is not exchange and tail in other.stream:
            message = f"the bytes of conversation {number} came back: {verdict.message}"
            return replace(verdict, kind=Fault.CROSS_TALK, message=message)
    return verdict
