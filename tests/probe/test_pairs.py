"""Two faults on one path are told apart: some pairs. ``python -m tests.probe.pairs`` has all."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Verdict
from tests.probe.faulty_paths import FaultyPath, Path
from tests.probe.pairs import CHANGED, Pair, missing, pairs, run_pair

#: One of each kind of fault in front of each way to close that takes a few seconds.
SOME = (
    "iac-swallowed+bulk-cut-at-end",
    "lf-to-crlf+closes-unread",
    "cr-to-crlf+end-closes-both",
    "xon-swallowed+one-answer",
    "crlf-to-lf+trailer",
    "high-bit-stripped+empty-resets",
    "every-1000th-flipped+end-resets",
    "first-byte-flipped+bulk-cut-at-end",
    "first-byte-flipped+end-closes-both",
    "flipped-at-4095+closes-unread",
)


# With more of these than cores, a byte may win a race that it loses otherwise.
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("pair", [pair for pair in pairs() if str(pair) in SOME], ids=str)
def test_both_faults_are_found_each_as_short_as_when_alone(pair: Pair, tmp_path: File) -> None:
    result = run_pair(pair, tmp_path)
    found = [(str(failure.session), str(failure.kind)) for failure in result.failures]
    assert missing(pair, result.failures) == [], found


def verdict(session: str, *faults: FaultyPath) -> Verdict:
    with Path(*(fault.relay for fault in faults)) as path:
        target = Target.parse(f"127.0.0.1:{path.port}")
        connector = Connector(target, target.addresses()[0])
        return run(Session.parse(session), connector, Limits(stall=2.0, half_close=True)).verdict


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize("name", CHANGED)
def test_what_shows_a_fault_alone_does_not_show_it_beside_this_one(name: str) -> None:
    fault, _, verdicts, _ = CHANGED[name]
    (pair,) = (pair for pair in pairs() if str(pair) == name)
    if fault == pair.first.name:
        seen = verdict(pair.first.shortest, pair.first, pair.second)
        assert str(seen.kind) in set(verdicts.split()) - pair.first.verdicts
    else:
        # It is the same without it.
        both = verdict(pair.second.shortest, pair.first, pair.second)
        one = verdict(pair.second.shortest, pair.first)
        assert (both.kind, both.received) == (one.kind, one.received)
