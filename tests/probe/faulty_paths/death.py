"""Paths that flood, die or hang: there the probe must end in bounded time and memory."""

from __future__ import annotations

from tests.probe.faulty_paths.faults import FaultyPath, MakeRelay
from tests.probe.faulty_paths.relay import Relay


class Flooding(Relay):
    """Sends without end once it has seen FF."""

    flooding = False

    def client_sent(self, data: bytes) -> None:
        if b"\xff" in data:
            self.flood()
        else:
            self.to_echo(data)

    def flood(self) -> None:
        if len(self.client.pending) < 1_000_000:
            self.client.send(bytes(65536))
        self.later(0.1, self.flood)


class Greeting(Relay):
    """Every fifth client is greeted first."""

    def opened(self) -> None:
        if self.number % 5 == 4:
            self.to_client(b"220 ready\r\n")


class GreetingAll(Relay):
    """Every client is greeted first."""

    def opened(self) -> None:
        self.to_client(b"220 ready\r\n")


class FloodingAll(Flooding):
    """Sends without end to everybody."""

    def opened(self) -> None:
        self.flood()


def dies_at(number: int) -> MakeRelay:
    """The proxy crashes in the middle of this conversation, and is not started again."""

    class Dying(Relay):
        def client_sent(self, data: bytes) -> None:
            if self.number >= number:
                self.path.die()
            else:
                self.to_echo(data)

    return Dying


def hangs_at(number: int) -> MakeRelay:
    """From this connection on, it accepts and sends nothing."""

    class Hanging(Relay):
        def opened(self) -> None:
            if self.number >= number:
                self.mute()

    return Hanging


class CrashesOnBulk(Relay):
    """A segment over 3000 bytes resets all conversations."""

    def client_sent(self, data: bytes) -> None:
        if len(data) > 3000:
            for relay in list(self.path.relays):
                relay.reset()
        else:
            self.to_echo(data)


DEATH_FAULTS = [
    FaultyPath(name, kind, shortest, relay, frozenset(verdicts.split()))
    for name, kind, shortest, verdicts, relay in [
        ("flood-after-ff", "flood", "send ff", "extra corrupt", Flooding),
        ("greeting-of-every-5th", "flood", "nothing", "extra corrupt", Greeting),
        ("crashes-on-bulk", "death", "send 00*3001", "reset", CrashesOnBulk),
        ("dies-in-the-middle", "death", "nothing", "reset refused", dies_at(60)),
        ("hangs-for-ever", "death", "nothing", "stalled truncated never-closed", hangs_at(60)),
    ]
]

#: The preflight must report these: they cannot be fuzzed.
NOT_AN_ECHO = {
    "greeting": GreetingAll,
    "flood": FloodingAll,
    "dead": dies_at(0),
    "hanging": hangs_at(0),
}
