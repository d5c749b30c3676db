"""The first connections: is it reachable, is it an echo, how fast, does half-close survive?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import Await, Conversation, HalfClose, Pause, Send
from echoproto.probe.wire.channel import Connector, connect, place
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.statistics import percentile
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Action, Fault, Outcome

__all__ = ["FIRST_STALLS", "NotAnEchoError", "Preflight", "check_echo", "preflight"]

# The shortest time after which silence counts as a stall, whatever the round trip: on a busy
# machine, a process sometimes waits for tens of milliseconds.
MIN_TIMEOUT = 0.05
MIN_PATIENCE = 1.0
ROUND_TRIPS_A_TIMEOUT = 20
# A first stall counts after this many timeouts, and only if it recurs.
FIRST_STALLS = 6

# How long the first answer may take in addition to its round trips, in seconds.
_FIRST_WAIT = 1.0
_BANNER_WAIT = 20  # milliseconds
_FLOOD = 8192
_TLS_ALERT = b"\x15\x03"
_ATTEMPTS = (b"echo", b"\0", b"0123456789abcdef", b"e", b"\r\n", b"echo\n", b"a" * 100, b"\x55")


class NotAnEchoError(TargetError):
    """The target answers, but is not an echo; the message says what it is."""


@dataclass(frozen=True)
class Preflight:
    """What the first connections showed of the path.

    Attributes:
        address: the address connected to, for people.
        round_trips: seconds, one for each small echo.
        timeout: seconds without progress after which a conversation counts as stalled while
            shrinking: 20 times the 99th percentile of the round trips, at least 50 ms.
        patience: the same where a busy machine at either end must not pass for a fault: six
            times as long, at least 1 s.
        half_close: whether everything sent before a FIN comes back after it, then EOF. Over
            TLS, the same of close_notify, which has the meaning of a FIN there.
        tls_version: that the handshakes agreed on, as ``TLSv1.3``; empty without TLS.
    """

    address: str
    round_trips: tuple[float, ...]
    timeout: float
    patience: float
    half_close: bool
    tls_version: str = ""

    def __str__(self) -> str:
        return (
            f"{self.address}: round trip {1000 * self.round_trip:.3g} ms, "
            f"{self.half_close_in_words}"
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
        grace = max(3 * self.round_trip, 0.002)
        return Limits(stall=stall, half_close=self.half_close, grace=grace)

    @property
    def half_close_in_words(self) -> str:
        """What was tried, and whether it worked."""
        tried = f" ({self.tls_version} close_notify)" if self.tls_version else ""
        if self.half_close:
            return f"half-close{tried} survives"
        if self.tls_version and self.tls_version < "TLSv1.3":
            # RFC 5246, 7.2.1: on close_notify the other side discards pending data.
            return f"half-close{tried} does not survive, as it need not before TLSv1.3"
        return f"half-close{tried} does not survive"


def preflight(target: Target, rate: float | None = None) -> tuple[Connector, Preflight]:
    """Connect, and find out what all later verdicts depend on.

    A path may break these exchanges too, so each question is asked in several ways. One right
    answer is enough for an echo; one wrong answer is not enough to rule it out.

    Args:
        target: where to connect.
        rate: as for :class:`Connector`.

    Raises:
        TargetError: if there is no connection; the message says why.
        NotAnEchoError: if there is one, but not to an echo.
        LocalError: if this machine runs out of ports or descriptors.
    """
    connector = connect(target, rate)
    check_echo(connector)
    round_trips = _round_trips(connector)
    p99 = percentile(sorted(round_trips), 99)
    timeout = max(ROUND_TRIPS_A_TIMEOUT * p99, MIN_TIMEOUT)
    patience = max(FIRST_STALLS * timeout, MIN_PATIENCE)
    half_close = _half_close(connector, FIRST_STALLS * timeout)
    return connector, Preflight(
        address=place(connector),
        round_trips=tuple(round_trips),
        timeout=timeout,
        patience=patience,
        half_close=half_close,
        tls_version=connector.tls_version,
    )


def check_echo(connector: Connector) -> None:
    """Return if anything comes back as from an echo.

    Raises:
        NotAnEchoError: if nothing does.
    """
    wait = _FIRST_WAIT + ROUND_TRIPS_A_TIMEOUT * connector.round_trip
    limits = Limits(stall=wait, half_close=False)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for number, payload in enumerate(_ATTEMPTS):
        # Half of them with FIN: some paths forward nothing before the end.
        end = (HalfClose(),) if number % 2 else ()
        # First a silence, for servers that speak first.
        silence = Pause(_BANNER_WAIT)
        conversation = Conversation((silence, Send(payload), *(end or (Await(),))))
        outcome = run(conversation, connector, limits)
        if outcome.ok or outcome.kind is Fault.NEVER_CLOSED:
            return
        outcomes.append(outcome)
        if outcome.kind is Fault.REFUSED and "TLS" in outcome.verdict.message:
            raise NotAnEchoError(outcome.verdict.message)
        if outcome.verdict.received > 0 and outcome.kind in (Fault.TRUNCATED, Fault.STALLED):
            return  # a part of it came back
        if outcome.kind is Fault.CORRUPT and _resembles(outcome, payload):
            return
        if time.monotonic() - began > 2 * wait:
            break
    raise NotAnEchoError(_why_not(connector, outcomes))


def _resembles(outcome: Outcome, payload: bytes) -> bool:
    """Return whether wrong bytes are those sent, with a fault, and not an answer to them."""
    got = outcome.verdict.got
    return any(payload[i : i + 2] in got for i in range(len(payload) - 1))


def _why_not(connector: Connector, outcomes: Sequence[Outcome]) -> str:
    verdict = outcomes[0].verdict
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
            data = _answer(outcomes[0])[1]
            if data.startswith(_TLS_ALERT):
                return f"not an echo: it answered with a TLS alert{_tls_hint(connector)}"
            return f"not an echo: it answered {_text(data)}"
        case Fault.STALLED:
            return (
                f"not an echo: it took {verdict.sent} bytes and sent nothing back in "
                f"{outcomes[0].seconds:.3g} s (stalled){_tls_hint(connector)}"
            )
        case Fault.RESET:
            return f"not an echo: it reset the connection at the first bytes{_tls_hint(connector)}"
    return f"not an echo: it closed the connection without an answer{_tls_hint(connector)}"


def _answer(outcome: Outcome) -> tuple[int, bytes]:
    """Return the size of the first read, and its first bytes."""
    received = (e for e in outcome.timelines[0] if e.action is Action.RECEIVED)
    return next(((event.size, event.data) for event in received), (0, b""))


def _text(data: bytes) -> str:
    """Return bytes as text if they are text, else in hexadecimal."""
    line = data.splitlines()[0] if data.splitlines() else data
    text = line.decode("ascii", "replace")
    return repr(text) if line and text.isprintable() and text.isascii() else data[:16].hex(" ")


def _tls_hint(connector: Connector) -> str:
    """Return a hint if the other side expects TLS but the target was given without it."""
    target = connector.target
    if target.scheme != "tcp":
        return ""
    secure = Connector(
        replace(target, scheme="tls", insecure=True), (connector.family, connector.where)
    )
    outcome = run(Conversation(), secure, Limits(stall=1.0, half_close=False, connect=1.0))
    return "" if outcome.kind is Fault.REFUSED else f" (it expects TLS: try tls:{target})"


def _round_trips(connector: Connector) -> list[float]:
    """Return the seconds of some small echoes, over several connections."""
    wait = FIRST_STALLS * max(MIN_TIMEOUT, ROUND_TRIPS_A_TIMEOUT * connector.round_trip)
    limits = Limits(stall=wait, half_close=False)
    samples: list[float] = []
    for _ in range(4):
        outcome = run(Conversation((Send(b"e"), Await()) * 6), connector, limits)
        samples += [seconds for _, seconds in outcome.round_trips]
        if not outcome.ok and not samples:
            break
    return samples or [connector.round_trip]


def _half_close(connector: Connector, stall: float) -> bool:
    """Return whether all bytes come back after a FIN, then EOF.

    Over TLS, close_notify is sent instead; the TCP connection stays open in both directions.
    """
    limits = Limits(stall=stall, half_close=False)
    for size in (1, 100, 5000, 1, 50_000, 1):
        payload = Send(b"e" * size)
        outcome = run(Conversation((payload, HalfClose())), connector, limits)
        if outcome.kind in (Fault.STALLED, Fault.NEVER_CLOSED, Fault.REFUSED):
            return False
        # If the bytes are lost without a FIN too, closing is not the cause.
        if outcome.kind in (Fault.TRUNCATED, Fault.RESET):
            return not run(Conversation((payload, Await())), connector, limits).ok
    return True
