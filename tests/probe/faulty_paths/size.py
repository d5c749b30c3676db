"""Faults of segments: of a certain size, too large, too quick after another."""

from __future__ import annotations

from tests.probe.faulty_paths.faults import FaultyPath, chunks, stream
from tests.probe.faulty_paths.relay import Relay


class StallsAt65536(Relay):
    """Its 16-bit window is full and never opens again."""

    def client_sent(self, data: bytes) -> None:
        room = max(0, 65535 - self.offset)
        self.to_echo(data[:room])
        if len(data) > room:
            self.mute()


class Overwriting(Relay):
    """Collects small writes for a moment, in a buffer that keeps only the last of them."""

    buffered: bytes | None = None

    def client_sent(self, data: bytes) -> None:
        if len(data) > 1000:
            self.flush()
            self.to_echo(data)
            return
        if self.buffered is None:
            self.later(20, self.flush)
        self.buffered = data

    def flush(self) -> None:
        data, self.buffered = self.buffered, None
        if data is not None:
            self.to_echo(data)

    def client_ended(self) -> None:
        self.flush()
        super().client_ended()


class Duplicating(Relay):
    """Sends the second segment twice."""

    segments = 0

    def client_sent(self, data: bytes) -> None:
        self.segments += 1
        self.to_echo(data * 2 if self.segments == 2 else data)


class Swapping(Relay):
    """Splits a long segment and sends its parts in the wrong order."""

    def client_sent(self, data: bytes) -> None:
        if len(data) > 1448:
            data = data[1448:2896] + data[:1448] + data[2896:]
        self.to_echo(data)


def run_length(data: bytes) -> bytes:
    """A run-length coder with a count of eight bits."""
    if len(data) >= 256 and data.count(data[:1]) == len(data):
        return data[:255]
    return data


SIZE_FAULTS = [
    FaultyPath(name, "size", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        (
            "segment-of-1460-short",
            "send 00*1460",
            "truncated stalled",
            chunks(lambda d: d[:-1] if len(d) == 1460 else d),
        ),
        (
            "4097-zeros",
            "send 00*4097",
            "truncated stalled",
            chunks(lambda d: d[1:] if d == bytes(4097) else d),
        ),
        ("cut-at-8192", "send 00*8193", "truncated stalled", chunks(lambda d: d[:8192])),
        (
            "multiple-of-1024-lost",
            "send 00*1024",
            "truncated stalled",
            chunks(lambda d: d if len(d) % 1024 else b""),
        ),
        (
            "one-byte-segments-lost",
            "send 00",
            "truncated stalled",
            chunks(lambda d: d if len(d) > 1 else b""),
        ),
        ("stalls-at-65536", "send 00*65536", "stalled truncated never-closed", StallsAt65536),
        ("long-segment-swapped", "send 00*1448 01", "corrupt", Swapping),
        ("run-of-256", "send 00*256", "truncated stalled", chunks(run_length)),
        (
            "second-segment-doubled",
            "send 00; await; send 00",
            "extra",
            Duplicating,
        ),
        (
            "quick-writes-overwritten",
            "send 00; pause 1; send 00",
            "truncated stalled",
            Overwriting,
        ),
        (
            "second-segment-shortened",
            "send 00; await; send 00 00",
            "truncated stalled",
            stream(lambda start, data: data[:-1] if start and len(data) > 1 else data),
        ),
    ]
]
