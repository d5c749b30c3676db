from __future__ import annotations

from dataclasses import replace

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome
from tests.probe.faulty_paths import FAULTS, Path

LIMITS = Limits(stall=1.0, half_close=True)


def outcome(fault: str, script: str, capture: int) -> Outcome:
    relay = next(each.relay for each in FAULTS if each.name == fault)
    with Path(relay) as path:
        connector = connect(Target.parse(f"127.0.0.1:{path.port}"))
        return run(Session.parse(script), connector, replace(LIMITS, capture=capture))


@pytest.mark.parametrize("capture", [0, 1000])
def test_the_verdict_is_the_same_and_the_stream_is_kept_to_its_end(capture: int) -> None:
    done = outcome("lf-to-crlf", "send 61 0a 62 0a 63", capture)
    assert (done.kind, done.verdict.offset) == (Fault.CORRUPT, 1)
    assert done.captured == ((b"a\r\nb\r\nc",) if capture else ())


def test_a_capture_holds_no_more_than_it_may() -> None:
    # The path floods: without a bound, reading would not end.
    done = outcome("flood-after-ff", "send ff", 5000)
    assert done.kind is Fault.CORRUPT
    assert len(done.captured[0]) == 5000
    assert done.seconds < 30
