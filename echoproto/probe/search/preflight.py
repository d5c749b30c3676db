"""The first connections: is it reachable, is it an echo, how fast, does half-close survive?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from echoproto.probe.script.conversation import Await, Conversation, HalfClose, Send
from echoproto.probe.search.first_contact import (
    BULK,
    Contact,
    NotAnEchoError,
    StoppedError,
    first_contact,
)
from echoproto.probe.wire.clock import Clock
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect, place
from echoproto.probe.wire.limits import CONNECT_TIMEOUT, PATIENCE, Limits
from echoproto.probe.wire.run import run, run_all
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Action, Fault, Outcome

__all__ = ["NotAnEchoError", "Preflight", "StoppedError", "assumed", "preflight"]

# How long the first right answer may take, in seconds: balancers that look at the first bytes
# wait for 5 s.
_FIRST_WAIT = 10.0

_SAMPLES = 4  # connections to measure round trips on
_ECHOES = 4  # on each; the first waits for what is set up behind a proxy, and does not count

# An EOF that comes 2 s after FIN is late, but half-close survives.
_HALF_CLOSE_SECONDS = 4.0
_HALF_CLOSE_SIZES = (1, 100, 5000, 1, 50_000, 1)

_SEGMENTS = 14_480
"""Bytes of the first congestion window (RFC 6928), doubled with each round trip."""

_RATE_SIZE = 65_536
_ASSUMED_ROUND_TRIP = 0.1  # seconds
_SUSPECT_SECONDS = 0.04
_VERY_SLOW_SECONDS = 0.3  # for 8 KiB: 27 kB/s and less


@dataclass(frozen=True)
class Preflight:
    """What the first connections showed of the path.

    Attributes:
        address: the address connected to, for people.
        round_trips: seconds, one for each small echo on an established connection.
        timeout: seconds without progress after which a trial counts as stalled while a failure
            is reproduced and shrunk.
        patience: the same for a verdict: what comes before is late, not lost.
        half_close: whether everything sent before a FIN comes back after it, then EOF. Over
            TLS, the same of close_notify, which has the meaning of a FIN there.
        tls_version: that the handshakes agreed on, as ``TLSv1.3``; empty without TLS.
        samples: in how many of how many attempts half-close survived.
        buffering: what the path keeps back, in words; empty if it passes everything at once.
        rate: bytes per second that the path carries; infinite if it showed no limit.
        check: a conversation that worked.
        connect_timeout: seconds that connecting may take.
        half_closes: whether this side can half-close at all.
    """

    address: str
    round_trips: tuple[float, ...]
    timeout: float
    patience: float
    half_close: bool
    tls_version: str = ""
    samples: tuple[int, int] = (0, 0)
    buffering: str = ""
    rate: float = math.inf
    check: Conversation = field(default_factory=lambda: Conversation((Send(b"e"), Await())))
    connect_timeout: float = CONNECT_TIMEOUT
    half_closes: bool = True

    def __str__(self) -> str:
        slow = f"{self.rate / 1000:.3g} kB/s, " if self.rate < math.inf else ""
        held = f", {self.buffering}" if self.buffering else ""
        return (
            f"{self.address}: round trip {1000 * self.round_trip:.3g} ms, {slow}"
            f"{self.half_close_in_words}{held}"
        )

    @property
    def round_trip(self) -> float:
        """The median round trip, in seconds."""
        trips = sorted(self.round_trips)
        return trips[len(trips) // 2]

    def limits(self, stall: float) -> Limits:
        """Return the limits of an exchange on this path.

        Args:
            stall: seconds without progress after which a wait fails.
        """
        return Limits(
            stall=stall,
            half_close=self.half_close,
            connect=self.connect_timeout,
            grace=Clock(self.round_trips).grace,
        )

    @property
    def half_close_in_words(self) -> str:
        """What was tried, and whether it worked."""
        if not self.half_closes:
            return "half-close is not possible"
        tried = f" ({self.tls_version} close_notify)" if self.tls_version else ""
        survived, samples = self.samples
        some = f" in {survived} of {samples} attempts" if 0 < survived < samples else ""
        if self.half_close:
            return f"half-close{tried} survives{some}"
        if self.tls_version and self.tls_version < "TLSv1.3":
            # RFC 5246, 7.2.1: on close_notify the other side discards pending data.
            return f"half-close{tried} does not survive, as it need not before TLSv1.3"
        return f"half-close{tried} does not survive" + (f": only{some}" if some else "")


def preflight(
    target: Target,
    rate: float | None = None,
    *,
    timeout: float = 0.0,
    connect_timeout: float = CONNECT_TIMEOUT,
    patience: float = PATIENCE,
) -> tuple[Connector, Preflight]:
    """Connect, and find out what all later verdicts depend on.

    A path may break these exchanges too, so each question is asked in several ways, all at the
    same time. One right answer is enough for an echo.

    Args:
        target: where to connect.
        rate: as for :class:`Connector`.
        timeout: seconds that every wait for an answer takes at least.
        connect_timeout: seconds that connecting may take.
        patience: seconds after which silence is a fault.

    Raises:
        TargetError: if there is no connection; the message says why.
        NotAnEchoError: if there is one, but not to an echo.
        StoppedError: if only the first connections were those of an echo.
        LocalError: if this machine runs out of ports or descriptors.
    """
    if target.is_single:
        raise TargetError(f"{target} is one connection, and this needs many; use ping or replay")
    connector = connect(target, rate, connect_timeout, keep=True)
    wait = max(timeout, min(_FIRST_WAIT, patience))
    contact = first_contact(connector, wait)
    round_trips = _round_trips(connector, contact, wait)
    clock = Clock(round_trips, timeout)
    stall = max(clock.late, min(_HALF_CLOSE_SECONDS, patience))
    survived, samples = _half_close(connector, stall, contact.together)
    return connector, Preflight(
        address=place(connector),
        round_trips=tuple(round_trips),
        timeout=clock.timeout,
        patience=max(patience, clock.timeout),
        half_close=target.half_closes and 2 * survived >= samples,
        tls_version=connector.tls_version,
        samples=(survived, samples),
        buffering=contact.buffering,
        rate=_rate(connector, contact, clock.round_trip, wait),
        check=contact.conversation,
        connect_timeout=connect_timeout,
        half_closes=target.half_closes,
    )


def assumed(
    connector: Connector,
    *,
    timeout: float = 0.0,
    connect_timeout: float = CONNECT_TIMEOUT,
    patience: float = PATIENCE,
) -> Preflight:
    """Return what is assumed of a path that nothing can be tried on: one of a single connection.

    Args:
        connector: where to connect.
        timeout: as for :func:`preflight`, like the others.
        connect_timeout: seconds.
        patience: seconds.
    """
    clock = Clock([_ASSUMED_ROUND_TRIP], timeout)
    return Preflight(
        address=place(connector),
        round_trips=(_ASSUMED_ROUND_TRIP,),
        timeout=clock.timeout,
        patience=max(patience, clock.timeout),
        half_close=False,
        connect_timeout=connect_timeout,
    )


def _round_trips(connector: Connector, contact: Contact, wait: float) -> list[float]:
    """Return the seconds of some small echoes, over several connections at once."""
    limits = Limits(stall=wait, half_close=False, connect=wait)
    if not contact.probe:
        return [_answer_seconds(run(contact.conversation, connector, limits))]
    conversation = Conversation((Send(contact.probe), Await()) * _ECHOES)
    samples: list[float] = []
    for outcome in run_all([conversation] * _SAMPLES, connector, limits, contact.together):
        trips = [seconds for _, seconds in outcome.round_trips]
        samples += trips[1:]
    if samples:
        return samples
    # Nothing but the first echo of a connection comes back.
    return [_answer_seconds(run(contact.conversation, connector, limits))]


def _answer_seconds(outcome: Outcome) -> float:
    """Return the seconds from the last byte sent to the first one received."""
    sent = [event.at for event in outcome.timelines[0] if event.action is Action.SENT]
    back = [event.at for event in outcome.timelines[0] if event.action is Action.RECEIVED]
    return max(back[0] - sent[-1], 0.0) if sent and back else outcome.seconds


def _half_close(connector: Connector, stall: float, together: bool) -> tuple[int, int]:
    """Return in how many of how many attempts all bytes came back after a FIN, then EOF.

    Over TLS, close_notify is sent instead; the TCP connection stays open in both directions.
    One of several servers behind a balancer may refuse it, so there are several attempts.
    """
    if not connector.target.half_closes:
        return 0, 0
    limits = Limits(stall=stall, half_close=False, connect=stall)
    sends = [Send(b"e" * size) for size in _HALF_CLOSE_SIZES]
    with_fin = [Conversation((send, HalfClose())) for send in sends]
    outcomes = run_all(with_fin, connector, limits, together)
    survived = sum(outcome.ok for outcome in outcomes)
    broken = [
        send
        for send, outcome in zip(sends, outcomes, strict=True)
        if outcome.kind not in (Fault.NONE, Fault.CORRUPT, Fault.EXTRA, Fault.CROSS_TALK)
    ]
    if not broken:
        return survived, survived
    # If the bytes are lost without a FIN too, closing is not the cause.
    awaited = [Conversation((send, Await())) for send in broken]
    without = run_all(awaited, connector, limits, together)
    return survived, survived + sum(outcome.ok for outcome in without)


def _rate(connector: Connector, contact: Contact, round_trip: float, wait: float) -> float:
    """Return how many bytes per second the path carries; infinite if it shows no limit.

    Only a path that took long for 8 KiB is measured, with more unless that took very long. What
    the congestion window takes to open is not the path's rate, and neither is a moment in which
    this machine was busy: the faster one of two exchanges counts.
    """
    if contact.bulk_seconds is None or contact.bulk_seconds - round_trip < _SUSPECT_SECONDS:
        return math.inf
    size = BULK if contact.bulk_seconds - round_trip > _VERY_SLOW_SECONDS else _RATE_SIZE
    # After an echo: some balancers wait some seconds for the first bytes of a connection.
    steps = (Send(contact.probe or b"e"), Await(), *(Send(bytes(size)), Await()) * 2)
    limits = Limits(stall=wait, half_close=False, connect=wait)
    outcome = run(Conversation(steps), connector, limits)
    if len(outcome.round_trips) < 2:
        return math.inf
    seconds = min(seconds for _, seconds in outcome.round_trips[1:])
    opening = round_trip * (1 + math.log2(1 + size / _SEGMENTS))
    return size / (seconds - opening) if seconds - opening > _SUSPECT_SECONDS else math.inf
