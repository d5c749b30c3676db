from __future__ import annotations

import tracemalloc

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.lab import Budget, Lab
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

SESSIONS = [Session.parse(f"send 00*{size}") for size in range(1, 201)]
MANY = Budget(conversations=1000, seconds=60)


@pytest.mark.parametrize("kind", [Fault.NONE, Fault.CORRUPT])
@pytest.mark.parametrize("size", [10, 2_000_000])
def test_an_answer_is_remembered_without_its_megabytes(kind: Fault, size: int) -> None:
    asked: list[Session] = []

    def trial(session: Session) -> Outcome:
        asked.append(session)
        return Outcome(session, (Verdict(kind, ""),), ((),), 0.0, captured=(bytes(size),))

    lab = Lab(trial, MANY, 1.0)
    tracemalloc.start()
    try:
        first = [lab.fails(session) for session in SESSIONS]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first == [kind is not Fault.NONE] * len(SESSIONS)
    assert kept < 3 * 2_000_000
    assert [lab.fails(session) for session in SESSIONS] == first
    # One that failed with megabytes is run again, all others are known.
    runs_again = kind is not Fault.NONE and size > 10
    assert len(asked) == len(SESSIONS) * (2 if runs_again else 1)
