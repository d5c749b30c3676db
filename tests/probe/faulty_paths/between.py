"""Faults between two connections, and of every nth connection."""

from __future__ import annotations

from tests.probe.faulty_paths.faults import FaultyPath, MakeRelay
from tests.probe.faulty_paths.relay import Relay


class Crossed(Relay):
    """The answers of a second connection go to the first."""

    def echo_sent(self, data: bytes) -> None:
        self.path.relays[0].to_client(data)


class Copied(Relay):
    """Every open connection receives the answers of all."""

    def echo_sent(self, data: bytes) -> None:
        for relay in list(self.path.relays):
            relay.to_client(data)


class ResetKillsAll(Relay):
    """When one client resets, all connections are reset.

    An orderly close is delayed, so that a reset always comes before it.
    """

    def client_ended(self) -> None:
        self.later(2, super().client_ended)

    def client_reset(self) -> None:
        for relay in list(self.path.relays):
            if relay is not self:
                relay.reset()


class OneAtATime(Relay):
    """Serves a client only after the one before it has left."""

    def client_sent(self, data: bytes) -> None:
        if self.path.relays[0] is self:
            self.to_echo(data)
        else:
            self.later(2, lambda: self.client_sent(data))

    def client_ended(self) -> None:
        if self.path.relays[0] is self:
            super().client_ended()
        else:
            self.later(3, self.client_ended)


def at_most(allowed: int) -> MakeRelay:
    """A proxy that allows a few connections; the next one is reset."""

    class Full(Relay):
        def opened(self) -> None:
            if len(self.path.relays) > allowed:
                self.reset()

    return Full


class Leftover(Relay):
    """The next client that closes receives what a client that reset left in a buffer."""

    def client_ended(self) -> None:
        leftover, self.path.leftover = self.path.leftover, b""
        self.to_client(leftover)
        super().client_ended()

    def client_reset(self) -> None:
        self.path.leftover = b"left over"


def every_nth(nth: int, reaction: str) -> MakeRelay:
    """A balancer with one server down."""

    class Nth(Relay):
        def opened(self) -> None:
            if self.number % nth == nth - 1:
                if reaction == "refused":
                    self.reset()
                else:
                    self.mute()

    return Nth


BETWEEN_FAULTS = [
    FaultyPath(name, "between", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        (
            "answers-crossed",
            "nothing | send 00",
            "cross-talk extra corrupt truncated stalled",
            Crossed,
        ),
        ("answers-copied", "nothing | send 00", "cross-talk extra corrupt", Copied),
        ("reset-kills-all", "nothing | reset", "reset", ResetKillsAll),
        ("one-at-a-time", "nothing | send 00", "stalled never-closed", OneAtATime),
        ("at-most-one", "nothing | nothing", "reset refused", at_most(1)),
        ("at-most-two", "nothing | nothing | nothing", "reset refused", at_most(2)),
        ("leftover-after-reset", "reset then nothing", "extra cross-talk corrupt", Leftover),
        ("every-7th-refused", "nothing", "reset refused", every_nth(7, "refused")),
        ("every-20th-mute", "send 00", "stalled truncated never-closed", every_nth(20, "mute")),
    ]
]
