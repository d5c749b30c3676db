"""Whether a path works, with a path that is a list of what it does, and a clock of its own."""

from __future__ import annotations

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.availability import Availability
from echoproto.probe.search.explain.explanation import Effect
from echoproto.probe.search.reproduced import PathGoneError
from echoproto.probe.wire.answers import Answers
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

SECONDS = 5.0
PATIENCE = 30.0
STEP = 0.21  # by which the end of an outage is seen late, at most
ROUNDING = 1e-9


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def outcome(script: str, *kinds: Fault, received: int = 0) -> Outcome:
    session = Session.parse(script)
    verdicts = tuple(Verdict(kind, str(kind), received=received) for kind in kinds)
    return Outcome(session, verdicts, ((),) * len(verdicts), 0.0)


class Served:
    """A path that is away from one moment to another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.until = 0.0
        self.dead = Fault.REFUSED
        self.checks = 0
        self.answers = Answers()
        monkeypatch.setattr("echoproto.probe.search.availability.time", self.clock)
        self.availability = Availability(self._check, self.answers, PATIENCE)

    def away(self, seconds: float) -> None:
        self.until = self.clock.now + seconds

    def ran(self, script: str, *kinds: Fault, received: int = 0) -> bool:
        """Look after an experiment; it failed if the last verdict did."""
        failed = kinds[-1] is not Fault.NONE
        return self.availability.look_after(outcome(script, *kinds, received=received), failed)

    def _check(self) -> Outcome:
        self.checks += 1
        works = self.clock.now >= self.until
        return outcome("send 65; await", Fault.NONE if works else self.dead)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


def test_a_path_that_works_is_not_waited_for(served: Served) -> None:
    assert served.availability.wait() == 0
    assert served.availability.outages == 0
    assert served.clock.now == 0


@pytest.mark.parametrize("seconds", [0.01, 0.3, 4.9])
def test_a_path_that_comes_back_is_waited_for(served: Served, seconds: float) -> None:
    served.away(seconds)
    gone = served.availability.wait()
    assert gone is not None
    assert seconds <= gone <= seconds + STEP
    assert served.availability.outages == 1
    assert not served.availability.gone


def test_a_path_that_is_gone_is_waited_for_once(served: Served) -> None:
    served.away(1000)
    assert served.availability.wait() is None
    assert served.availability.gone
    assert SECONDS <= served.clock.now <= SECONDS + STEP
    at = served.clock.now
    assert served.availability.wait() is None
    assert served.clock.now == at


@pytest.mark.parametrize("kind", [Fault.STALLED, Fault.NEVER_CLOSED])
def test_a_path_that_is_silent_may_be_late(served: Served, kind: Fault) -> None:
    served.dead = kind
    served.away(29)
    gone = served.availability.wait()
    assert gone is not None
    assert 29 - ROUNDING <= gone <= 29 + STEP
    served.away(1000)
    began = served.clock.now
    assert served.availability.wait() is None
    assert PATIENCE - ROUNDING <= served.clock.now - began <= PATIENCE + STEP


def test_a_refused_experiment_is_repeated_if_the_path_was_away(served: Served) -> None:
    served.away(0.3)
    assert served.ran("send 00", Fault.REFUSED)
    # It works, and refuses this all the same.
    assert not served.ran("send 00", Fault.REFUSED)


def test_what_gets_no_answer_is_looked_into_ever_less_often(served: Served) -> None:
    looked = []
    for number in range(1, 34):
        before = served.checks
        assert not served.ran("send ff", Fault.RESET)
        if served.checks > before:
            looked.append(number)
    assert looked == [2, 4, 8, 16, 32]


def test_an_answer_ends_the_row(served: Served) -> None:
    for _ in range(10):
        assert not served.ran("send ff", Fault.RESET)
        assert not served.ran("send 00", Fault.NONE)
        assert not served.ran("send 00 00", Fault.TRUNCATED, received=1)
    assert served.checks == 0


def test_a_path_behind_a_balancer_is_away_without_refusing(served: Served) -> None:
    assert not served.ran("send 00", Fault.TRUNCATED)
    served.away(0.3)
    assert served.ran("send 01", Fault.TRUNCATED)


def test_once_it_goes_away_it_is_looked_for_after_every_experiment(served: Served) -> None:
    for _ in range(2):
        served.away(0.3)
        assert served.ran("send 00", Fault.REFUSED)
    assert served.availability.goes_away
    served.away(0.3)
    assert not served.ran("send ff", Fault.RESET)  # a crash of its own
    assert 0.3 - ROUNDING <= served.availability.away_after(Session.parse("send ff")) <= 0.3 + STEP
    served.away(0.4)
    assert not served.ran("reset", Fault.NONE)
    assert 0.4 - ROUNDING <= served.availability.away_after(Session.parse("reset")) <= 0.4 + STEP
    before = served.checks
    assert not served.ran("send 61", Fault.NONE)
    assert served.checks == before + 1
    assert served.availability.away_after(Session.parse("send 61")) == 0


def test_where_it_began_is_told_if_the_path_does_not_come_back(served: Served) -> None:
    served.answers.note(7, answered=True)
    served.answers.note(8, answered=False)
    assert not served.ran("send ff", Fault.RESET)
    served.away(1000)
    with pytest.raises(PathGoneError) as gone:
        served.ran("send 00", Fault.REFUSED)
    assert gone.value.outcome.session == Session.parse("send ff")
    assert str(gone.value) == (
        "nothing has worked since an experiment (send ff: reset), connection 8"
    )
    assert gone.value.explanation is None  # one was reset, the next one refused


@pytest.mark.parametrize(("before", "explained"), [("send 61", True), ("send 61; reset", False)])
def test_a_path_that_is_used_up_by_experiments(
    served: Served, before: str, explained: bool
) -> None:
    served.answers.note(19, answered=True)
    assert not served.ran(before, Fault.NONE)
    served.answers.note(20, answered=False)
    served.away(1000)
    with pytest.raises(PathGoneError) as gone:
        served.ran("send ff", Fault.REFUSED)
    explanation = gone.value.explanation
    assert (explanation is not None) == explained
    if explanation is not None:
        assert explanation.after_connections == 19
        assert explanation.effect is Effect.REFUSED
