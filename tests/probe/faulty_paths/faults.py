"""A faulty path: a fault of the product, and what the probe has to find of it.

The shortest conversation of a fault is the shortest that shows it *every time*. Segments
that follow each other at once may be read as one, so a fault between two segments names a
conversation that waits in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from echoproto.probe.relay.fault import ChosenFault, choose
from echoproto.probe.relay.faults import FAULTS
from echoproto.probe.relay.faults.changing import chunks, stream
from echoproto.probe.relay.stage import MakeStage

__all__ = ["FaultyPath", "MakeRelay", "chunks", "named", "stream"]

MakeRelay = ChosenFault | MakeStage


@dataclass(frozen=True)
class FaultyPath:
    """A path with a known fault.

    :param name: its name in the tests.
    :param kind: byte, position, size, close, timing, apart, between, flood, death or flaky.
    :param shortest: the shortest conversation or session that shows it every time.
    :param relay: the fault.
    :param verdicts: the verdicts that are right for this fault.
    """

    name: str
    kind: str
    shortest: str
    relay: MakeRelay
    verdicts: frozenset[str]

    def __str__(self) -> str:
        return self.name


def named(text: str) -> ChosenFault:
    """A fault of the product, as ``--fault`` takes it."""
    return choose(text, FAULTS)
