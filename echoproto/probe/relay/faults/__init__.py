"""Every fault, by what it depends on."""

from __future__ import annotations

from echoproto.probe.relay.fault import Fault
from echoproto.probe.relay.faults.between import BETWEEN_FAULTS
from echoproto.probe.relay.faults.byte import BYTE_FAULTS
from echoproto.probe.relay.faults.close import CLOSE_FAULTS
from echoproto.probe.relay.faults.death import DEATH_FAULTS
from echoproto.probe.relay.faults.delay import DELAY_FAULTS
from echoproto.probe.relay.faults.position import POSITION_FAULTS
from echoproto.probe.relay.faults.size import SIZE_FAULTS
from echoproto.probe.relay.faults.timing import TIMING_FAULTS

__all__ = ["FAULTS", "GROUPS"]

GROUPS: dict[str, tuple[Fault, ...]] = {
    "Certain bytes": BYTE_FAULTS,
    "A place in the stream": POSITION_FAULTS,
    "Segments": SIZE_FAULTS,
    "The end": CLOSE_FAULTS,
    "Delay": DELAY_FAULTS,
    "Silence and slow readers": TIMING_FAULTS,
    "Several connections": BETWEEN_FAULTS,
    "Floods and failures": DEATH_FAULTS,
}
"""All faults, by a heading."""

FAULTS: tuple[Fault, ...] = tuple(fault for group in GROUPS.values() for fault in group)
"""All faults."""
