"""Faults of what comes back: ``back:NAME`` does to the server what NAME does to the client.

The stage of the fault sees a connection in which client and server have changed places.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from echoproto.probe.relay.connection import Direction, Shared
from echoproto.probe.relay.side import Side
from echoproto.probe.relay.stage import Between, MakeStage, Place, Stage

__all__ = ["on_the_way_back"]


def on_the_way_back(make: MakeStage) -> MakeStage:
    """Return a stage that does to the server what ``make``'s stage does to the client."""
    return lambda place: _Back(place, make)


class _Back(Stage):
    """Turns events and actions round."""

    def __init__(self, place: Place, make: MakeStage) -> None:
        # The peers of the fault are the stages inside.
        super().__init__(replace(place, peers=[]))
        self._inside = make(replace(place, connection=_Mirror(self)))

    def opened(self) -> None:
        self._inside.opened()

    def client_sent(self, data: bytes) -> None:
        self._inside.server_sent(data)

    def client_ended(self) -> None:
        self._inside.server_ended()

    def server_sent(self, data: bytes) -> None:
        self._inside.take(data)

    def server_ended(self) -> None:
        self._inside.client_ended()

    def closed(self) -> None:
        self._inside.closed()


class _Mirror:
    """A connection with its sides exchanged, as the stage inside sees it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._real: Between = stage.connection

    @property
    def client(self) -> Side:
        return self._real.server

    @property
    def server(self) -> Side:
        return self._real.client

    @property
    def up(self) -> Direction:
        return self._real.down

    @property
    def down(self) -> Direction:
        return self._real.up

    @property
    def number(self) -> int:
        return self._real.number

    @property
    def shared(self) -> Shared:
        return self._real.shared

    def chance(self, index: int) -> random.Random:
        return self._real.chance(index)

    def to_server(self, data: bytes) -> None:
        self._stage.to_client(data)

    def to_client(self, data: bytes) -> None:
        self._stage.to_server(data)

    def end_server(self) -> None:
        self._stage.end_client()

    def end_client(self) -> None:
        self._stage.end_server()

    def ignore_client(self) -> None:
        self._real.ignore_server()

    def ignore_server(self) -> None:
        self._real.ignore_client()

    def close(self, how: str) -> None:
        self._real.close(how)

    def reset(self, how: str) -> None:
        self._real.reset(how)

    def mute(self, how: str) -> None:
        self._real.mute(how)

    def later(self, ms: float, call: Callable[[], None]) -> None:
        self._real.later(ms, call)
