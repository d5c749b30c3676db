"""A fault that occurs in some runs only is one failure: no single run decides about it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as File

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.explain.explain import explain
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.known import Known
from echoproto.probe.search.reproduce import reproduce
from echoproto.probe.search.reproduced import Reproduced
from echoproto.probe.search.result import Phase
from echoproto.probe.search.traits import Bytes, Data, Fin
from echoproto.probe.search.trigger import Trigger, find_trigger
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import named
from tests.probe.search.explain.simulated import failing
from tests.probe.shortest import PATIENT


def judged(candidate: Candidate, kind: Fault) -> Outcome:
    verdicts = (Verdict(kind, ""),) * len(candidate.conversations)
    return Outcome(candidate.session, verdicts, ((),) * len(verdicts), 0.0)


class Race:
    """A path that closes at FIN in some runs.

    :param rate: in how many, once it fails no longer each time.
    :param sure: in how many of the first runs it fails each time.
    """

    def __init__(self, rate: float, seed: int, sure: int = 0) -> None:
        self._draw = random.Random(seed)
        self._rate, self._sure = rate, sure

    def fails(self, candidate: Candidate) -> bool:
        if not (candidate.ends_with_fin and candidate.conversations[0].payload):
            return False
        self._sure -= 1
        return self._sure >= 0 or self._draw.random() < self._rate

    def __call__(self, candidate: Candidate) -> Outcome:
        return judged(candidate, Fault.TRUNCATED if self.fails(candidate) else Fault.NONE)


def at(text: str) -> Candidate:
    return Candidate(Session.parse(text))


@pytest.mark.parametrize(
    ("rate", "seen"), [(0.05, 0.06), (0.1, 0.1), (0.1, 0.2), (0.5, 0.5), (0.25, 0.5)]
)
def test_a_race_needs_nothing_but_the_fin(rate: float, seen: float) -> None:
    for seed in range(1, 21):
        found = find_trigger(at("send 00; fin"), Fault.TRUNCATED, Race(rate, seed), seen)
        assert found.traits == (Fin(), Data(1)), seed


def test_a_race_that_failed_each_time_needs_no_size() -> None:
    for seed in range(20):
        race = Race(0.7, seed, sure=1)
        found = find_trigger(at("send 00 00; fin"), Fault.TRUNCATED, race, 1.0)
        assert not any(isinstance(trait, Bytes) for trait in found.traits), seed
        assert found.is_in(at("send 61 62; fin")), seed


def known(*traits: Bytes | Fin | Data, text: str = "send 00 00; fin") -> Known:
    known = Known()
    known.add(Trigger(Fault.TRUNCATED, at(text), traits), 0.5, 0)
    return known


OF_ZEROS = (Fin(), Bytes((b"\0\0",)))
OF_ANY = Trigger(Fault.TRUNCATED, at("send 01; fin"), (Fin(), Data(1)))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_two_races_that_fail_as_often_are_one(rate: float) -> None:
    failures = known(*OF_ZEROS)
    assert not failures.is_in(at("send 61; fin"))
    assert failures.same_race(OF_ANY, Race(rate, 1)) == 0
    # What was found of the bytes does not count any more.
    assert failures.is_in(at("send 61; fin"))
    assert not failures.is_in(Candidate(Session.parse("send 61"), fin=False))


def test_what_fails_much_more_often_is_another() -> None:
    def path(candidate: Candidate) -> Outcome:
        return Race(1.0 if b"\0\0" in candidate.conversations[0].payload else 0.1, next(seeds))(
            candidate
        )

    seeds = iter(range(1000))
    failures = known(*OF_ZEROS)
    assert failures.same_race(OF_ANY, path) is None
    assert not failures.is_in(at("send 61; fin"))


def test_two_races_of_bytes_are_two() -> None:
    failures = known(Bytes((b"\xff",)), text="send ff")
    other = Trigger(Fault.TRUNCATED, at("send 0a"), (Bytes((b"\n",)),))
    assert failures.same_race(other, Race(0.5, 1)) is None


@pytest.mark.parametrize("rate", [0.4, 0.6, 0.9])
@pytest.mark.parametrize("sure", [2, 3, 6, 10])
def test_a_race_that_failed_each_time_is_explained_as_one(rate: float, sure: int) -> None:
    for seed in range(50):
        race = Race(rate, seed, sure)

        def rule(session: Session, race: Race = race) -> Fault | None:
            return Fault.TRUNCATED if race.fails(Candidate(session)) else None

        explanation = explain(Session.parse("send 00; fin"), failing(rule), (10, 10))
        assert explanation is not None
        assert explanation.text == "closes before all bytes are back, when the client sends FIN"


def seen(fails: Callable[[], bool]) -> tuple[int, int]:
    """How often something fails, in how many runs, as a failure's rate is counted."""
    failed = runs = 0
    while runs < 10 or (failed < 5 and runs < 50):
        runs += 1
        failed += fails()
    return failed, runs


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("needs_fin", [True, False])
def test_no_run_of_luck_explains_a_race(rate: float, needs_fin: bool) -> None:
    """What passes by chance without FIN does not need it."""
    session = Session.parse("send 00 00; fin")
    texts = []
    for seed in range(20):
        draw = random.Random(seed)

        def rule(one: Session, draw: random.Random = draw) -> Fault | None:
            shows = Candidate(one).ends_with_fin or not needs_fin
            return Fault.TRUNCATED if shows and draw.random() < rate else None

        failed, runs = seen(lambda draw=draw: draw.random() < rate)  # type: ignore[misc]
        if failed and (found := explain(session, failing(rule), (failed, runs))) is not None:
            assert found.text.endswith(f", in {failed} of {runs} runs")
            texts.append(found.text)
    named_fin = sum("when the client sends FIN" in text for text in texts)
    if not needs_fin:
        assert not named_fin, texts
    elif rate >= 0.1:
        assert named_fin >= 16, texts
    assert len(texts) >= 10


def test_what_was_shrunk_to_fails_half_as_often_at_least() -> None:
    """Few bytes fail in one run of 20, more of them in one of two."""
    kept = []
    for seed in range(20):
        draw = random.Random(seed)

        def run(session: Session, patient: bool, draw: random.Random = draw) -> Outcome:
            size = len(session.conversations[0].payload)
            failed = size and draw.random() < (0.05 if size < 8 else 0.5)
            return judged(Candidate(session), Fault.TRUNCATED if failed else Fault.NONE)

        first = judged(at("send 00*20"), Fault.TRUNCATED)
        found = reproduce(first, run, retries=100)
        assert isinstance(found, Reproduced)
        kept.append(len(found.session.conversations[0].payload))
    # By chance, it is one of the few sometimes.
    assert sum(size >= 8 for size in kept) >= 18, kept


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("share", [50, 10])
def test_a_race_is_one_failure_after_a_whole_run(share: int, seed: int, tmp_path: File) -> None:
    with Path(named(f"close-at-fin@{share}%"), seed=seed) as path:
        target = Target.parse(f"127.0.0.1:{path.port}")
        settings = replace(PATIENT, examples=200, seed=seed)
        result = Campaign(target, settings, None, SavedFailures(tmp_path)).run()
    (failure,) = result.failures
    assert str(failure.session) == "send 00; fin"
    assert failure.kind is Fault.TRUNCATED
    assert failure.flaky
    assert result.counts[Phase.FUZZ] == 200
    assert failure.explanation is not None
    assert failure.explanation.text == (
        "closes before all bytes are back, when the client sends FIN, "
        f"in {failure.reproduced} of {failure.runs} runs"
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_some_connections_begin_with_is_one_failure(tmp_path: File) -> None:
    with Path(named("greeting=5")) as path:
        target = Target.parse(f"127.0.0.1:{path.port}")
        settings = replace(PATIENT, examples=200, seed=1)
        result = Campaign(target, settings, None, SavedFailures(tmp_path)).run()
    (failure,) = result.failures
    assert (str(failure.session), failure.kind) == ("nothing", Fault.EXTRA)
    assert result.counts[Phase.FUZZ] == 200
    assert failure.explanation is not None
    assert failure.explanation.every == 5
