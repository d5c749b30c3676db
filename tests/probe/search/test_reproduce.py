from __future__ import annotations

import random
import time
from collections.abc import Callable

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.reproduce import recurs, reproduce
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict


def outcome(session: Session, kind: Fault) -> Outcome:
    verdicts = tuple(Verdict(kind, "") for _ in session.conversations)
    return Outcome(session, verdicts, ((),) * len(verdicts), 0.0)


class Faulty:
    """Fails for the sessions that ``fails`` selects, with a probability."""

    def __init__(
        self,
        fails: Callable[[Session], bool],
        rate: float = 1.0,
        kind: Fault = Fault.TRUNCATED,
        impatient: Callable[[Session], bool] = lambda session: False,
    ) -> None:
        self.fails, self.rate, self.kind, self.impatient = fails, rate, kind, impatient
        self.random = random.Random(1)
        self.ran: list[Session] = []

    def run(self, session: Session, patient: bool) -> Outcome:
        self.ran.append(session)
        failed = self.fails(session) and self.random.random() < self.rate
        failed = failed or (not patient and self.impatient(session))
        return outcome(session, self.kind if failed else Fault.NONE)

    def first(self, text: str) -> Outcome:
        return outcome(Session.parse(text), self.kind)


def has_ff(session: Session) -> bool:
    return any(b"\xff" in conversation.payload for conversation in session.conversations)


def test_a_fault_that_is_always_there() -> None:
    path = Faulty(has_ff)
    found = reproduce(path.first("send 00..ff; await"), path.run)
    assert found is not None
    assert str(found.session) == "send ff"
    assert (found.reproduced, found.runs) == (10, 10)
    assert found.outcome.kind is Fault.TRUNCATED
    assert found.shrink_runs == len(path.ran)


def test_one_in_two_and_one_in_ten() -> None:
    for rate in (0.5, 0.1):
        path = Faulty(has_ff, rate)
        found = reproduce(path.first("send 00..ff; await; send 61"), path.run)
        assert found is not None
        assert str(found.session) == "send ff"
        assert 0 < found.reproduced < found.runs
        assert abs(found.reproduced / found.runs - rate) < 0.25


def test_without_shrinking() -> None:
    path = Faulty(has_ff)
    found = reproduce(path.first("send 00..ff; await"), path.run, shrinking=False)
    assert found is not None
    assert str(found.session) == "send 00..ff; await"
    assert (found.reproduced, found.runs) == (10, 10)


def test_a_failure_that_never_recurs() -> None:
    path = Faulty(lambda session: False)
    found = reproduce(path.first("send ff"), path.run, retries=5)
    assert found is not None
    assert (found.reproduced, found.runs) == (0, 5)
    paused = Faulty(lambda session: False, kind=Fault.STALLED)
    assert reproduce(paused.first("send ff"), paused.run, retries=5) is None
    assert not recurs(paused.first("send ff"), paused.run, (), 5)


def test_a_failure_that_recurs_only_after_another_session() -> None:
    path = Faulty(lambda session: session.sequential and "reset then" in str(session))
    history = tuple(map(Session.parse, ("send 61", "send 62; reset")))
    found = reproduce(path.first("send ff"), path.run, history=history, retries=5)
    assert found is not None
    assert str(found.session) == "reset then nothing"
    assert recurs(path.first("send ff"), path.run, history, 5)


def test_a_short_timeout_that_is_not_the_fault() -> None:
    # With the short timeout, everything with an await fails; the fault is FF.
    path = Faulty(has_ff, kind=Fault.STALLED, impatient=lambda session: "await" in str(session))
    found = reproduce(path.first("send ff; await"), path.run)
    assert found is not None
    assert str(found.session) == "send ff"
    nothing = Faulty(
        lambda session: False, kind=Fault.STALLED, impatient=lambda session: "await" in str(session)
    )
    assert reproduce(nothing.first("send ff; await"), nothing.run, retries=3) is None


def test_the_fin_is_written_out_when_it_matters() -> None:
    path = Faulty(lambda session: not str(session).endswith("await") and "send" in str(session))
    found = reproduce(path.first("send 00"), path.run)
    assert found is not None
    assert str(found.session) == "send 00; fin"
    found = reproduce(path.first("send 00"), path.run, half_close=False)
    assert found is not None
    assert str(found.session) == "send 00"


def test_a_race_is_not_preferred_to_what_always_fails() -> None:
    coin = random.Random(2)

    def fails(session: Session) -> bool:
        sure = "send 00; await; send 00" in str(session).replace("61", "00")
        racing = str(session).count("send") == 2 and coin.random() < 0.5
        return sure or racing

    path = Faulty(fails)
    found = reproduce(path.first("send 61; await; send 61"), path.run, half_close=False)
    assert found is not None
    assert (found.reproduced, found.runs) == (10, 10)


def test_the_deadline_is_kept() -> None:
    def run(session: Session, patient: bool) -> Outcome:
        time.sleep(0.01)
        return outcome(session, Fault.CORRUPT if has_ff(session) else Fault.NONE)

    first = outcome(Session.parse("send 00..ff; await; send 00..ff; await"), Fault.CORRUPT)
    began = time.monotonic()
    found = reproduce(first, run, deadline=began + 0.1)
    assert time.monotonic() - began < 1
    assert found is not None
    assert has_ff(found.session)
