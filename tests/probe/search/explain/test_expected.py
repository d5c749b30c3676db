"""Beside each faulty path stands its true explanation; ``test_finds_faults`` asserts them."""

from __future__ import annotations

from tests.probe.faulty_paths import FAULTS
from tests.probe.search.explain.expected import EXPECTED


def test_each_faulty_path_has_an_expected_explanation() -> None:
    assert list(EXPECTED) == [fault.name for fault in FAULTS]
