"""Holds a session on sockets and judges what came back.

The one rule: what comes back is a prefix of what was sent, whole at each ``await`` and at the
end. No expectation has to be written down for it, so any bytes can be said.

Reading and writing go on at the same time, in one thread, so the exchange cannot deadlock
itself; each ``send`` is a write of its own with Nagle's algorithm off. It ends in bounded time
whatever the path does: a wait ends when nothing moved for ``Limits.stall`` seconds, a
conversation when ``Limits.total`` has passed. It ends in bounded memory: the first byte that is
wrong ends the conversation, so nothing beyond what was sent is ever kept.

Where half-close survives, the end of a conversation is judged by EOF: this side closes its
sending side and reads to the end, which takes no waiting even if bytes are missing. Elsewhere
it waits for the bytes until the stall timeout. In a session held at the same time, all bytes
are awaited first, and nobody closes until everybody has them.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from dataclasses import replace

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.wire.channel import Connector
from echoproto.probe.wire.exchange import Exchange, Limits
from echoproto.probe.wire.verdict import Event, Fault, Outcome, Verdict

__all__ = ["Limits", "run"]

_TIMED_OUT = (Fault.STALLED, Fault.NEVER_CLOSED)


def run(script: Conversation | Session, connector: Connector, limits: Limits) -> Outcome:
    """Hold a session and judge it.

    Args:
        script: the session, or its only conversation.
        connector: where to.
        limits: how long to wait.

    Raises:
        LocalError: if this machine runs out of ports or descriptors.
    """
    session = Session.of(script)
    began = time.monotonic()
    alone = session.sequential or len(session.conversations) == 1
    exchanges = [Exchange(c, connector, limits, began, alone) for c in session.conversations]
    if session.sequential:
        for exchange in exchanges:
            _run_at_once([exchange])
            if exchange.verdict is not None and exchange.verdict.kind in _TIMED_OUT:
                break  # a path that hangs would take a timeout for each of the others
    else:
        _run_at_once(exchanges)
    return Outcome(
        session=session,
        verdicts=tuple(_verdict(exchange, exchanges) for exchange in exchanges),
        timelines=tuple(
            tuple(Event(*event) for event in exchange.events) for exchange in exchanges
        ),
        seconds=time.monotonic() - began,
        round_trips=tuple(sample for exchange in exchanges for sample in exchange.round_trips),
    )


def _run_at_once(exchanges: Sequence[Exchange]) -> None:
    """Run exchanges at the same time until each has its verdict."""
    poll = select.poll()
    masks: dict[int, int] = {}
    by_fd: dict[int, Exchange] = {}
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
            wanted: dict[int, int] = {}
            for exchange in active:
                if mask := exchange.mask():
                    wanted[exchange.fd] = mask
                    by_fd[exchange.fd] = exchange
            for fd in masks.keys() - wanted.keys():
                poll.unregister(fd)
            for fd, mask in wanted.items():
                # Also when the mask is the same: the descriptor may be a new socket's.
                poll.register(fd, mask)
            masks = wanted
            wake = min(exchange.wake() for exchange in active) - time.monotonic()
            # Rounded up: waking early would spin until the moment comes.
            ready = poll.poll(max(0, int(wake * 1000) + 1))
            now = time.monotonic()
            for fd, events in ready:
                by_fd[fd].on_ready(events, now)
            for exchange in active:
                if not exchange.done:
                    exchange.advance(now)
    finally:
        for exchange in exchanges:
            exchange.drop()


def _verdict(exchange: Exchange, exchanges: Sequence[Exchange]) -> Verdict:
    """The exchange's verdict; cross-talk if its wrong bytes are another's, and not its own."""
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
