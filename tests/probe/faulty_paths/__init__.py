"""Byte paths with known faults.

``with Path(fault.relay) as path:`` listens on ``path.port``; ``Path()`` is a correct one.
"""

from tests.probe.faulty_paths.between import BETWEEN_FAULTS
from tests.probe.faulty_paths.byte import BYTE_FAULTS
from tests.probe.faulty_paths.close import CLOSE_FAULTS
from tests.probe.faulty_paths.death import DEATH_FAULTS, NOT_AN_ECHO
from tests.probe.faulty_paths.faults import FaultyPath
from tests.probe.faulty_paths.flaky import FLAKY_FAULTS
from tests.probe.faulty_paths.position import POSITION_FAULTS
from tests.probe.faulty_paths.relay import Path, Relay
from tests.probe.faulty_paths.size import SIZE_FAULTS
from tests.probe.faulty_paths.timing import TIMING_FAULTS

FAULTS: list[FaultyPath] = [
    *BYTE_FAULTS,
    *POSITION_FAULTS,
    *SIZE_FAULTS,
    *CLOSE_FAULTS,
    *TIMING_FAULTS,
    *BETWEEN_FAULTS,
    *DEATH_FAULTS,
    *FLAKY_FAULTS,
]

__all__ = ["FAULTS", "NOT_AN_ECHO", "FaultyPath", "Path", "Relay"]
