"""What happened in a conversation, and when; in bounded memory."""

from __future__ import annotations

from echoproto.probe.wire.verdict import Action, Event

__all__ = ["PREVIEW", "Timeline"]

PREVIEW = 64
"""How many bytes of what was sent or received an event keeps."""

MAX_EVENTS = 400


class Timeline:
    """The events of one conversation, in order.

    Args:
        began: when the session began, in ``time.monotonic`` seconds; events count from there.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        # Tuples, not Event objects: one is added for each read and write.
        self._events: list[tuple[float, Action, int | None, int, int, bytes]] = []

    def add(
        self,
        action: Action,
        now: float,
        step: int | None = None,
        offset: int = 0,
        size: int = 0,
        data: bytes = b"",
        last: bool = False,
    ) -> None:
        """Add an event; beyond ``MAX_EVENTS``, only the last one of the conversation.

        Args:
            action: what happened.
            now: when, in ``time.monotonic`` seconds.
            step: as in :class:`Event`, like the three that follow.
            offset: of the first byte.
            size: number of bytes.
            data: the bytes; only the first ``PREVIEW`` are kept.
            last: whether it ends the conversation.
        """
        if len(self._events) < MAX_EVENTS or last:
            self._events.append((now - self._began, action, step, offset, size, data[:PREVIEW]))

    def events(self) -> tuple[Event, ...]:
        """Return all events so far."""
        return tuple(Event(*event) for event in self._events)
