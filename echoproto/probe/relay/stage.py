"""The stages that the bytes of a connection pass through: the base class of every fault.

The stages stand one behind the other, as devices in a path do: client, first stage, second
stage, ..., server. What one sends to the server is what the next receives from the client, and
back. A fault overrides the events of :class:`Stage`, and does what it does wrong with the actions
of the same class. What it holds back counts for the backpressure (:class:`Direction`), so that no
fault needs more memory than a connection may have.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from echoproto.probe.relay.connection import Direction, Shared
from echoproto.probe.relay.log import difference
from echoproto.probe.relay.side import Side

__all__ = ["Between", "MakeStage", "Place", "Stage", "join"]


class Between(Protocol):
    """What a stage may do to its connection."""

    @property
    def client(self) -> Side:
        """The client's side."""

    @property
    def server(self) -> Side:
        """The server's side."""

    @property
    def up(self) -> Direction:
        """The way to the server."""

    @property
    def down(self) -> Direction:
        """The way to the client."""

    @property
    def number(self) -> int:
        """The number of the connection, from 1."""

    @property
    def shared(self) -> Shared:
        """What it has in common with others."""

    def chance(self, index: int) -> random.Random:
        """Return the source of chance of one fault on this connection."""

    def to_server(self, data: bytes) -> None:
        """Send to the server."""

    def to_client(self, data: bytes) -> None:
        """Send to the client."""

    def end_server(self) -> None:
        """Send FIN to the server."""

    def end_client(self) -> None:
        """Send FIN to the client."""

    def ignore_client(self) -> None:
        """Drop all that the client sends from now on."""

    def ignore_server(self) -> None:
        """Drop all that the server sends from now on."""

    def close(self, how: str) -> None:
        """Close both sides at once."""

    def reset(self, how: str) -> None:
        """Reset both sides at once."""

    def mute(self, how: str) -> None:
        """Go silent."""

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Call once, unless the connection has ended by then."""


@dataclass(frozen=True)
class Place:
    """Where a stage stands.

    Attributes:
        connection: the connection.
        name: the fault, as it was asked for.
        peers: the stages of the same fault on all open connections, oldest first.
        memory: what a fault keeps longer than a connection.
        index: how many faults were asked for before this one.
    """

    connection: Between
    name: str
    peers: list[Stage]
    memory: bytearray
    index: int


class Stage:
    """What a path does to one connection in one place: here, nothing. A fault overrides the events.

    Attributes:
        offset: how many bytes the client has sent before the chunk that is handled.
    """

    def __init__(self, place: Place) -> None:
        self.connection = place.connection
        self.name = place.name
        self.peers = place.peers
        self.memory = place.memory
        self.offset = 0
        self.before: Stage | None = None
        self.after: Stage | None = None
        self._index = place.index
        self._noted = False
        place.peers.append(self)

    # ------------------------------------------------------------------- events

    def opened(self) -> None:
        """The client has connected."""

    def client_sent(self, data: bytes) -> None:
        """The client sent this."""
        self.to_server(data)

    def client_ended(self) -> None:
        """The client has sent FIN."""
        self.end_server()

    def client_reset(self) -> None:
        """The client has reset the connection; the server's side is reset afterwards."""

    def server_sent(self, data: bytes) -> None:
        """The server sent this."""
        self.to_client(data)

    def server_ended(self) -> None:
        """The server has sent FIN."""
        self.end_client()

    # ------------------------------------------------------------------ actions

    @property
    def client(self) -> Side:
        """The client's side."""
        return self.connection.client

    @property
    def server(self) -> Side:
        """The server's side."""
        return self.connection.server

    @property
    def number(self) -> int:
        """How many clients connected before this one."""
        return self.connection.number - 1

    def draw(self) -> random.Random:
        """Return a source of chance; the same seed and connection give the same."""
        return self.connection.chance(self._index)

    def to_server(self, data: bytes) -> None:
        """Send on, in the direction of the server."""
        if self.after is None:
            self.connection.to_server(data)
        else:
            self.after.take(data)

    def to_client(self, data: bytes) -> None:
        """Send on, in the direction of the client."""
        if self.before is None:
            self.connection.to_client(data)
        else:
            self.before.server_sent(data)

    def end_server(self) -> None:
        """Pass FIN on, in the direction of the server."""
        if self.after is None:
            self.connection.end_server()
        else:
            self.after.client_ended()

    def end_client(self) -> None:
        """Pass FIN on, in the direction of the client."""
        if self.before is None:
            self.connection.end_client()
        else:
            self.before.server_ended()

    def forward(self, before: bytes, after: bytes) -> None:
        """Send on what the fault has made of bytes of the client, and note the difference."""
        self.note_change(before, after)
        self.to_server(after)

    def close(self, text: str = "closed both sides") -> None:
        """Close both sides at once; what is on its way is lost."""
        if self.client.open:
            self.note(text, action="closed")
            self.connection.close(f"closed by {self.name}")

    def reset(self, text: str = "reset both sides") -> None:
        """Reset both sides."""
        if self.client.open:
            self.note(text, action="reset")
            self.connection.reset(f"reset by {self.name}")

    def mute(self, text: str = "sends nothing any more") -> None:
        """Close the server's side; read from the client, and answer nothing, not even with FIN."""
        self.note(text, action="muted")
        self.connection.mute(f"muted by {self.name}")

    def ignore_client(self) -> None:
        """Drop all that the client sends from now on."""
        self.connection.ignore_client()

    def now(self) -> float:
        """Return the time in seconds, by the clock of the timers."""
        return self.connection.shared.loop.now()

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Call once, unless the connection has ended by then."""
        self.connection.later(ms, call)

    # ---------------------------------------------------------------------- log

    def note(self, text: str, **details: Any) -> None:
        """Log what this fault has done to the connection."""
        log = self.connection.shared.log
        if not self._noted:
            self._noted = True
            log.acted[self.name] += 1
        log.tell("fault", text, connection=self.connection.number, fault=self.name, **details)

    def note_once(self, text: str, **details: Any) -> None:
        """Log it if nothing was logged for this fault and connection."""
        if not self._noted:
            self.note(text, **details)

    def note_change(self, before: bytes, after: bytes) -> None:
        """Log how bytes of the client differ after this fault, if they do."""
        if before == after:
            return
        if self.connection.shared.log.observed:
            text, details = difference(before, after, self.offset)
            self.note(text, **details)
        else:
            self.note_once("")

    # ---------------------------------------------------------------- machinery

    def take(self, data: bytes) -> None:
        """Handle what came from the client's direction."""
        self.client_sent(data)
        self.offset += len(data)

    def closed(self) -> None:
        """The connection has ended."""
        self.peers.remove(self)


MakeStage = Callable[[Place], Stage]
"""Makes a stage for a connection."""


def join(stages: Sequence[Stage]) -> None:
    """Put stages one behind the other, that of the client first."""
    for before, after in itertools.pairwise(stages):
        before.after, after.before = after, before
