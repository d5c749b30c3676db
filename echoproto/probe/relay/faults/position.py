"""Faults at a place in the stream: offsets, the first bytes, the last ones."""

from __future__ import annotations

import functools
import socket

from echoproto.probe.relay.arguments import COUNT, OFFSET
from echoproto.probe.relay.fault import Fault, plain, taking
from echoproto.probe.relay.faults.changing import stream
from echoproto.probe.relay.stage import MakeStage, Place, Stage

__all__ = ["POSITION_FAULTS"]


def flipped_at(offset: int) -> MakeStage:
    """Return a stage that flips the lowest bit of one byte of the stream."""

    def change(start: int, data: bytes) -> bytes:
        at = offset - start
        if 0 <= at < len(data):
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    return stream(change)


def every(step: int, start: int, data: bytes) -> bytes:
    """Return bytes with the lowest bit of each ``step``-th byte flipped."""
    changed = bytearray(data)
    for at in range(-(start + 1) % step, len(data), step):
        changed[at] ^= 1
    return bytes(changed)


def dropped_from(offset: int, start: int, data: bytes) -> bytes:
    """Return bytes without one byte of the stream."""
    at = offset - start
    return data[:at] + data[at + 1 :] if 0 <= at < len(data) else data


class LastByteHeld(Stage):
    """Keeps the last byte of all until more comes, and forgets it at the end."""

    held = b""

    def client_sent(self, data: bytes) -> None:
        data = self.held + data
        self.held = data[-1:]
        self.to_server(data[:-1])

    def client_ended(self) -> None:
        if self.held:
            self.note(f"lost the last byte, {self.held.hex()}", action="lost", bytes=1)
        super().client_ended()


class LastByteLost(Stage):
    """Passes a byte on late, and not at all when the end comes first."""

    waiting = 0

    def client_sent(self, data: bytes) -> None:
        self.to_server(data[:-1])
        self.waiting += 1
        self.later(3, functools.partial(self.pass_on, data[-1:]))

    def pass_on(self, last: bytes) -> None:
        """Send the byte; after FIN it is lost."""
        self.waiting -= 1
        self.to_server(last)

    def client_ended(self) -> None:
        if self.waiting:
            self.note("lost the last byte, which FIN overtook", action="lost", bytes=self.waiting)
        super().client_ended()


class Sniffing(Stage):
    """Guesses the protocol from the first bytes of the stream."""

    def __init__(self, place: Place, prefix: bytes, reaction: str) -> None:
        super().__init__(place)
        self.prefix, self.reaction = prefix, reaction
        self.seen: bytes | None = b""

    def client_sent(self, data: bytes) -> None:
        if self.seen is None:
            self.to_server(data)
            return
        self.seen += data
        if self.seen.startswith(self.prefix):
            seen, self.seen = self.seen, None
            self.recognised(seen)
        elif self.prefix.startswith(self.seen):
            # It may still become the prefix: a correct proxy that peeks forwards it
            # when the client closes or waits.
            self.later(5, functools.partial(self.undecided, self.seen))
        else:
            seen, self.seen = self.seen, None
            self.to_server(seen)

    def undecided(self, seen: bytes) -> None:
        """Give up waiting for more, unless more has come."""
        if self.seen == seen:
            self.seen = None
            self.to_server(seen)

    def client_ended(self) -> None:
        if self.seen:
            self.undecided(self.seen)
        super().client_ended()

    def recognised(self, seen: bytes) -> None:
        """React to the prefix."""
        if self.reaction == "eaten":
            self.note("removed the first bytes", action="lost", bytes=len(self.prefix))
            self.to_server(seen.removeprefix(self.prefix))
        elif self.reaction == "reset":
            self.reset()
        elif self.reaction == "mute":
            self.mute()
        else:
            self.note("answered 400 itself", action="answered")
            self.to_client(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class UrgentLost(Stage):
    """Takes urgent data out of the stream, as a socket does unless it is told otherwise."""

    def opened(self) -> None:
        if self.client.sock is not None:
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)


def _sniffing(name: str, prefix: bytes, reaction: str, what: str, seen: str) -> Fault:
    stage = functools.partial(Sniffing, prefix=prefix, reaction=reaction)
    return Fault(name, what, seen, plain(stage))


POSITION_FAULTS = (
    Fault("flip-at", "Flips the lowest bit of the byte at OFFSET.",
          "A device with defective memory behind the check of the checksum.",
          taking(OFFSET, flipped_at), "OFFSET"),
    Fault("flip-every", "Flips the lowest bit of every Nth byte.",
          "A device with a defective buffer, which it uses again and again.",
          taking(COUNT, lambda n: stream(lambda start, data: every(n, start, data))), "N"),
    Fault("drop-at", "Loses the byte at OFFSET.",
          "A relay that loses a byte when its buffer is exactly full.",
          taking(OFFSET, lambda n: stream(lambda start, data: dropped_from(n, start, data))),
          "OFFSET"),
    Fault("last-byte-held", "Keeps the last byte until more comes, and loses it at FIN.",
          "A filter that looks one byte ahead.", plain(LastByteHeld)),
    Fault("last-byte-lost-at-fin", "Passes on the last byte of a segment late; FIN overtakes it.",
          "A relay that writes and closes from two threads.", plain(LastByteLost)),
    Fault("urgent-lost", "Loses urgent data (MSG_OOB).",
          "A relay or a server without SO_OOBINLINE, which are most.", plain(UrgentLost)),
    _sniffing("proxy-v1-eaten", b"PROXY ", "eaten",
              "Loses the word PROXY and a blank at the start of a connection.",
              "A server behind a balancer, which takes the client's own PROXY header."),
    _sniffing("proxy-v2-mute", b"\r\n\r\n\0\r\nQUIT\n", "mute",
              "Hangs when a connection starts as a PROXY v2 header.",
              "A server behind a balancer, which waits for the rest of the header."),
    _sniffing("http-answered", b"GET ", "400",
              "Answers 400 when a connection starts with GET.", "A transparent HTTP proxy."),
    _sniffing("tls-reset", b"\x16\x03\x01", "reset",
              "Resets a connection that starts as TLS.", "A firewall that inspects TLS."),
    _sniffing("ssh-mute", b"SSH-", "mute", "Hangs when a connection starts as SSH.",
              "A firewall that forbids tunnels."),
)  # fmt: skip
"""Faults at a place in the stream."""
