"""One relayed connection: a client, the connection to the server for it, and what is in between.

Without stages it is right: FIN in each direction, RST and backpressure are passed on, and no byte
is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from echoproto.probe.relay.log import Log
from echoproto.probe.relay.loop import Loop, Timer
from echoproto.probe.relay.side import Side
from echoproto.probe.script.words import plural

__all__ = ["HIGH_WATER", "WINDOW", "Connection", "Direction", "Link", "Shared"]

HIGH_WATER = 65536
"""With this much waiting for one side, in bytes, the other side is not read."""

WINDOW = 262144
"""With this much held back by stages in one direction, in bytes, the source is not read."""


@dataclass
class Shared:
    """What all connections of a relay have in common.

    Attributes:
        loop: it runs them.
        log: it is told what is done to them.
        die: stops accepting and resets every connection; with a time in milliseconds, accepts
            again after it.
        seed: of all that is left to chance.
        mute_ms: a connection that hangs for ever is reset after this time, so that descriptors
            are not used up.
        connections: the open ones, oldest first.
    """

    loop: Loop
    log: Log
    die: Callable[[float | None], None]
    seed: int = 0
    mute_ms: float = 60_000
    connections: list[Connection] = field(default_factory=list)


class Direction:
    """The bytes of one direction: what is held back on their way, and when reading stops.

    Attributes:
        limit: with so many bytes waiting for the sink, the source is not read.
    """

    limit = HIGH_WATER

    def __init__(self, source: Side, sink: Side) -> None:
        self._source, self._sink = source, sink
        self._held = 0
        self._stopped_by: set[object] = set()

    def hold_back(self, count: int) -> None:
        """Count bytes that a stage keeps; a negative number when it has sent them."""
        self._held += count
        self.update()

    def stop(self, by: object, stopped: bool) -> None:
        """Do not read the source at all, or continue once nothing else stops it.

        Args:
            by: what stops it.
            stopped: whether it does.
        """
        if stopped:
            self._stopped_by.add(by)
        else:
            self._stopped_by.discard(by)
        self.update()

    @property
    def full(self) -> bool:
        """Whether more waits than a connection may have."""
        return self._held > WINDOW or len(self._sink.pending) > self.limit

    def update(self) -> None:
        """Read the source, or do not."""
        self._source.hold(bool(self._stopped_by) or self.full)


class Link(Protocol):
    """What a connection asks of a stage."""

    def opened(self) -> None:
        """The client has connected."""

    def take(self, data: bytes) -> None:
        """Handle what came from the client."""

    def client_ended(self) -> None:
        """Handle the client's FIN."""

    def client_reset(self) -> None:
        """Handle the client's RST."""

    def server_sent(self, data: bytes) -> None:
        """Handle what came from the server."""

    def server_ended(self) -> None:
        """Handle the server's FIN."""

    def closed(self) -> None:
        """The connection has ended."""


class Connection:
    """One client, the connection to the server for it, and the stages in between.

    Args:
        shared: what it has in common with the others.
        number: its number, from 1.
        client: how to name the client.
    """

    def __init__(self, shared: Shared, number: int, client: str) -> None:
        self.shared = shared
        self.number = number
        self._ignored: set[Side] = set()
        self.stages: Sequence[Link] = ()
        self._timers: set[Timer] = set()
        self._lingering = False
        self._began = shared.loop.now()
        self.client = Side(
            shared.loop, self._client_sent, self._client_ended, self._client_lost, self._drained
        )
        self.server = Side(
            shared.loop, self._server_sent, self._server_ended, self._server_lost, self._drained
        )
        self.up = Direction(self.client, self.server)
        self.down = Direction(self.server, self.client)
        shared.connections.append(self)
        shared.log.opened += 1
        shared.log.tell("opened", f"from {client}", connection=number, client=client)

    def pass_through(self, stages: Sequence[Link]) -> None:
        """Put the stages between the two sides, that of the client first."""
        self.stages = stages
        for stage in stages:
            stage.opened()

    def chance(self, index: int) -> random.Random:
        """Return the source of chance of one fault on this connection."""
        return random.Random(f"{self.shared.seed}/{self.number}/{index}")

    # ------------------------------------------------------------------ actions

    def to_server(self, data: bytes) -> None:
        """Send to the server; stop reading from the client while too much waits."""
        self.server.send(data)
        self.up.update()

    def to_client(self, data: bytes) -> None:
        """Send to the client; stop reading from the server while too much waits."""
        self.client.send(data)
        self.down.update()

    def end_server(self) -> None:
        """Send FIN to the server."""
        self.server.fin()
        self.finished()

    def end_client(self) -> None:
        """Send FIN to the client."""
        self.client.fin()
        self.finished()

    def ignore_client(self) -> None:
        """Drop all that the client sends from now on."""
        self._ignored.add(self.client)

    def ignore_server(self) -> None:
        """Drop all that the server sends from now on."""
        self._ignored.add(self.server)

    def mute(self, how: str) -> None:
        """Close the server's side; read from the client, and send it nothing, not even FIN."""
        self.ignore_client()
        self.server.close()
        self.later(self.shared.mute_ms, lambda: self.reset(how))

    def close(self, how: str) -> None:
        """Close both sides at once."""
        self.client.close()
        self.server.close()
        self._forget(how)

    def reset(self, how: str) -> None:
        """Reset both sides at once."""
        self.client.reset()
        self.server.reset()
        self._forget(how)

    def refuse(self, why: str) -> None:
        """Reset the client, because there is no connection to the server."""
        if self.client.open:
            self.shared.log.tell("failed", why, connection=self.number)
            self.reset("no connection to the server")

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Call once, unless the connection has ended by then."""

        def due() -> None:
            self._timers.discard(timer)
            call()

        if self.client.open:
            timer = self.shared.loop.later(ms, due)
            self._timers.add(timer)

    def finished(self) -> None:
        """Close if both directions have ended and everything was sent."""
        if not (self.client.open and self.client.read_ended and self.client.fin_sent):
            return
        if self.server.read_ended and self.server.fin_sent:
            self.close("both sides have closed")
        elif not self.server.fin_asked and not self._lingering:
            # A stage keeps the client's FIN, perhaps for ever.
            self._lingering = True
            self.later(self.shared.mute_ms, lambda: self.close("the FIN was not passed on"))

    # ------------------------------------------------------------------- events

    def _client_sent(self, data: bytes) -> None:
        if self.client in self._ignored:
            return
        if self.stages:
            self.stages[0].take(data)
        else:
            self.to_server(data)

    def _client_ended(self) -> None:
        if self.client in self._ignored:
            self.finished()
        elif self.stages:
            self.stages[0].client_ended()
        else:
            self.end_server()

    def _client_lost(self) -> None:
        for stage in self.stages:
            stage.client_reset()
        self.reset("reset by the client")

    def _server_sent(self, data: bytes) -> None:
        if self.server in self._ignored:
            return
        if self.stages:
            self.stages[-1].server_sent(data)
        else:
            self.to_client(data)

    def _server_ended(self) -> None:
        if self.server in self._ignored:
            self.finished()
        elif self.stages:
            self.stages[-1].server_ended()
        else:
            self.end_client()

    def _server_lost(self) -> None:
        self.reset("reset by the server")

    def _drained(self) -> None:
        self.up.update()
        self.down.update()
        self.finished()

    def _forget(self, how: str) -> None:
        if self not in self.shared.connections:
            return
        self.shared.connections.remove(self)
        for stage in self.stages:
            stage.closed()
        for timer in self._timers:
            self.shared.loop.cancel(timer)
        self._timers.clear()
        seconds = self.shared.loop.now() - self._began
        sent = plural(self.client.bytes_in, "byte")
        received = plural(self.client.bytes_out, "byte")
        self.shared.log.tell(
            "closed",
            f"{how}, {sent} from the client, {received} to the client",
            connection=self.number,
            how=how,
            client_sent=self.client.bytes_in,
            to_server=self.server.bytes_out,
            server_sent=self.server.bytes_in,
            to_client=self.client.bytes_out,
            lasted=round(seconds, 6),
        )
