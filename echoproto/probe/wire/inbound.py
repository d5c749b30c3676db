"""What comes back on one connection: read no faster than asked, and compared at once."""

from __future__ import annotations

import ssl

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

    Nothing that is right is kept: the bytes are compared with those sent, then dropped.

    Args:
        stream: all bytes that the conversation sends.
        timeline: gets an event for each read.

    Attributes:
        received: how many bytes came back.
        eof: whether the other side has closed.
        difference: the first wrong byte; None as long as all are right.
        error: why reading failed; empty if it did not.
        next_read: a slow reader's next read, in ``time.monotonic`` seconds; 0 for when the
            poll says that there is something.
    """

    def __init__(self, stream: bytes, timeline: Timeline) -> None:
        self.received = 0
        self.eof = False
        self.difference: Difference | None = None
        self.error = ""
        self.next_read = 0.0
        self._stream = stream
        self._view = memoryview(stream)
        self._timeline = timeline
        self._rate = 0
        self._slow_since = 0.0
        self._slow_got = 0

    @property
    def slow(self) -> bool:
        """Whether it reads at a limited rate."""
        return self._rate > 0

    def slow_down(self, rate: int, now: float) -> None:
        """Read at most ``rate`` bytes per second from ``now`` on."""
        self._rate, self._slow_since, self._slow_got = rate, now, 0
        self.next_read = now + max(1 / rate, _SLOW_TICK)

    def read(self, channel: Channel, now: float, sent: int) -> None:
        """Read what is there, as far as the rate allows, and compare it.

        Args:
            channel: the connection.
            now: the time.
            sent: how many bytes of the stream have been sent.
        """
        for _ in range(_READS_PER_TURN):
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
        if not self._rate:
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
        if end > sent or self._view[start:end] != data:
            self.difference = first_difference(self._stream, sent, start, data)
        elif self._rate:
            self._slow_got += len(data)
            tick = max(1, int(self._rate * _SLOW_TICK))
            self.next_read = self._slow_since + (self._slow_got + tick) / self._rate
