from __future__ import annotations

import pytest

from echoproto.probe.search.explain.stopped import explain_stop
from echoproto.probe.wire.verdict import Fault


@pytest.mark.parametrize(
    ("count", "suspect"),
    [(1, "one client"), (5, ""), (80, ""), (256, "slots"), (1020, "slots"), (509, "slots")],
)
def test_what_a_number_of_connections_is_typical_of(count: int, suspect: str) -> None:
    explanation = explain_stop(Fault.RESET, count, 4)
    assert explanation is not None
    assert explanation.after_connections == count
    what = " ".join(suspect.what for suspect in explanation.suspects)
    assert suspect in what
    assert bool(suspect) == bool(what)


def test_wrong_bytes_are_no_end() -> None:
    assert explain_stop(Fault.CORRUPT, 256, 4) is None
    assert explain_stop(Fault.RESET, 0, 4) is None
