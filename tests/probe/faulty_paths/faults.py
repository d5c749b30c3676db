"""A faulty path, and two short ways to write one.

The shortest conversation of a fault is the shortest that shows it *every time*. Segments
that follow each other at once may be read as one, so a fault between two segments names a
conversation that waits in between.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from tests.probe.faulty_paths.relay import Path, Relay

MakeRelay = Callable[[Path, socket.socket, int], Relay]


@dataclass(frozen=True)
class FaultyPath:
    """A path with a known fault.

    :param name: its name in the tests.
    :param kind: byte, position, size, close, timing, between, flood, death or flaky.
    :param shortest: the shortest conversation or session that shows it every time.
    :param relay: the proxy.
    :param verdicts: the verdicts that are right for this fault.
    """

    name: str
    kind: str
    shortest: str
    relay: MakeRelay
    verdicts: frozenset[str]

    def __str__(self) -> str:
        return self.name


def chunks(change: Callable[[bytes], bytes]) -> MakeRelay:
    """A proxy that changes each chunk it reads, independently of the others."""

    class Changed(Relay):
        def client_sent(self, data: bytes) -> None:
            self.to_echo(change(data))

    return Changed


def stream(change: Callable[[int, bytes], bytes]) -> MakeRelay:
    """A proxy that changes what is sent, depending on its offset in the stream."""

    class Changed(Relay):
        def client_sent(self, data: bytes) -> None:
            self.to_echo(change(self.offset, data))

    return Changed
