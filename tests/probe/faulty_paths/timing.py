"""Faults of time: pauses, slow readers, quick senders."""

from __future__ import annotations

import socket
import time

from tests.probe.faulty_paths.faults import FaultyPath, MakeRelay
from tests.probe.faulty_paths.relay import Relay


def after_idle(ms: float, reaction: str) -> MakeRelay:
    """What a NAT or a balancer does to a connection that was silent for a while."""

    class Idle(Relay):
        last = 0.0

        def opened(self) -> None:
            self.last = time.monotonic()

        def client_sent(self, data: bytes) -> None:
            now = time.monotonic()
            idle, self.last = (now - self.last) * 1000, now
            if idle < ms:
                self.to_echo(data)
            elif reaction == "reset":
                self.reset()
            elif reaction == "mute":
                self.mute()
            else:
                self.to_echo(data[1:])

    return Idle


class ResetWhenIdle(Relay):
    """Resets after 150 ms of silence, in the middle of it."""

    def opened(self) -> None:
        self.heard = 0
        self.watch()

    def watch(self) -> None:
        heard = self.heard
        self.later(150, lambda: self.reset() if heard == self.heard else None)

    def client_sent(self, data: bytes) -> None:
        self.heard += 1
        self.watch()
        self.to_echo(data)

    def client_ended(self) -> None:
        self.heard += 1
        super().client_ended()


class SlowReaderLoses(Relay):
    """What a reader does not take at once goes into a buffer of 64 KiB; the rest is lost."""

    def opened(self) -> None:
        self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def echo_sent(self, data: bytes) -> None:
        room = max(0, 65536 - len(self.client.pending))
        self.client.send(data[:room])


class LateReaderLoses(Relay):
    """The same with the kernels' default buffers, which are megabytes."""

    def echo_sent(self, data: bytes) -> None:
        room = max(0, 65536 - len(self.client.pending))
        self.client.send(data[:room])


class SlowReaderReset(Relay):
    """A reader that leaves more than 128 KiB waiting for 50 ms is reset."""

    def opened(self) -> None:
        self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)

    def echo_sent(self, data: bytes) -> None:
        self.client.send(data)
        if len(self.client.pending) > 131072:
            self.later(50, self.look)

    def look(self) -> None:
        if len(self.client.pending) > 131072:
            self.reset()


class SilentStart(Relay):
    """Greets a client that does not send first."""

    def opened(self) -> None:
        self.later(60, lambda: None if self.offset else self.to_client(b"SSH-2.0-x\r\n"))


class Policer(Relay):
    """Drops, rather than delays, what exceeds 100000 bytes in 20 ms."""

    since = 0.0
    passed = 0

    def client_sent(self, data: bytes) -> None:
        now = time.monotonic()
        if now - self.since > 0.02:
            self.since, self.passed = now, 0
        room = max(0, 100_000 - self.passed)
        self.passed += len(data)
        self.to_echo(data[:room])


TIMING_FAULTS = [
    FaultyPath(name, "timing", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        (
            "mute-after-30-ms",
            "pause 30; send 00",
            "stalled truncated never-closed",
            after_idle(30, "mute"),
        ),
        ("reset-after-100-ms", "pause 100; send 00", "reset", after_idle(100, "reset")),
        ("byte-lost-after-50-ms", "pause 50; send 00", "truncated stalled", after_idle(50, "lose")),
        ("reset-when-idle", "pause 160", "reset", ResetWhenIdle),
        ("silent-start", "pause 70", "extra", SilentStart),
        ("slow-reader-loses", "slow 100000; send 00*400000", "truncated stalled", SlowReaderLoses),
        ("slow-reader-reset", "slow 8000000; send 00*650000", "reset truncated", SlowReaderReset),
        (
            "late-reader-loses",
            "slow 20000000; send 00*6024000",
            "truncated stalled corrupt",
            LateReaderLoses,
        ),
        ("reset-after-500-ms", "pause 550; send 00", "reset", after_idle(500, "reset")),
        ("policer", "send 00*100001", "truncated stalled", Policer),
    ]
]
