"""Faults of time: silence, slow readers, quick senders."""

from __future__ import annotations

import socket

from echoproto.probe.relay.arguments import OFFSET, SIZE, TIME
from echoproto.probe.relay.connection import HIGH_WATER
from echoproto.probe.relay.fault import Fault, taking
from echoproto.probe.relay.stage import MakeStage, Place, Stage

__all__ = ["TIMING_FAULTS"]

#: What is kept for a slow reader, in bytes, before the rest is lost.
_KEPT = HIGH_WATER
#: What may wait for a slow reader, in bytes, before it is reset.
_PATIENCE = 131072
#: How often it is looked, in the time of a timeout, whether a client takes anything.
_LOOKS = 20
#: A policer's measure of time, in seconds.
_POLICED = 0.02


class AfterIdle(Stage):
    """What a NAT or a balancer does to a connection that was silent for a while."""

    def __init__(self, place: Place, ms: float, reaction: str) -> None:
        super().__init__(place)
        self.ms, self.reaction = ms, reaction
        self.last = self.now()

    def client_sent(self, data: bytes) -> None:
        now = self.now()
        idle, self.last = (now - self.last) * 1000, now
        text = f"after {idle:.0f} ms of silence"
        if idle < self.ms:
            self.to_server(data)
        elif self.reaction == "reset":
            self.reset(f"reset both sides {text}")
        elif self.reaction == "mute":
            self.mute(f"sends nothing any more {text}")
        else:
            self.forward(data, data[1:])


class IdleCut(Stage):
    """Resets after a silence of the client, in the middle of it."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms
        self.heard = self.now()
        self.ended = False

    def opened(self) -> None:
        self.later(self.ms, self.look)

    def look(self) -> None:
        """Reset if nothing was heard for so long."""
        left = self.ms - (self.now() - self.heard) * 1000
        if self.ended:
            return
        if left <= 0:
            self.reset(f"reset both sides after {self.ms:g} ms of silence")
        else:
            self.later(left, self.look)

    def client_sent(self, data: bytes) -> None:
        self.heard = self.now()
        self.to_server(data)

    def client_ended(self) -> None:
        self.ended = True
        super().client_ended()


class IdleClose(Stage):
    """Closes after a silence of both sides."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms
        self.heard = self.now()

    def opened(self) -> None:
        self.later(self.ms, self.look)

    def look(self) -> None:
        """Close if nothing was heard for so long."""
        left = self.ms - (self.now() - self.heard) * 1000
        if left <= 0:
            self.close(f"closed both sides after {self.ms:g} ms of silence")
        else:
            self.later(left, self.look)

    def client_sent(self, data: bytes) -> None:
        self.heard = self.now()
        self.to_server(data)

    def server_sent(self, data: bytes) -> None:
        self.heard = self.now()
        self.to_client(data)


class SlowReaderLoses(Stage):
    """What a reader does not take at once goes into a buffer of 64 KiB; the rest is lost."""

    def __init__(self, place: Place, kernel: int) -> None:
        super().__init__(place)
        self.kernel = kernel

    def opened(self) -> None:
        if self.kernel and self.client.sock is not None:
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.kernel)

    def server_sent(self, data: bytes) -> None:
        room = max(0, _KEPT - len(self.client.pending))
        lost = len(data) - room
        if lost > 0:
            self.note(f"lost {lost} bytes that the client did not take", action="lost", bytes=lost)
        # As no more waits than this, the server is always read, where a correct relay would stop.
        self.to_client(data[:room])


class SlowReaderReset(Stage):
    """A reader that leaves more than 128 KiB waiting for a while is reset."""

    watched = False

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms

    def opened(self) -> None:
        if self.client.sock is not None:
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KEPT)
        self.connection.down.limit = 2 * _PATIENCE

    def server_sent(self, data: bytes) -> None:
        self.to_client(data)
        if len(self.client.pending) > _PATIENCE and not self.watched:
            self.watched = True
            self.later(self.ms, self.look)

    def look(self) -> None:
        """Reset if as much waits as before."""
        self.watched = False
        if len(self.client.pending) > _PATIENCE:
            self.reset(f"reset a client that left {len(self.client.pending)} bytes waiting")


class WriteTimeout(Stage):
    """A client that takes nothing for a while, although something waits for it, is reset."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms
        self.watched = False
        self.taken = 0
        self.since = 0.0

    def opened(self) -> None:
        self.client.keep_little()

    def server_sent(self, data: bytes) -> None:
        self.to_client(data)
        if self.client.pending and not self.watched:
            self.watched = True
            self.taken, self.since = self.client.bytes_out, self.now()
            self.look()

    def look(self) -> None:
        """Reset if nothing was taken for so long."""
        self.watched = bool(self.client.pending)
        if not self.watched:
            return
        now = self.now()
        if self.client.bytes_out != self.taken:
            self.taken, self.since = self.client.bytes_out, now
        if 1000 * (now - self.since) >= self.ms:
            self.reset(f"reset a client that took nothing for {self.ms:g} ms")
        else:
            self.later(self.ms / _LOOKS, self.look)


class SilentStart(Stage):
    """Greets a client that does not send first."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms

    def opened(self) -> None:
        self.later(self.ms, self.greet)

    def greet(self) -> None:
        """Speak first, if the client has not."""
        if not self.offset:
            self.note("greeted a silent client", action="inserted")
            self.to_client(b"SSH-2.0-x\r\n")


class Policer(Stage):
    """Drops, rather than delays, what is too quick."""

    def __init__(self, place: Place, most: int) -> None:
        super().__init__(place)
        self.most = most
        self.since = 0.0
        self.passed = 0

    def client_sent(self, data: bytes) -> None:
        now = self.now()
        if now - self.since > _POLICED:
            self.since, self.passed = now, 0
        room = max(0, self.most - self.passed)
        self.passed += len(data)
        self.forward(data, data[:room])


def _after_idle(name: str, reaction: str, what: str, seen: str, default: str) -> Fault:
    def make(ms: float) -> MakeStage:
        return lambda place: AfterIdle(place, ms, reaction)

    return Fault(name, what, seen, taking(TIME, make), "TIME", default)


TIMING_FAULTS = (
    _after_idle("idle-mute", "mute", "Hangs when the client sends again after a silence of TIME.",
                "A NAT or a firewall whose entry has expired.", "30s"),
    _after_idle("idle-reset", "reset",
                "Resets when the client sends again after a silence of TIME.",
                "AWS Network Load Balancer (350s), many firewalls.", "350s"),
    _after_idle("idle-loses", "lose", "Loses the first byte after a silence of TIME.",
                "A serial adapter that wakes up.", "1s"),
    Fault("idle-cut", "Resets after TIME without a byte from the client, until its FIN.",
          "Azure Load Balancer with TCP reset (240s).",
          taking(TIME, lambda ms: lambda place: IdleCut(place, ms)), "TIME", "240s"),
    Fault("idle-close", "Closes both sides after TIME without a byte in either direction.",
          "nginx (proxy_timeout, 10m by default), HAProxy (timeout client).",
          taking(TIME, lambda ms: lambda place: IdleClose(place, ms)), "TIME", "600s"),
    Fault("silent-start", "Greets a client that has sent nothing for TIME as SSH would.",
          "sslh, for which a silent client is one of SSH.",
          taking(TIME, lambda ms: lambda place: SilentStart(place, ms)), "TIME", "5s"),
    Fault("slow-reader-loses", "Loses what a slow client leaves, beyond 64 KiB and the kernel's "
          "buffer of BYTES (0: as it is).",
          "A relay without backpressure.",
          taking(OFFSET, lambda kernel: lambda place: SlowReaderLoses(place, kernel)),
          "BYTES", "0"),
    Fault("slow-reader-reset", "Resets a client that leaves more than 128 KiB waiting for TIME.",
          "A relay with a limit for what it keeps.",
          taking(TIME, lambda ms: lambda place: SlowReaderReset(place, ms)), "TIME", "50ms"),
    Fault("write-timeout", "Resets a client that takes nothing for TIME while something waits.",
          "A tunnel with a timeout for writes.",
          taking(TIME, lambda ms: lambda place: WriteTimeout(place, ms)), "TIME", "5s"),
    Fault("policer", "Drops what the client sends beyond BYTES in 20 ms.",
          "A limit of bandwidth in a relay that drops where it should wait.",
          taking(SIZE, lambda most: lambda place: Policer(place, most)), "BYTES", "100k"),
)  # fmt: skip
"""Faults of time."""
