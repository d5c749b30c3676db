"""Faults between two connections, and of every nth connection."""

from __future__ import annotations

import struct

from echoproto.probe.relay.arguments import COUNT, TIME
from echoproto.probe.relay.fault import Fault, plain, taking
from echoproto.probe.relay.stage import MakeStage, Place, Stage

__all__ = ["BETWEEN_FAULTS"]

#: So much later an orderly close is passed on where a reset has to come first, in milliseconds.
_BEHIND_RESET_MS = 2


class Crossed(Stage):
    """The answers of a second connection go to the first."""

    def server_sent(self, data: bytes) -> None:
        first = self.peers[0]
        if first is not self:
            to = first.connection.number
            self.note(f"sent {len(data)} bytes to connection {to}", action="crossed", to=to)
        # A client that does not read misses some of the others' answers, rather than need memory.
        if first is self or not first.connection.down.full:
            first.to_client(data)


class Copied(Stage):
    """Every open connection receives the answers of all."""

    def server_sent(self, data: bytes) -> None:
        if len(self.peers) > 1:
            self.note(f"sent {len(data)} bytes to all connections", action="copied")
        for stage in list(self.peers):
            if stage is self or not stage.connection.down.full:
                stage.to_client(data)


class ResetKillsAll(Stage):
    """When one client resets, all connections are reset.

    An orderly close is delayed, so that a reset always comes before it.
    """

    def client_ended(self) -> None:
        self.later(_BEHIND_RESET_MS, super().client_ended)

    def client_reset(self) -> None:
        if self.client.read_ended:
            # It has closed, and its kernel resets because of what still comes.
            return
        number = self.connection.number
        for stage in list(self.peers):
            if stage is not self:
                stage.reset(f"reset with connection {number}")


class ServesAtMost(Stage):
    """Serves a few clients; each of the others waits until one before it has left."""

    def __init__(self, place: Place, allowed: int = 1) -> None:
        super().__init__(place)
        self.allowed = allowed

    def opened(self) -> None:
        if len(self.peers) > self.allowed:
            self.note("made a client wait", action="stopped")
            self.connection.up.stop(self, True)

    def closed(self) -> None:
        super().closed()
        for served in self.peers[: self.allowed]:
            served.connection.up.stop(served, False)


class AtMost(Stage):
    """Allows a few connections; the next one is reset."""

    def __init__(self, place: Place, allowed: int) -> None:
        super().__init__(place)
        self.allowed = allowed

    def opened(self) -> None:
        if len(self.peers) > self.allowed:
            self.reset(f"reset a client beyond {self.allowed}")


class Stale(Stage):
    """A pool of connections to the server, which have ended there while no client came.

    The next client gets one of them.
    """

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms

    def opened(self) -> None:
        if len(self.peers) > 1 or not self.memory:
            return
        (left,) = struct.unpack("d", self.memory)
        idle = 1000 * (self.now() - left)
        if idle >= self.ms:
            self.reset(f"reset the first client after {idle:.0f} ms without any")

    def closed(self) -> None:
        super().closed()
        self.memory[:] = struct.pack("d", self.now())


class Leftover(Stage):
    """The next client that closes receives what a client that reset left in a buffer."""

    def client_ended(self) -> None:
        if self.memory:
            self.note("sent what was left of another connection", action="inserted")
            self.to_client(bytes(self.memory))
            self.memory.clear()
        super().client_ended()

    def client_reset(self) -> None:
        self.memory[:] = b"left over"


class Nth(Stage):
    """A balancer with one server down."""

    def __init__(self, place: Place, nth: int, hangs: bool) -> None:
        super().__init__(place)
        self.nth, self.hangs = nth, hangs

    def opened(self) -> None:
        if self.connection.number % self.nth == 0:
            if self.hangs:
                self.mute()
            else:
                self.reset()


class FromNth(Stage):
    """From this connection on, it accepts and sends nothing, or resets."""

    def __init__(self, place: Place, first: int, hangs: bool) -> None:
        super().__init__(place)
        self.first, self.hangs = first, hangs

    def opened(self) -> None:
        if self.connection.number >= self.first:
            if self.hangs:
                self.mute()
            else:
                self.reset()


def _at_most(allowed: int) -> MakeStage:
    return lambda place: AtMost(place, allowed)


BETWEEN_FAULTS = (
    Fault("answers-crossed", "Sends all answers to the client that has been connected longest.",
          "A relay that mixes up its connections.", plain(Crossed)),
    Fault("answers-copied", "Sends each answer to all clients.",
          "A serial device server that several clients share.", plain(Copied)),
    Fault("reset-kills-all", "Resets all connections when one client resets.",
          "A relay whose worker an error on a socket ends.", plain(ResetKillsAll)),
    Fault("one-at-a-time", "Serves one client at a time; the others wait.",
          "nc -k -l, a serial device server.", plain(ServesAtMost)),
    Fault("serves-at-most", "Serves N clients at a time; the others wait.",
          "A forwarder with a fixed number of workers (xinetd, instances).",
          taking(COUNT, lambda n: lambda place: ServesAtMost(place, n)), "N"),
    Fault("stale-after", "Resets the first client after TIME without any.",
          "A relay that keeps connections to the server for the next client.",
          taking(TIME, lambda ms: lambda place: Stale(place, ms)), "TIME", "2s"),
    Fault("at-most", "Resets clients when N are connected.",
          "A balancer or a firewall with a limit of connections.", taking(COUNT, _at_most), "N"),
    Fault("leftover-after-reset",
          "Sends a client, at its FIN, a buffer that is left of one that has reset.",
          "A relay with a pool of buffers.", plain(Leftover)),
    Fault("nth-reset", "Resets every Nth connection.",
          "A balancer in front of N servers, one of which is down.",
          taking(COUNT, lambda n: lambda place: Nth(place, n, hangs=False)), "N"),
    Fault("nth-mute", "Hangs on every Nth connection.",
          "A balancer in front of N servers, one of which hangs.",
          taking(COUNT, lambda n: lambda place: Nth(place, n, hangs=True)), "N"),
    Fault("mute-from", "Hangs from the Nth connection on.",
          "A relay whose slots or descriptors leak.",
          taking(COUNT, lambda n: lambda place: FromNth(place, n, hangs=True)), "N"),
    Fault("reset-from", "Resets from the Nth connection on.",
          "A relay that has used up its descriptors (1024, often), or its ports.",
          taking(COUNT, lambda n: lambda place: FromNth(place, n, hangs=False)), "N"),
)  # fmt: skip
"""Faults between connections."""
