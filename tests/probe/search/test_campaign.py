from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as File

import pytest

from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import Session
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CaseRecord, Failure, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.faulty_paths import Path, Relay
from tests.probe.faulty_paths.faults import chunks, stream

pytestmark = pytest.mark.usefixtures("small_catalogue")

FEW = Settings(examples=100, seed=3)


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
        return [record.script for record in seen.records if record.phase is Phase.FUZZ]

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
    assert result.known > 0
    explained = [record for record in result.records if record.kind is not Fault.NONE]
    assert {record.explained_by for record in explained} == {0}
    assert failure.id is not None
    assert saved.get(failure.id).target == f"127.0.0.1:{drops_ff.port}"

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


def test_only_some_cases(drops_ff: Path, saved: SavedFailures) -> None:
    seen = Seen()
    result = Campaign(at(drops_ff), Settings(cases=("E-017", "E-011")), seen, saved).run()
    assert [(r.name, r.kind) for r in seen.records if r.phase is Phase.CATALOGUE] == [
        ("E-011", Fault.TRUNCATED),
        ("E-017", Fault.NONE),
    ]
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
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: catalogue()[-9:])
    seen = Seen()
    target = Target.parse(f"127.0.0.1:{echo_port}")
    Campaign(target, replace(FEW, parallel=1), seen, saved).run()
    assert not any("|" in record.script for record in seen.records)
    assert any("--parallel" in note for note in seen.notes)


def test_max_time(echo_port: int, saved: SavedFailures) -> None:
    starts: list[float] = []

    class Clocked(Observer):
        def record(self, record: CaseRecord) -> None:
            starts.append(time.monotonic() - record.seconds)

    target = Target.parse(f"127.0.0.1:{echo_port}")
    began = time.monotonic()
    result = Campaign(target, Settings(examples=10**6, max_time=1), Clocked(), saved).run()
    # One may be chosen just before the end, and start after it.
    assert sum(start > began + 1 for start in starts) <= 1
    assert 0 < len(starts) < 10**6
    assert result.exit_code == 0


def test_connection_refused(saved: SavedFailures) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target.parse(f"127.0.0.1:{unused.getsockname()[1]}")
        result = Campaign(target, FEW, None, saved).run()
    assert result.exit_code == 2
    assert "connection refused" in str(result.error)


@pytest.mark.slow
def test_interrupted_with_what_was_found_so_far(drops_ff: Path, saved: SavedFailures) -> None:
    class Interrupting(Seen):
        def record(self, record: CaseRecord) -> None:
            if record.name == "E-020":
                raise KeyboardInterrupt

    result = Campaign(at(drops_ff), FEW, Interrupting(), saved).run()
    assert result.interrupted
    assert result.exit_code == 130
    assert len(result.failures) > 0
    assert str(result.failures[0].session) == "send 00..ff"


def test_a_path_that_fails_everything_ends_soon(saved: SavedFailures) -> None:
    seen = Seen()
    with Path(stream(lambda start, data: b"\x01" + data[1:] if not start else data)) as path:
        result = Campaign(at(path), Settings(seed=1), seen, saved).run()
    assert str(result.failures[0].session) == "send 00"
    assert any("cases in a row failed" in note for note in seen.notes)
    assert any("contained a failure already found" in note for note in seen.notes)
    assert result.counts[Phase.FUZZ] < 50


def test_a_stall_that_does_not_recur_is_not_a_failure(saved: SavedFailures) -> None:
    class PausesOnce(Relay):
        paused = False

        def client_sent(self, data: bytes) -> None:
            if not PausesOnce.paused and campaign.result.preflight is not None:
                PausesOnce.paused = True
                time.sleep(8 * campaign.result.preflight.timeout)
            self.to_echo(data)

    seen = Seen()
    with Path(PausesOnce) as path:
        campaign = Campaign(at(path), replace(FEW, examples=0), seen, saved)
        result = campaign.run()
    assert result.failures == []
    assert result.transients == 1
    assert any("ignored one stall that did not recur" in note for note in seen.notes)


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
    assert result.preflight.timeout >= 1


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
def test_twenty_runs_of_a_thousand_without_a_false_alarm(
    echo_port: int, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    target = Target.parse(f"127.0.0.1:{echo_port}")
    for seed in range(20):
        result = Campaign(target, Settings(seed=seed), None, saved).run()
        assert result.failures == [], seed
        assert result.counts[Phase.FUZZ] == 1000
