"""The shortest time without a connection, on a path that is a function of time."""

from __future__ import annotations

import math
import time

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.absence import shortest_absence
from echoproto.probe.search.edits import joined
from echoproto.probe.search.reproduced import NotAgain
from echoproto.probe.search.silence import Silence
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

FIRST = Session.parse("send 61; await then absent 2200; send 61; await")


def outcome(session: Session, kind: Fault) -> Outcome:
    verdicts = (Verdict(Fault.NONE, ""), Verdict(kind, ""))
    return Outcome(session, verdicts, ((), ()), 0.0)


def searched(
    stale_ms: float, asks: bytes = b"", explaining: bool = True
) -> Silence | NotAgain | None:
    """Search on a path that resets after so long, a client that sends ``asks``."""

    def run(session: Session) -> Outcome:
        stale = session.conversations[-1].absent_ms >= stale_ms
        sent = asks in session.conversations[-1].payload
        return outcome(session, Fault.RESET if stale and sent else Fault.NONE)

    return shortest_absence(outcome(FIRST, Fault.RESET), run, math.inf, explaining)


def test_the_time_is_found_to_a_few_percent() -> None:
    found = searched(2000)
    assert isinstance(found, Silence)
    assert found.explanation is not None
    assert found.explanation.pause_ms == 2000
    assert found.explanation.text == (
        "resets the first connection after 2 s without any (1.925 s pass)"
    )
    assert str(found.found.session) == "nothing then absent 2062"
    assert found.found.reproduced == found.found.runs == 2
    assert [suspect.what for suspect in found.explanation.suspects] == [
        "a proxy that keeps connections to the server for the next client (a pool)"
    ]


def test_a_path_that_fails_only_what_is_sent_keeps_its_bytes() -> None:
    found = searched(1500, asks=b"a")
    assert isinstance(found, Silence)
    assert str(found.found.session).startswith("send 61; await then absent 15")


def test_what_fails_without_the_time_is_another_failure() -> None:
    assert searched(0) is None


def test_what_passes_the_next_time_is_no_failure() -> None:
    assert searched(math.inf) == NotAgain(5)


@pytest.mark.parametrize("explaining", [False, True])
def test_what_there_is_no_time_for_is_told_as_it_was_seen(explaining: bool) -> None:
    found = shortest_absence(
        outcome(FIRST, Fault.RESET),
        lambda session: outcome(session, Fault.RESET if session.has_absence else Fault.NONE),
        time.monotonic(),
        explaining,
    )
    assert isinstance(found, Silence)
    assert str(found.found.session) == "nothing then absent 2200"


def test_beside_others_there_is_no_time_without_a_connection() -> None:
    other = Session.parse("nothing")
    assert str(joined([FIRST, other])) == "send 61; await | send 61; await | nothing"
    assert str(joined([other, FIRST], sequential=True)) == f"nothing then {FIRST}"
