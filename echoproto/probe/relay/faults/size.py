"""Faults of segments: of a certain size, too large, too quick after another.

A segment is here what one read returns. Two sends of a client may be read as one.
"""

from __future__ import annotations

from collections.abc import Callable

from echoproto.probe.relay.arguments import COUNT, SIZE
from echoproto.probe.relay.fault import Fault, plain, taking
from echoproto.probe.relay.faults.changing import chunks, stream
from echoproto.probe.relay.stage import MakeStage, Place, Stage

__all__ = ["SIZE_FAULTS"]


class Stall(Stage):
    """Its window is full and never opens again."""

    def __init__(self, place: Place, size: int) -> None:
        super().__init__(place)
        self.size = size

    def client_sent(self, data: bytes) -> None:
        room = max(0, self.size - self.offset)
        self.to_server(data[:room])
        if len(data) > room:
            self.mute(f"stops after {self.size} bytes")


class Overwriting(Stage):
    """Collects small writes for a moment, in a buffer that keeps only the last of them."""

    buffered: bytes | None = None

    def client_sent(self, data: bytes) -> None:
        if len(data) > 1000:
            self.flush()
            self.to_server(data)
            return
        if self.buffered is None:
            self.later(20, self.flush)
        elif self.buffered:
            lost = len(self.buffered)
            self.note(f"overwrote the segment before, {lost} bytes", action="lost", bytes=lost)
        self.buffered = data

    def flush(self) -> None:
        """Send what is in the buffer."""
        data, self.buffered = self.buffered, None
        if data is not None:
            self.to_server(data)

    def client_ended(self) -> None:
        self.flush()
        super().client_ended()


class Doubling(Stage):
    """Sends one segment twice."""

    def __init__(self, place: Place, nth: int) -> None:
        super().__init__(place)
        self.nth = nth
        self.segments = 0

    def client_sent(self, data: bytes) -> None:
        self.segments += 1
        self.forward(data, data * 2 if self.segments == self.nth else data)


def swapped(size: int, data: bytes) -> bytes:
    """Return a long segment with its first two parts in the wrong order."""
    if len(data) > size:
        return data[size : 2 * size] + data[:size] + data[2 * size :]
    return data


def run_length(data: bytes) -> bytes:
    """Return what a run-length coder with a count of eight bits makes of a segment."""
    if len(data) >= 256 and data.count(data[:1]) == len(data):
        return data[:255]
    return data


def _by_size(
    name: str, change: Callable[[int, bytes], bytes], what: str, seen: str, default: str
) -> Fault:
    """Return a fault that changes a segment depending on BYTES."""

    def make(size: int) -> MakeStage:
        return chunks(lambda data: change(size, data))

    return Fault(name, what, seen, taking(SIZE, make), "BYTES", default)


SIZE_FAULTS = (
    _by_size("segment-short", lambda n, d: d[:-1] if len(d) == n else d,
             "Loses the last byte of a segment of exactly BYTES.",
             "A tunnel that leaves one byte too few in a full segment.", "1460"),
    _by_size("segment-cut", lambda n, d: d[:n],
             "Loses what of a segment is more than BYTES.",
             "A relay that ignores a short write.", "8192"),
    _by_size("segment-swapped", swapped,
             "Swaps the first two parts of BYTES of a longer segment.",
             "A relay with two queues.", "1448"),
    _by_size("zeros-short", lambda n, d: d[1:] if d == bytes(n) else d,
             "Loses a byte of a segment of exactly BYTES zeros.",
             "A filter that takes zeros for padding.", "4096"),
    _by_size("multiple-lost", lambda n, d: d if len(d) % n else b"",
             "Loses a segment whose length is a multiple of BYTES.",
             "A relay that takes a full buffer for one with more to come.", "1024"),
    Fault("one-byte-lost", "Loses segments of one byte.",
          "A filter that takes them for keepalive probes.",
          plain(chunks(lambda data: data if len(data) > 1 else b""))),
    Fault("later-short", "Loses the last byte of each segment after the first, except of one byte.",
          "A relay that resizes its buffer after the first read.",
          plain(stream(lambda start, d: d[:-1] if start and len(d) > 1 else d))),
    Fault("run-length", "Shortens a segment of 256 equal bytes or more to 255.",
          "A compressing WAN accelerator with a count of eight bits.", plain(chunks(run_length))),
    Fault("segment-doubled", "Sends the Nth segment twice.",
          "A relay that repeats a write that was interrupted.",
          taking(COUNT, lambda nth: lambda place: Doubling(place, nth)), "N", "2"),
    Fault("quick-writes-overwritten", "Keeps only the last of small segments within 20 ms.",
          "A serial device server with one buffer and a packing delay.", plain(Overwriting)),
    Fault("stall-at", "Hangs after BYTES from the client.",
          "A window of 16 bits that never opens again (65535), a TCP stack in user space (16M).",
          taking(SIZE, lambda size: lambda place: Stall(place, size)), "BYTES", "65535"),
)  # fmt: skip
"""Faults of segments."""
