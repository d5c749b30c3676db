from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as File
from typing import ClassVar

import pytest

from echoproto.probe.report.summary import summary_lines
from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import Session
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.explain.lab import Budget
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CaseRecord, Failure, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.faulty_paths import Path, Relay
from tests.probe.faulty_paths.faults import chunks, named, stream

pytestmark = pytest.mark.usefixtures("small_catalogue")

FEW = Settings(examples=100, seed=3, patience=2.0)


class Seen(Observer):
    """Records the events."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.records: list[CaseRecord] = []
        self.failures: list[Failure] = []
        self.notes: list[str] = []

    def phase(self, phase: Phase, total: int | None) -> None:
        self.phases.append(phase)

    def record(self, record: CaseRecord) -> None:
        self.records.append(record)

    def failure(self, failure: Failure) -> None:
        self.failures.append(failure)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def saved(tmp_path: File) -> SavedFailures:
    return SavedFailures(tmp_path)


@pytest.fixture
def drops_ff() -> Iterator[Path]:
    with Path(chunks(lambda data: data.replace(b"\xff", b""))) as path:
        yield path


def at(path: Path) -> Target:
    return Target.parse(f"127.0.0.1:{path.port}")


def test_a_correct_echo_has_no_failures(echo_port: int, saved: SavedFailures) -> None:
    seen = Seen()
    target = Target.parse(f"127.0.0.1:{echo_port}")
    result = Campaign(target, replace(FEW, examples=300), seen, saved).run()
    assert result.exit_code == 0
    assert result.failures == []
    assert seen.phases == [Phase.PREFLIGHT, Phase.CATALOGUE, Phase.FUZZ]
    assert result.counts[Phase.FUZZ] == 300
    assert result.kinds == {Fault.NONE: sum(result.counts.values())}
    assert len(seen.records) == sum(result.counts.values())
    assert result.rate > 0
    assert result.round_trips
    assert not saved.directory.exists() or not list(saved.directory.iterdir())


def test_the_same_seed_draws_the_same(echo_port: int, saved: SavedFailures) -> None:
    def scripts(seed: int) -> list[str]:
        seen = Seen()
        settings = Settings(examples=40, seed=seed, max_time=60)
        Campaign(Target.parse(f"127.0.0.1:{echo_port}"), settings, seen, saved).run()
        drawn = [record for record in seen.records if record.phase is Phase.FUZZ]
        return [record.script for record in sorted(drawn, key=lambda record: int(record.name))]

    assert scripts(1) == scripts(1) != scripts(2)


def test_a_fault_is_found_shrunk_saved_and_replayed(drops_ff: Path, saved: SavedFailures) -> None:
    seen = Seen()
    result = Campaign(at(drops_ff), FEW, seen, saved).run()
    assert result.exit_code == 1
    (failure,) = result.failures
    assert seen.failures == [failure]
    assert (failure.kind, str(failure.session)) == (Fault.TRUNCATED, "send ff")
    assert (failure.reproduced, failure.runs, failure.flaky) == (10, 10, False)
    assert failure.found_by.startswith("E-")
    assert failure.replay == f"echoproto replay 127.0.0.1:{drops_ff.port} 'send ff'"
    assert failure.example == '@example(Conversation.parse("send ff"))'
    # What it needs is avoided from then on.
    assert result.counts[Phase.FUZZ] == FEW.examples
    assert result.known == 0
    # On a busy machine one may be late for longer than the patience, and not again.
    by = [record.explained_by for record in result.records if record.kind is not Fault.NONE]
    assert (by.count(0), by.count(None)) == (len(by) - result.transients, result.transients)
    assert failure.id is not None
    assert saved.get(failure.id).target == at(drops_ff)

    seen = Seen()
    again = Campaign(at(drops_ff), FEW, seen, saved).run()
    assert seen.phases[1] is Phase.SAVED
    assert [f.found_by for f in again.failures] == [failure.id]
    assert len(list(saved.directory.iterdir())) == 1


def test_a_saved_failure_that_passes_is_marked(echo_port: int, saved: SavedFailures) -> None:
    id_ = saved.save(Session.parse("send ff"), ["truncated"], "a:7")
    (saved.directory / "garbled.txt").write_text("sned")
    target = Target.parse(f"127.0.0.1:{echo_port}")
    seen = Seen()
    result = Campaign(target, replace(FEW, examples=0), seen, saved).run()
    assert result.passing == [id_]
    assert saved.get(id_).passed
    assert any("garbled" in note for note in seen.notes)
    assert result.exit_code == 0


def close_at_fin_and(*more: str) -> Path:
    return Path(*map(named, more), named("close-at-fin"))


@pytest.mark.slow
def test_two_faults_of_one_path_are_told_apart(saved: SavedFailures) -> None:
    with close_at_fin_and("iac-swallowed") as path:
        result = Campaign(at(path), replace(FEW, explain=False), None, saved).run()
    assert {str(failure.session) for failure in result.failures} == {"send 00; fin", "send ff"}
    assert result.counts[Phase.FUZZ] == FEW.examples
    assert result.left_out == []


@pytest.mark.slow
def test_a_known_failure_is_avoided_and_not_reported(saved: SavedFailures) -> None:
    settings = replace(FEW, explain=False)
    with close_at_fin_and("iac-swallowed") as path:
        id_ = saved.save(Session.parse("send 00; fin"), ["truncated"], str(at(path)))
        result = Campaign(at(path), replace(settings, known=(id_,)), None, saved).run()
    assert [str(failure.session) for failure in result.failures] == ["send ff"]
    with close_at_fin_and() as path:
        result = Campaign(at(path), replace(settings, known=(id_,)), None, saved).run()
    assert result.exit_code == 0
    assert result.held == result.wanted


def test_a_known_failure_that_passes_is_a_note(echo_port: int, saved: SavedFailures) -> None:
    target = Target.parse(f"127.0.0.1:{echo_port}")
    id_ = saved.save(Session.parse("send ff"), ["truncated"], str(target))
    seen = Seen()
    result = Campaign(target, replace(FEW, examples=0, known=(id_,)), seen, saved).run()
    assert any(f"known failure {id_} passes now" in note for note in seen.notes)
    assert result.exit_code == 0
    unknown = Campaign(target, replace(FEW, known=("0" * 8,)), seen, saved).run()
    assert unknown.error == f"no saved failure '00000000' in {saved.directory}"


def test_what_there_is_no_time_to_shrink_is_listed(
    drops_ff: Path, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.probe.search.findings._MAX_FAILURES", 0)
    result = Campaign(at(drops_ff), replace(FEW, examples=0), None, saved).run()
    failing = [i for i, record in enumerate(result.records) if record.kind is not Fault.NONE]
    assert sorted(result.left_out) == failing != []
    # The most telling kinds are first.
    kinds = [result.records[index].kind for index in result.left_out]
    assert kinds == sorted(kinds, key=[Fault.CORRUPT, Fault.TRUNCATED, Fault.STALLED].index)
    text = "\n".join(line for line, _ in summary_lines(result))
    assert all(result.records[index].name in text for index in failing)


def test_what_fails_without_time_to_analyse_it_does_not_end_the_run(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.probe.search.findings._MAX_FAILURES", 0)
    with Path(named("flip-at=65535")) as path:
        result = Campaign(at(path), replace(FEW, examples=100), None, saved).run()
    listed = [result.records[index] for index in result.left_out]
    failing = [record for record in result.records if record.kind is not Fault.NONE]
    assert sorted(map(str, listed)) == sorted(map(str, failing))
    assert 1 < sum(record.phase is Phase.FUZZ for record in listed) < 25
    assert result.counts[Phase.FUZZ] == 100


def test_where_most_fails_without_time_to_analyse_it_the_run_ends(
    drops_ff: Path, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.probe.search.findings._MAX_FAILURES", 0)
    seen = Seen()
    result = Campaign(at(drops_ff), replace(FEW, examples=1000), seen, saved).run()
    assert result.counts[Phase.FUZZ] < 500
    assert sum("no time to analyse" in note for note in seen.notes) == 1


def test_one_that_never_comes_again_leaves_time_for_the_others(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DropsFf(Relay):
        """Returns one wrong byte as well, once: that is the most telling kind."""

        wrong: ClassVar[list[int]] = []

        def client_sent(self, data: bytes) -> None:
            if data == b"\n" and not self.wrong:
                self.wrong.append(self.connection.number)
                data = b"?"
            self.to_echo(data.replace(b"\xff", b""))

    # What fails each time is analysed, even without time, and not what no run shows again.
    monkeypatch.setattr("echoproto.probe.search.findings._SHRINK_SECONDS", 0)
    with Path(DropsFf) as path:
        settings = replace(FEW, cases=("E-011", "E-018"), explain=False)
        result = Campaign(at(path), settings, None, saved).run()
    assert [str(failure.session) for failure in result.failures] == ["send ff"]
    assert [result.records[index].name for index in result.left_out] == ["E-018"]


def test_only_some_cases(drops_ff: Path, saved: SavedFailures) -> None:
    seen = Seen()
    result = Campaign(at(drops_ff), Settings(cases=("E-017", "E-011")), seen, saved).run()
    held = {r.name: r.kind for r in seen.records if r.phase is Phase.CATALOGUE}
    assert held == {"E-011": Fault.TRUNCATED, "E-017": Fault.NONE}
    assert Phase.FUZZ not in result.counts
    assert len(result.failures) == 1


def test_an_excluded_kind_is_not_a_failure(drops_ff: Path, saved: SavedFailures) -> None:
    kinds = frozenset({Fault.TRUNCATED, Fault.CORRUPT, Fault.STALLED})
    result = Campaign(at(drops_ff), replace(FEW, exclude=kinds), None, saved).run()
    assert result.failures == []
    assert result.kinds[Fault.TRUNCATED] > 0


def test_without_shrinking(drops_ff: Path, saved: SavedFailures) -> None:
    settings = Settings(cases=("E-006",), shrink=False)
    (failure,) = Campaign(at(drops_ff), settings, None, saved).run().failures
    assert str(failure.session) == "send 00..ff"


def test_few_connections(
    echo_port: int, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: catalogue()[88:97])
    seen = Seen()
    target = Target.parse(f"127.0.0.1:{echo_port}")
    Campaign(target, replace(FEW, parallel=1), seen, saved).run()
    assert not any("|" in record.script for record in seen.records)
    assert any("--parallel" in note for note in seen.notes)


def test_max_time(echo_port: int, saved: SavedFailures) -> None:
    target = Target.parse(f"127.0.0.1:{echo_port}")
    seen = Seen()
    result = Campaign(target, Settings(examples=10**6, max_time=1), seen, saved).run()
    # What has begun is held to its end.
    assert 1 <= result.seconds < 10
    assert result.failures == []
    # In the background, connections without a byte may be held as well.
    records = [record for record in seen.records if record.phase is not Phase.IDLE]
    assert 0 < result.held == len(records) < result.wanted == 31 + 10**6
    # The catalogue is complete, and more time was not asked for.
    assert result.counts[Phase.CATALOGUE] == 31
    assert result.exit_code == 0


def test_less_than_asked_without_a_failure_is_not_clean(
    echo_port: int, saved: SavedFailures
) -> None:
    target = Target.parse(f"127.0.0.1:{echo_port}")
    result = Campaign(target, Settings(examples=1000, max_time=1e-3), None, saved).run()
    assert result.held < 31
    assert result.failures == []
    assert result.exit_code == 2


def test_connection_refused(saved: SavedFailures) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target.parse(f"127.0.0.1:{unused.getsockname()[1]}")
        result = Campaign(target, FEW, None, saved).run()
    assert result.exit_code == 2
    assert "connection refused" in str(result.error)


def test_interrupted_with_what_was_found_so_far(drops_ff: Path, saved: SavedFailures) -> None:
    class Interrupting(Seen):
        def record(self, record: CaseRecord) -> None:
            if record.name == "E-020":
                raise KeyboardInterrupt

    # Of several under way, any may end first.
    result = Campaign(at(drops_ff), replace(FEW, window=1), Interrupting(), saved).run()
    assert result.interrupted
    assert result.exit_code == 130
    assert len(result.failures) > 0
    # The most telling first, as where there is time to look at them.
    assert str(result.failures[0].session) == "send 0d ff 0a"


def test_interrupted_while_explaining(
    drops_ff: Path, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("echoproto.probe.search.recorder.explain", interrupted)
    result = Campaign(at(drops_ff), replace(FEW, cases=("E-016",)), None, saved).run()
    assert result.interrupted
    # It had been shrunk, which is not lost, and is listed once.
    assert [str(failure.session) for failure in result.failures] == ["send ff"]
    assert result.failures[0].explanation is None


def test_not_explained_if_not_asked_for(drops_ff: Path, saved: SavedFailures) -> None:
    settings = replace(FEW, cases=("E-016",), explain=False)
    result = Campaign(at(drops_ff), settings, None, saved).run()
    (failure,) = result.failures
    assert (failure.explanation, failure.not_explained) == (None, "")


def test_it_says_so_if_the_experiments_told_too_little(
    drops_ff: Path, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "echoproto.probe.search.recorder.Budget",
        lambda seconds=10.0: Budget(conversations=2, seconds=seconds),
    )
    result = Campaign(at(drops_ff), replace(FEW, cases=("E-016",)), None, saved).run()
    (failure,) = result.failures
    assert failure.explanation is None
    assert re.fullmatch(
        r"not explained: \d+\.\d s of experiments did not tell what about it matters",
        failure.not_explained,
    )


def test_a_path_that_fails_everything_ends_soon(saved: SavedFailures) -> None:
    seen = Seen()
    with Path(stream(lambda start, data: data if start else b"\x01" + data)) as path:
        result = Campaign(at(path), Settings(seed=1), seen, saved).run()
    assert str(result.failures[0].session) == "send 00"
    assert any("cases in a row failed" in note for note in seen.notes)
    assert any("contained a failure already found" in note for note in seen.notes)
    assert result.counts[Phase.FUZZ] < 150


def test_late_is_not_lost(saved: SavedFailures) -> None:
    class PausesOnce(Relay):
        paused = False

        def client_sent(self, data: bytes) -> None:
            if not PausesOnce.paused and campaign.result.preflight is not None:
                PausesOnce.paused = True
                self.client.hold(True)
                self.later(1500, lambda: self.to_echo(data))  # it reads on then, too
            else:
                self.to_echo(data)

    seen = Seen()
    with Path(PausesOnce) as path:
        settings = Settings(cases=("E-003", "E-005", "E-011", "E-012"), patience=20)
        campaign = Campaign(at(path), settings, seen, saved)
        result = campaign.run()
    assert result.failures == []
    assert result.exit_code == 0
    assert result.delayed == 1
    assert 1.0 <= result.longest_delay <= max(record.seconds for record in seen.records)
    (note,) = (note for note in seen.notes if "delayed by" in note)
    assert re.fullmatch(r"E-\d+: delayed by \d+(\.\d+)? s", note)
    assert {record.kind for record in seen.records} == {Fault.NONE}


def test_a_failure_that_never_comes_again_is_a_note(saved: SavedFailures) -> None:
    class FlipsOnce(Relay):
        flipped = False

        def client_sent(self, data: bytes) -> None:
            if not FlipsOnce.flipped and campaign.result.preflight is not None:
                FlipsOnce.flipped = True
                data = bytes([data[0] ^ 1]) + data[1:]
            self.to_echo(data)

    seen = Seen()
    with Path(FlipsOnce) as path:
        campaign = Campaign(at(path), replace(FEW, examples=60, retries=10), seen, saved)
        result = campaign.run()
    assert result.failures == []
    assert result.transients == 1
    assert any("did not come again in" in note and "corrupt" in note for note in seen.notes)
    assert result.exit_code == 0
    assert result.held == result.wanted == 31 + 60
    assert not saved.directory.exists() or not list(saved.directory.iterdir())


def test_a_correct_echo_far_away(saved: SavedFailures) -> None:
    class Far(Relay):
        """Takes 25 ms each way, as netem does where the kernel has it."""

        def client_sent(self, data: bytes) -> None:
            self.later(25, lambda: self.to_echo(data))

        def echo_sent(self, data: bytes) -> None:
            self.later(25, lambda: self.to_client(data))

        def client_ended(self) -> None:
            self.later(25, super().client_ended)

        def echo_ended(self) -> None:
            self.later(25, super().echo_ended)

    with Path(Far) as path:
        settings = Settings(cases=("E-001", "E-004", "E-005", "E-006", "E-012"))
        result = Campaign(at(path), settings, None, saved).run()
    assert result.failures == []
    assert result.preflight is not None
    assert result.preflight.half_close
    assert min(result.preflight.round_trips) >= 0.05
    assert result.preflight.timeout >= 0.2


def test_failures_that_cannot_be_saved(drops_ff: Path, tmp_path: File) -> None:
    (tmp_path / "file").write_text("")
    seen = Seen()
    settings = Settings(cases=("E-011",))
    saved = SavedFailures(tmp_path / "file" / "x")
    (failure,) = Campaign(at(drops_ff), settings, seen, saved).run().failures
    assert failure.id is None
    assert any(note.startswith("not saved: ") for note in seen.notes)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_five_runs_of_a_thousand_without_a_false_alarm(
    echo_port: int, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    target = Target.parse(f"127.0.0.1:{echo_port}")
    for seed in range(5):
        result = Campaign(target, Settings(seed=seed), None, saved).run()
        assert result.failures == [], seed
        assert result.counts[Phase.FUZZ] == 1000
