"""Paths that flood, die or speak first."""

from __future__ import annotations

from echoproto.probe.relay.arguments import BYTES, COUNT, MARK, SIZE
from echoproto.probe.relay.fault import Fault, plain, taking
from echoproto.probe.relay.stage import Place, Stage

__all__ = ["DEATH_FAULTS"]

#: The pause between two writes of a flood, in milliseconds.
_FLOOD_MS = 0.1


class Flooding(Stage):
    """Sends without end."""

    flooding = False

    def opened(self) -> None:
        self.flood()

    def flood(self) -> None:
        """Send more, while there is room."""
        self.note_once("sends without end", action="flooded")
        if not self.connection.down.full:
            self.to_client(bytes(65536))
        self.later(_FLOOD_MS, self.flood)


class FloodingAfter(Flooding):
    """Sends without end once it has seen certain bytes."""

    def __init__(self, place: Place, mark: bytes) -> None:
        super().__init__(place)
        self.mark = mark

    def opened(self) -> None:
        pass

    def client_sent(self, data: bytes) -> None:
        if self.mark not in data:
            self.to_server(data)
        elif not self.flooding:
            self.flooding = True
            self.flood()


class Greeting(Stage):
    """Every nth client is greeted first."""

    def __init__(self, place: Place, nth: int) -> None:
        super().__init__(place)
        self.nth = nth

    def opened(self) -> None:
        if self.connection.number % self.nth == 0:
            self.note("greeted", action="inserted")
            self.to_client(b"220 ready\r\n")


class DiesAt(Stage):
    """The relay crashes in the middle of a conversation, and is not started again."""

    def __init__(self, place: Place, number: int) -> None:
        super().__init__(place)
        self.dies = place.connection.number >= number

    def client_sent(self, data: bytes) -> None:
        if self.dies:
            self.note("died", action="died")
            self.connection.shared.die(None)
        else:
            self.to_server(data)


class RestartsOn(Stage):
    """The relay crashes at certain bytes, and is started again after a while."""

    def __init__(self, place: Place, mark: bytes, ms: float) -> None:
        super().__init__(place)
        self.mark = mark
        self.ms = ms

    def client_sent(self, data: bytes) -> None:
        if self.mark in data:
            self.note("died", action="died")
            self.connection.shared.die(self.ms)
        else:
            self.to_server(data)


class CrashesOn(Stage):
    """A segment that is too large resets all conversations."""

    def __init__(self, place: Place, most: int) -> None:
        super().__init__(place)
        self.most = most

    def client_sent(self, data: bytes) -> None:
        if len(data) > self.most:
            for stage in list(self.peers):
                stage.reset(f"reset at a segment of {len(data)} bytes")
        else:
            self.to_server(data)


DEATH_FAULTS = (
    Fault("greeting", "Greets every Nth client with 220 ready.",
          "A server on the wrong port, such as one of mail.",
          taking(COUNT, lambda nth: lambda place: Greeting(place, nth)), "N", "1"),
    Fault("flood", "Sends zeros to each client, without end.", "chargen (RFC 864), a loop.",
          plain(Flooding)),
    Fault("flood-after", "Sends zeros without end once a segment contains HEX.",
          "A gateway that answers itself.",
          taking(BYTES, lambda mark: lambda place: FloodingAfter(place, mark)), "HEX"),
    Fault("crash-on", "Resets all connections at a segment of more than BYTES.",
          "A relay that crashes and is started again.",
          taking(SIZE, lambda most: lambda place: CrashesOn(place, most)), "BYTES"),
    Fault("restart-on", "Resets all connections at bytes HEX, and accepts none for TIME (200ms).",
          "A server that crashes, and is started again by its supervisor.",
          taking(MARK, lambda mark: lambda place: RestartsOn(place, *mark)), "HEX[,TIME]"),
    Fault("dies-at", "Resets all connections when the Nth client sends, and accepts no more.",
          "A relay that crashes and is not started again.",
          taking(COUNT, lambda number: lambda place: DiesAt(place, number)), "N"),
)  # fmt: skip
"""Paths that flood, die or speak first."""
