from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.reproduce import Run, reproduce
from echoproto.probe.search.reproduced import NotAgain, Reproduced
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


def shortest(first: Outcome, run: Run, **options: Any) -> Reproduced:
    """What a failure that comes again is reproduced as."""
    found = reproduce(first, run, **options)
    assert isinstance(found, Reproduced)
    return found


def has_ff(session: Session) -> bool:
    return any(b"\xff" in conversation.payload for conversation in session.conversations)


def test_what_came_back_wrong_says_more_than_a_short_timeout() -> None:
    runs = 0

    def run(session: Session, patient: bool) -> Outcome:
        nonlocal runs
        runs += 1
        late = not patient and runs % 3 == 0
        return outcome(session, Fault.NEVER_CLOSED if late else Fault.EXTRA)

    for offset in range(3):
        runs = offset
        found = shortest(outcome(Session.parse("send 00; fin"), Fault.EXTRA), run)
        assert (found.outcome.kind, found.reproduced) == (Fault.EXTRA, 10)


def test_a_fault_that_is_always_there() -> None:
    path = Faulty(has_ff)
    found = shortest(path.first("send 00..ff; await"), path.run)
    assert str(found.session) == "send ff"
    assert (found.reproduced, found.runs) == (10, 10)
    assert found.outcome.kind is Fault.TRUNCATED
    assert found.shrink_runs == len(path.ran)


def test_one_in_two_and_one_in_ten() -> None:
    for rate in (0.5, 0.1):
        found = []
        for seed in range(20):
            path = Faulty(has_ff, rate)
            path.random.seed(seed)
            found.append(shortest(path.first("send 00..ff; await; send 61"), path.run))
        # Each is found by chance, which may say no once.
        assert sum(str(one.session) == "send ff" for one in found) >= 18
        assert all(one.reproduced > 0 for one in found)
        rates = sum(one.reproduced for one in found) / sum(one.runs for one in found)
        assert abs(rates - rate) < 0.2


def test_a_flaky_failure_is_not_shrunk_to_one_that_is_much_rarer() -> None:
    coin = random.Random(1)

    def fails(session: Session) -> bool:
        slow = "slow" in str(session)
        return has_ff(session) and coin.random() < (0.6 if slow else 0.05)

    path = Faulty(fails)
    kept = 0
    for _ in range(20):
        found = shortest(path.first("slow 1000; send 61 ff 62; await"), path.run)
        assert has_ff(found.session)
        kept += "slow" in str(found.session)
    assert kept >= 18


def test_a_slow_reader_is_only_dropped_for_what_is_as_sure() -> None:
    coin = random.Random(1)

    def fails(session: Session) -> bool:
        return has_ff(session) and ("slow" in str(session) or coin.random() < 0.4)

    path = Faulty(fails)
    for _ in range(10):
        found = shortest(path.first("slow 1000; send 61 ff 62; await"), path.run)
        assert (found.reproduced, found.runs) == (10, 10)
        assert "slow" in str(found.session)


def test_without_shrinking() -> None:
    path = Faulty(has_ff)
    found = shortest(path.first("send 00..ff; await"), path.run, shrinking=False)
    assert str(found.session) == "send 00..ff; await"
    assert (found.reproduced, found.runs) == (10, 10)


def test_a_failure_that_never_recurs() -> None:
    for kind in (Fault.CORRUPT, Fault.STALLED, Fault.REFUSED):
        path = Faulty(lambda session: False, kind=kind)
        assert reproduce(path.first("send ff"), path.run, retries=5) == NotAgain(5)


def test_a_failure_that_recurs_only_beside_another_session() -> None:
    def fails(session: Session) -> bool:
        texts = [str(conversation) for conversation in session.conversations]
        return not session.sequential and any("reset" in text for text in texts[1:])

    path = Faulty(fails)
    beside = tuple(map(Session.parse, ("send 61", "send 63 | send 62; await; reset", "fin")))
    history = (Session.parse("send 01"),)
    found = shortest(path.first("send ff"), path.run, beside=beside, history=history, retries=5)
    assert str(found.session) == "nothing | reset"
    assert found.reproduced == found.runs


def test_alone_comes_first_and_what_went_before_last() -> None:
    path = Faulty(lambda session: False)
    beside, history = (Session.parse("send 61"),), (Session.parse("send 62"),)
    reproduce(path.first("send ff"), path.run, beside=beside, history=history, retries=1)
    assert [*dict.fromkeys(map(str, path.ran))] == [
        "send ff",
        "send ff | send 61",
        "send 61 | send ff",
        "send 62 then send ff",
    ]


def test_a_failure_that_recurs_only_after_another_session() -> None:
    path = Faulty(lambda session: session.sequential and "reset then" in str(session))
    history = tuple(map(Session.parse, ("send 61", "send 62; reset")))
    found = shortest(path.first("send ff"), path.run, history=history, retries=5)
    assert str(found.session) == "reset then nothing"


def test_a_short_timeout_that_is_not_the_fault() -> None:
    # With the short timeout, everything with an await fails; the fault is FF.
    path = Faulty(has_ff, kind=Fault.STALLED, impatient=lambda session: "await" in str(session))
    found = shortest(path.first("send ff; await"), path.run)
    assert str(found.session) == "send ff"
    nothing = Faulty(
        lambda session: False, kind=Fault.STALLED, impatient=lambda session: "await" in str(session)
    )
    never = reproduce(nothing.first("send ff; await"), nothing.run, retries=3)
    assert isinstance(never, NotAgain)


def test_the_fin_is_written_out_when_it_matters() -> None:
    path = Faulty(lambda session: not str(session).endswith("await") and "send" in str(session))
    found = shortest(path.first("send 00"), path.run)
    assert str(found.session) == "send 00; fin"
    found = shortest(path.first("send 00"), path.run, half_close=False)
    assert str(found.session) == "send 00"


def test_a_race_is_not_preferred_to_what_always_fails() -> None:
    coin = random.Random(2)

    def fails(session: Session) -> bool:
        sure = "send 00; await; send 00" in str(session).replace("61", "00")
        racing = str(session).count("send") == 2 and coin.random() < 0.5
        return sure or racing

    path = Faulty(fails)
    found = shortest(path.first("send 61; await; send 61"), path.run, half_close=False)
    assert (found.reproduced, found.runs) == (10, 10)


def test_the_deadline_is_kept() -> None:
    def run(session: Session, patient: bool) -> Outcome:
        time.sleep(0.01)
        return outcome(session, Fault.CORRUPT if has_ff(session) else Fault.NONE)

    first = outcome(Session.parse("send 00..ff; await; send 00..ff; await"), Fault.CORRUPT)
    began = time.monotonic()
    found = shortest(first, run, deadline=began + 0.1)
    assert time.monotonic() - began < 1
    assert has_ff(found.session)


def test_what_is_told_of_a_stall_is_the_longest_wait() -> None:
    def run(session: Session, patient: bool) -> Outcome:
        if not has_ff(session):
            return outcome(session, Fault.NONE)
        return replace(outcome(session, Fault.STALLED), seconds=30.0 if patient else 0.05)

    first = outcome(Session.parse("send 61 ff; await"), Fault.STALLED)
    found = shortest(first, run)
    assert str(found.session) == "send ff"
    assert found.outcome.seconds == 30
