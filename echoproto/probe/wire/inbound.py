"""What comes back on one connection: read no faster than asked, and compared at once."""

from __future__ import annotations

import ssl

from echoproto.probe.wire.capture import Capture
from echoproto.probe.wire.channel import NOT_NOW, Channel
from echoproto.probe.wire.comparison import Difference, first_difference
from echoproto.probe.wire.reasons import reason, tls_reason
from echoproto.probe.wire.timeline import Timeline
from echoproto.probe.wire.verdict import Action

__all__ = ["Inbound"]

_READ = 65536
# Other conversations, and this one's own steps, get their turn after so many reads.
_READS_PER_TURN = 16
# A slow reader reads at most this often, in seconds.
_SLOW_TICK = 0.005


class Inbound:
    """The receiving side of one conversation.

    The bytes are compared with those sent, then dropped, unless there is a capture to keep them.

    Args:
        stream: all bytes that the conversation sends.
        timeline: gets an event for each read.
        capture: gets what is received; with room left in it, reading goes on after a wrong byte.

    Attributes:
        received: how many bytes came back.
        eof: whether the other side has closed.
        difference: the first wrong byte; None as long as all are right.
        error: why reading failed; empty if it did not.
        next_read: the next read of a slow reader, or of one that holds, in ``time.monotonic``
            seconds; 0 for when the poll says that there is something.
    """

    def __init__(self, stream: bytes, timeline: Timeline, capture: Capture | None = None) -> None:
        self.received = 0
        self.eof = False
        self.difference: Difference | None = None
        self.error = ""
        self.next_read = 0.0
        self._stream = stream
        self._view = memoryview(stream)
        self._timeline = timeline
        self._capture = capture or Capture()
        self._rate = 0
        self._held_until = 0.0
        self._slow_since = 0.0
        self._slow_got = 0

    @property
    def paced(self) -> bool:
        """Whether the time says when it reads, and not the poll."""
        return self._rate > 0 or self.next_read > 0

    def extend(self, payload: bytes) -> None:
        """Expect these bytes too, after all others."""
        self._stream += payload
        self._view = memoryview(self._stream)

    def slow_down(self, rate: int, now: float) -> None:
        """Read at most ``rate`` bytes per second from ``now`` on."""
        self._rate, self._slow_since, self._slow_got = rate, now, 0
        self.next_read = now + max(1 / rate, _SLOW_TICK)

    def hold(self, until: float) -> None:
        """Read nothing before ``until``."""
        self.next_read = self._held_until = until

    def read(self, channel: Channel, now: float, sent: int) -> None:
        """Read what is there, as far as the rate allows, and compare it.

        Args:
            channel: the connection.
            now: the time.
            sent: how many bytes of the stream have been sent.
        """
        if 0 < self._held_until <= now and not self._rate:
            self._held_until = 0.0
            channel.take_more()
        reads = 0
        while reads < _READS_PER_TURN or channel.pending:
            reads += 1
            size = self._allowed(now)
            if not size or self.eof:
                return
            try:
                data = channel.recv(size)
            except NOT_NOW:
                self.next_read = 0.0
                return
            except ssl.SSLError as error:
                self.error = f"TLS: {tls_reason(error)}"
                return
            except OSError as error:
                self.error = reason(error)
                return
            if not data:
                self.eof = True
                self._timeline.add(Action.GOT_EOF, now)
                return
            self._take(data, now, sent)
            if self.difference is not None or (len(data) < size and channel.whole_reads):
                return

    def _allowed(self, now: float) -> int:
        """Return how many bytes may be read now; if none, set when."""
        if now < self._held_until:
            self.next_read = self._held_until
            return 0
        if not self._rate:
            self.next_read = 0.0
            return _READ
        size = int((now - self._slow_since) * self._rate) - self._slow_got
        if size < 1:
            self.next_read = now + max(1 / self._rate, _SLOW_TICK)
            return 0
        return min(size, _READ)

    def _take(self, data: bytes, now: float, sent: int) -> None:
        start = self.received
        end = self.received = start + len(data)
        self._timeline.add(Action.RECEIVED, now, None, start, len(data), data)
        self._capture.add(data)
        if wrong := self._capture.difference:
            pass  # nothing after it can be told by its offset
        elif end > sent or self._view[start:end] != data:
            wrong = first_difference(self._stream, sent, start, data)
        if wrong and not self._capture.holds_back(wrong):
            self.difference = wrong
        elif self._rate:
            self._slow_got += len(data)
            tick = max(1, int(self._rate * _SLOW_TICK))
            self.next_read = self._slow_since + (self._slow_got + tick) / self._rate
