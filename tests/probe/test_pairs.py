"""Two faults on one path are told apart: some pairs. ``python -m tests.probe.pairs`` has all."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from tests.probe.pairs import Pair, missing, pairs, run_pair

#: One of each kind of fault in front of each way to close that takes a few seconds.
SOME = (
    "iac-swallowed+bulk-cut-at-end",
    "lf-to-crlf+closes-unread",
    "cr-to-crlf+end-closes-both",
    "xon-swallowed+one-answer",
    "crlf-to-lf+trailer",
    "high-bit-stripped+empty-resets",
    "every-1000th-flipped+end-resets",
)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("pair", [pair for pair in pairs() if str(pair) in SOME], ids=str)
def test_both_faults_are_found_each_as_short_as_when_alone(pair: Pair, tmp_path: File) -> None:
    result = run_pair(pair, tmp_path)
    found = [(str(failure.session), str(failure.kind)) for failure in result.failures]
    assert missing(pair, result.failures) == [], found
