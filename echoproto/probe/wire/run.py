"""Runs a session on sockets and judges what came back.

The one rule: what comes back is a prefix of what was sent, and complete at each ``await`` and
at the end. No expectation has to be written down, so any bytes can be sent.

Reading and writing are interleaved in one thread, so an exchange cannot deadlock itself; each
``send`` is a write of its own, with Nagle's algorithm off. An exchange ends in bounded time
whatever the path does: a wait ends after ``Limits.stall`` seconds without progress, a
conversation after ``Limits.total``. It uses bounded memory: the first wrong byte ends the
conversation, so nothing beyond what was sent is kept.

Where half-close survives the path, the end of a conversation is judged by EOF: this side closes
its sending side and reads to the end, which needs no timeout even if bytes are missing.
Elsewhere it waits for the bytes until the stall timeout. In a session of simultaneous
conversations, none closes before all of them have all their bytes.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from dataclasses import replace

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.wire.channel import Connector
from echoproto.probe.wire.exchange import Exchange
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

__all__ = ["run"]

_TIMED_OUT = (Fault.STALLED, Fault.NEVER_CLOSED)


def run(script: Conversation | Session, connector: Connector, limits: Limits) -> Outcome:
    """Run a session and judge it.

    Args:
        script: the session, or its only conversation.
        connector: where to connect.
        limits: how long to wait.

    Raises:
        LocalError: if this machine is out of ports, descriptors or memory.
    """
    session = Session.of(script)
    began = time.monotonic()
    alone = session.sequential or len(session.conversations) == 1
    exchanges = [Exchange(c, connector, limits, began, alone) for c in session.conversations]
    if session.sequential:
        for exchange in exchanges:
            _run_at_once([exchange])
            if exchange.verdict is not None and exchange.verdict.kind in _TIMED_OUT:
                break  # on a path that hangs, each of the others would take a timeout
    else:
        _run_at_once(exchanges)
    return Outcome(
        session=session,
        verdicts=tuple(_verdict(exchange, exchanges) for exchange in exchanges),
        timelines=tuple(exchange.timeline.events() for exchange in exchanges),
        seconds=time.monotonic() - began,
        round_trips=tuple(sample for exchange in exchanges for sample in exchange.round_trips),
    )


def _run_at_once(exchanges: Sequence[Exchange]) -> None:
    """Run exchanges at the same time until each has its verdict."""
    poller = _Poller()
    started = 0
    try:
        while True:
            now = time.monotonic()
            # In order: each connects once the one before it is connected and has to wait.
            while started < len(exchanges) and (started == 0 or exchanges[started - 1].under_way):
                exchanges[started].start(now)
                started += 1
            active = [exchange for exchange in exchanges[:started] if not exchange.done]
            if started == len(exchanges):
                if active and all(exchange.at_end for exchange in active):
                    for exchange in active:
                        exchange.close_together(now)
                    active = [exchange for exchange in active if not exchange.done]
                if not active:
                    return
            ready = poller.wait(active)
            now = time.monotonic()
            for exchange, events in ready:
                exchange.on_ready(events, now)
            for exchange in active:
                if not exchange.done:
                    exchange.advance(now)
    finally:
        for exchange in exchanges:
            exchange.drop()


class _Poller:
    """Waits for the events of exchanges."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._registered: set[int] = set()

    def wait(self, active: Sequence[Exchange]) -> list[tuple[Exchange, int]]:
        """Wait for events, until the first moment at which one of the exchanges must wake."""
        wanted = {e.fd: (e, mask) for e in active if (mask := e.mask())}
        for fd in self._registered - wanted.keys():
            self._poll.unregister(fd)
        for fd, (_, mask) in wanted.items():
            # Also when the mask is the same: the descriptor may be a new socket's.
            self._poll.register(fd, mask)
        self._registered = set(wanted)
        wake = min(exchange.wake() for exchange in active) - time.monotonic()
        # Rounded up: waking early would spin until the moment comes.
        ready = self._poll.poll(max(0, int(wake * 1000) + 1))
        return [(wanted[fd][0], events) for fd, events in ready]


def _verdict(exchange: Exchange, exchanges: Sequence[Exchange]) -> Verdict:
    """Return the exchange's verdict; cross-talk if the wrong bytes are another's."""
    if exchange.verdict is None:
        return Verdict(Fault.NONE, "not run: an earlier conversation of the session timed out")
    verdict, tail = exchange.verdict, exchange.tail
    if verdict.kind not in (Fault.CORRUPT, Fault.EXTRA) or tail in exchange.stream:
        return verdict
    for number, other in enumerate(exchanges, 1):
        if other is not exchange and tail in other.stream:
            message = f"the bytes of conversation {number} came back: {verdict.message}"
            return replace(verdict, kind=Fault.CROSS_TALK, message=message)
    return verdict
