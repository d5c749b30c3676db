"""Changes of a session that shrinking proposes. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from echoproto.probe.script.conversation import Conversation, Send, Session, Step

__all__ = ["joined", "map_sends", "merged", "payloads"]


def joined(sessions: Sequence[Session], sequential: bool = False) -> Session:
    """Return the conversations of all as one session: at once, or one after the other.

    At once, there is no time without a connection.
    """
    members = [c for session in sessions for c in session.conversations]
    if not sequential:
        members = [Conversation(c.steps[1:]) if c.absent_ms else c for c in members]
    return Session(tuple(members), sequential)


def payloads(session: Session) -> list[bytes]:
    """Return the payloads of all sends, in order."""
    return [
        step.payload
        for conversation in session.conversations
        for step in conversation.steps
        if isinstance(step, Send)
    ]


def map_sends(session: Session, change: Callable[[int, bytes], bytes]) -> Session:
    """Return ``session`` with each payload replaced by ``change(place, payload)``."""
    place = -1

    def mapped(step: Step) -> Step:
        nonlocal place
        if not isinstance(step, Send):
            return step
        place += 1
        payload = change(place, step.payload)
        return step if payload is step.payload else replace(step, payload=payload)

    return Session(
        tuple(Conversation(tuple(map(mapped, c.steps))) for c in session.conversations),
        session.sequential,
    )


def merged(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield the same bytes in fewer sends: all in one, then adjacent ones in one."""
    sends = [step.payload for step in steps if isinstance(step, Send)]
    if len(sends) < 2:
        return
    last = steps[-1]
    one = Send(b"".join(sends))
    yield [one]
    if not isinstance(last, Send):
        yield [one, last]
    grouped: list[Step] = []
    for step in steps:
        if isinstance(step, Send) and grouped and isinstance(grouped[-1], Send):
            step = Send(grouped.pop().payload + step.payload)  # type: ignore[union-attr]  # a Send
        grouped.append(step)
    yield grouped
