"""Faults at a place in the stream: offsets, the first bytes, the last ones."""

from __future__ import annotations

import functools
import socket

from tests.probe.faulty_paths.faults import FaultyPath, MakeRelay, stream
from tests.probe.faulty_paths.relay import Path, Relay


def flipped_at(offset: int) -> MakeRelay:
    """The lowest bit of one byte of the stream is turned over."""

    def change(start: int, data: bytes) -> bytes:
        at = offset - start
        if 0 <= at < len(data):
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    return stream(change)


def every(step: int, start: int, data: bytes) -> bytes:
    """The lowest bit of each ``step``-th byte is turned over."""
    changed = bytearray(data)
    for at in range(-(start + 1) % step, len(data), step):
        changed[at] ^= 1
    return bytes(changed)


def dropped_from(offset: int, start: int, data: bytes) -> bytes:
    """One byte of the stream is left out."""
    at = offset - start
    return data[:at] + data[at + 1 :] if 0 <= at < len(data) else data


class LastByteHeld(Relay):
    """Keeps the last byte of all until more comes, and forgets it at the end."""

    held = b""

    def client_sent(self, data: bytes) -> None:
        data = self.held + data
        self.held = data[-1:]
        self.to_echo(data[:-1])


class LastByteLost(Relay):
    """Passes a byte on late, and not at all when the end comes first."""

    def client_sent(self, data: bytes) -> None:
        self.to_echo(data[:-1])
        last = data[-1:]
        self.later(3, lambda: self.to_echo(last))


class Sniffing(Relay):
    """A proxy that guesses the protocol from the first bytes of the stream."""

    def __init__(
        self, path: Path, sock: socket.socket, number: int, prefix: bytes, reaction: str
    ) -> None:
        self.prefix, self.reaction = prefix, reaction
        self.seen: bytes | None = b""
        super().__init__(path, sock, number)

    def client_sent(self, data: bytes) -> None:
        if self.seen is None:
            self.to_echo(data)
            return
        self.seen += data
        if self.seen.startswith(self.prefix):
            self.recognised(self.seen)
            self.seen = None
        elif self.prefix.startswith(self.seen):
            # It may still become the prefix: a correct proxy that peeks forwards it
            # when the client closes or waits.
            seen = self.seen
            self.later(5, lambda: self.undecided(seen))
        else:
            self.to_echo(self.seen)
            self.seen = None

    def undecided(self, seen: bytes) -> None:
        if self.seen == seen:
            self.seen = None
            self.to_echo(seen)

    def client_ended(self) -> None:
        if self.seen:
            self.undecided(self.seen)
        super().client_ended()

    def recognised(self, seen: bytes) -> None:
        if self.reaction == "eaten":
            self.to_echo(seen.removeprefix(self.prefix))
        elif self.reaction == "reset":
            self.reset()
        elif self.reaction == "mute":
            self.mute()
        else:
            self.to_client(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def starts_with(prefix: bytes, reaction: str) -> MakeRelay:
    """A proxy that reacts to a stream that starts with ``prefix``."""
    return functools.partial(Sniffing, prefix=prefix, reaction=reaction)


POSITION_FAULTS = [
    FaultyPath(name, "position", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        ("first-byte-flipped", "send 00", "corrupt", flipped_at(0)),
        (
            "first-byte-eaten",
            "send 00",
            "truncated stalled",
            stream(lambda start, data: dropped_from(0, start, data)),
        ),
        ("flipped-at-100", "send 00*101", "corrupt", flipped_at(100)),
        ("flipped-at-4095", "send 00*4096", "corrupt", flipped_at(4095)),
        ("flipped-at-4096", "send 00*4097", "corrupt", flipped_at(4096)),
        ("flipped-at-65535", "send 00*65536", "corrupt", flipped_at(65535)),
        (
            "lost-at-32768",
            "send 00*32769",
            "truncated stalled",
            stream(lambda start, data: dropped_from(32768, start, data)),
        ),
        (
            "every-1000th-flipped",
            "send 00*1000",
            "corrupt",
            stream(lambda start, data: every(1000, start, data)),
        ),
        ("last-byte-held", "send 00", "truncated stalled", LastByteHeld),
        ("last-byte-lost-at-fin", "send 00; fin", "truncated", LastByteLost),
        (
            "proxy-v1-eaten",
            "send 50 52 4f 58 59 20",
            "truncated stalled",
            starts_with(b"PROXY ", "eaten"),
        ),
        (
            "proxy-v2-mute",
            "send 0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a",
            "stalled truncated never-closed",
            starts_with(b"\r\n\r\n\0\r\nQUIT\n", "mute"),
        ),
        ("http-answered", "send 47 45 54 20", "corrupt extra", starts_with(b"GET ", "400")),
        ("tls-reset", "send 16 03 01", "reset", starts_with(b"\x16\x03\x01", "reset")),
        (
            "ssh-mute",
            "send 53 53 48 2d",
            "stalled truncated never-closed",
            starts_with(b"SSH-", "mute"),
        ),
    ]
]
