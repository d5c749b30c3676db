"""What is sent on one connection: each ``send`` of a conversation as a write of its own."""

from __future__ import annotations

import ssl

from echoproto.probe.wire.channel import NOT_NOW, Channel
from echoproto.probe.wire.reasons import reason, tls_reason
from echoproto.probe.wire.timeline import PREVIEW, Timeline
from echoproto.probe.wire.verdict import Action

__all__ = ["Outbound"]


class Outbound:
    """The sending side of one conversation.

    Args:
        stream: all bytes that the conversation sends.
        timeline: gets an event for each write.
        urgent: the offsets of the bytes to send as urgent data, each due alone.

    Attributes:
        sent: how many bytes the kernel has taken.
        due: how many bytes the steps so far send.
        fin: whether the sending side is closed.
        blocked: whether the last write has to be continued when the kernel takes more.
        error: why sending failed; empty if it did not.
    """

    def __init__(
        self, stream: bytes, timeline: Timeline, urgent: frozenset[int] = frozenset()
    ) -> None:
        self.sent = 0
        self.due = 0
        self.fin = False
        self.blocked = False
        self.error = ""
        self._stream = stream
        self._view = memoryview(stream)
        self._timeline = timeline
        self._urgent = urgent

    def add(self, size: int) -> None:
        """Make the next ``size`` bytes of the stream due."""
        self.due += size

    def extend(self, payload: bytes, urgent: bool) -> None:
        """Make the stream longer.

        Args:
            payload: what follows.
            urgent: whether it is urgent data.
        """
        if urgent:
            self._urgent |= {len(self._stream)}
        self._stream += payload
        self._view = memoryview(self._stream)

    def unblock(self) -> None:
        """Allow the next write."""
        self.blocked = False

    def write(self, channel: Channel, now: float, step: int) -> bool:
        """Write what is due; return whether the kernel took any of it.

        Args:
            channel: the connection.
            now: the time, in ``time.monotonic`` seconds.
            step: the index of the step.
        """
        start = self.sent
        send = channel.send_urgent if start in self._urgent else channel.send
        try:
            count = send(self._view[start : self.due])
        except NOT_NOW:
            self.blocked = True
            return False
        except OSError as error:
            self._failed(error)
            return False
        self.sent += count
        preview = self._stream[start : start + min(count, PREVIEW)]
        self._timeline.add(Action.SENT, now, step, start, count, preview)
        return True

    def flush(self, channel: Channel) -> None:
        """Send what TLS still holds, as far as the kernel takes it."""
        try:
            channel.flush()
        except OSError as error:
            self._failed(error)

    def send_fin(self, channel: Channel, now: float, step: int | None) -> None:
        """Close the sending side.

        Args:
            channel: the connection.
            now: the time.
            step: the index of the step; None for the end of the conversation.
        """
        self.fin = True
        self._timeline.add(Action.SENT_FIN, now, step)
        try:
            channel.shutdown_write()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.error = tls_reason(error) if isinstance(error, ssl.SSLError) else reason(error)
