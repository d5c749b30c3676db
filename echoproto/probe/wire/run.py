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
from echoproto.probe.wire.exchange import Limits, Talk
from echoproto.probe.wire.verdict import Event, Kind, Outcome, Verdict

__all__ = ["Limits", "run"]

_TIMED_OUT = (Kind.STALLED, Kind.NEVER_CLOSED)


def run(said: Conversation | Session, connector: Connector, limits: Limits) -> Outcome:
    """Hold a session and judge it.

    Args:
        said: the session, or its only conversation.
        connector: where to.
        limits: how long to wait.

    Raises:
        LocalError: if this machine runs out of ports or descriptors.
    """
    session = Session.of(said)
    began = time.monotonic()
    alone = session.sequential or len(session.conversations) == 1
    talks = [Talk(c, connector, limits, began, alone) for c in session.conversations]
    if session.sequential:
        for talk in talks:
            _hold([talk])
            if talk.verdict is not None and talk.verdict.kind in _TIMED_OUT:
                break  # a path that hangs would take a timeout for each of the others
    else:
        _hold(talks)
    return Outcome(
        session=session,
        verdicts=tuple(_verdict(talk, talks) for talk in talks),
        timelines=tuple(tuple(Event(*event) for event in talk.events) for talk in talks),
        seconds=time.monotonic() - began,
        round_trips=tuple(sample for talk in talks for sample in talk.round_trips),
    )


def _hold(talks: Sequence[Talk]) -> None:
    """Run talks at the same time until each has its verdict."""
    poll = select.poll()
    masks: dict[int, int] = {}
    by_fd: dict[int, Talk] = {}
    started = 0
    try:
        while True:
            now = time.monotonic()
            # In order: each connects once the one before it is connected and has to wait.
            while started < len(talks) and (started == 0 or talks[started - 1].under_way):
                talks[started].start(now)
                started += 1
            active = [talk for talk in talks[:started] if not talk.done]
            if started == len(talks):
                if active and all(talk.at_end for talk in active):
                    for talk in active:
                        talk.close_together(now)
                    active = [talk for talk in active if not talk.done]
                if not active:
                    return
            wanted: dict[int, int] = {}
            for talk in active:
                if mask := talk.mask():
                    wanted[talk.fd] = mask
                    by_fd[talk.fd] = talk
            for fd in masks.keys() - wanted.keys():
                poll.unregister(fd)
            for fd, mask in wanted.items():
                # Also when the mask is the same: the descriptor may be a new socket's.
                poll.register(fd, mask)
            masks = wanted
            wake = min(talk.wake() for talk in active) - time.monotonic()
            # Rounded up: waking early would spin until the moment comes.
            ready = poll.poll(max(0, int(wake * 1000) + 1))
            now = time.monotonic()
            for fd, events in ready:
                by_fd[fd].on_ready(events, now)
            for talk in active:
                if not talk.done:
                    talk.advance(now)
    finally:
        for talk in talks:
            talk.drop()


def _verdict(talk: Talk, talks: Sequence[Talk]) -> Verdict:
    """The talk's verdict; cross-talk if its wrong bytes are another's, and not its own."""
    if talk.verdict is None:
        return Verdict(Kind.OK, "not held: the path hung in a conversation before it")
    verdict, tail = talk.verdict, talk.tail
    if verdict.kind not in (Kind.CORRUPT, Kind.EXTRA) or tail in talk.stream:
        return verdict
    for number, other in enumerate(talks, 1):
        if other is not talk and tail in other.stream:
            message = f"the bytes of conversation {number} came back: {verdict.message}"
            return replace(verdict, kind=Kind.CROSS_TALK, message=message)
    return verdict
