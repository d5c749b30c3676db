"""Paths that die, bear little, or mix their connections up."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path as File
from typing import ClassVar

import pytest

from echoproto.probe.script.catalogue import Case, catalogue
from echoproto.probe.script.conversation import Session
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.connector import Connector, LocalError
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.faulty_paths import Path, Relay
from tests.probe.faulty_paths.faults import named

pytestmark = pytest.mark.usefixtures("small_catalogue")

SETTINGS = Settings(examples=60, seed=3, patience=1.5)


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def campaign(
    path: Path, saved: SavedFailures, settings: Settings = SETTINGS
) -> tuple[CampaignResult, list[str]]:
    """The result of a campaign, and its notes."""
    notes = Notes()
    target = Target.parse(f"127.0.0.1:{path.port}")
    return Campaign(target, settings, notes, saved).run(), notes.notes


@pytest.fixture
def saved(tmp_path: File) -> SavedFailures:
    return SavedFailures(tmp_path)


#: The number of a connection of the catalogue: the preflight needs fewer.
LAST = 46


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (f"dies-at={LAST}", {Fault.RESET}),
        (f"mute-from={LAST}", {Fault.STALLED, Fault.NEVER_CLOSED}),
    ],
)
def test_the_culprit_of_a_dead_path_is_named_with_its_connection(
    fault: str, kinds: set[Fault], saved: SavedFailures
) -> None:
    with Path(named(fault)) as path:
        result, _ = campaign(path, saved)
    assert [failure.kind in kinds for failure in result.failures] == [True], result.error
    (failure,) = result.failures
    remark = re.fullmatch(
        r"nothing has worked since (E-\d+) \(.*: (.*)\), connection (\d+)(?:, beside (.*))?",
        failure.remark,
    )
    assert remark is not None
    name, kind, connection, beside = remark.groups()
    assert (name, kind) == (failure.found_by, failure.kind)
    # Of those under way together, none can be told from the others.
    together = [name, *(beside.split(", ") if beside else ())]
    assert abs(int(connection) - LAST) <= len(together)
    assert result.exit_code == 1
    assert Phase.FUZZ not in result.counts
    assert {record.explained_by for record in result.records if record.kind is not Fault.NONE} == {
        0
    }
    assert saved.get(str(failure.id)).session == failure.session


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize(
    ("fault", "effect"), [(f"reset-from={LAST}", "resets"), (f"mute-from={LAST}", "sends nothing")]
)
def test_a_path_that_is_used_up_says_after_how_many_connections(
    fault: str, effect: str, saved: SavedFailures
) -> None:
    with Path(named(fault)) as path:
        # A stall of this machine is no answer that never came.
        result, _ = campaign(path, saved, replace(SETTINGS, patience=4))
    (failure,) = result.failures
    assert failure.explanation is not None
    assert failure.explanation.after_connections == LAST - 1
    assert failure.explanation.text.startswith(effect)
    assert len(failure.session.conversations) == 1


@pytest.mark.slow
@pytest.mark.waits
def test_a_path_that_crashes_is_not_said_to_be_used_up(saved: SavedFailures) -> None:
    with Path(named(f"dies-at={LAST}")) as path:
        result, _ = campaign(path, saved)
    assert [failure.explanation for failure in result.failures] == [None]


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize("fault", ["reset-from=2", "mute-from=2"])
def test_a_path_that_serves_one_client_is_a_failure(fault: str, saved: SavedFailures) -> None:
    with Path(named(fault)) as path:
        result, _ = campaign(path, saved)
    (failure,) = result.failures
    assert failure.explanation is not None
    assert failure.explanation.text.endswith("every connection after the first one")
    assert result.exit_code == 1


@pytest.mark.parametrize("script", ["reset", "send 61*100000; reset", "send 61; await; reset"])
def test_a_path_that_a_reset_kills_names_what_went_before(
    script: str, saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that was answered, so that the path might have been used up."""
    cases = [
        Case("E-001", "a reset", "", Session.parse(script)),
        Case("E-002", "another", "", Session.parse("send 62; await")),
    ]
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: tuple(cases))
    begun, dead = threading.Event(), threading.Event()

    class Once(Relay):
        def client_reset(self) -> None:
            if begun.is_set():
                self.connection.shared.loop.later(0, self.die)

        def die(self) -> None:
            self.connection.shared.die(None)
            dead.set()

    class Follows(Observer):
        def phase(self, phase: Phase, total: int | None) -> None:
            if phase is Phase.CATALOGUE:
                begun.set()

        def record(self, record: CaseRecord) -> None:
            """Begin nothing else before the path has died."""
            assert dead.wait(60)

    with Path(Once) as path:
        target = Target.parse(f"127.0.0.1:{path.port}")
        result = Campaign(target, replace(SETTINGS, window=1), Follows(), saved).run()
    (failure,) = result.failures
    assert failure.kind is Fault.REFUSED
    assert str(failure.session) == f"{script} then send 62; await"
    assert failure.explanation is None
    assert failure.remark.startswith("nothing has worked since E-002 (another: refused)")


def test_a_path_that_comes_back_is_tested_on(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Relay):
        """Resets every connection from one on, until that is noticed."""

        away: ClassVar[list[bool]] = []

        def opened(self) -> None:
            if self.number == LAST:
                self.away.append(True)
            if self.away:
                self.reset()

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            """The campaign has found the path away, and looks again later."""
            time.sleep(seconds)
            Away.away.clear()

    monkeypatch.setattr("echoproto.probe.search.availability.time", Clock)
    with Path(Away) as path:
        result, notes = campaign(path, saved)
    assert result.failures == []
    assert result.held == result.wanted
    assert not any("passes alone" in note for note in notes)
    assert any("the path was gone for" in note and ", since E-" in note for note in notes)


def test_a_path_that_bears_few_connections_gets_a_line_and_a_smaller_window(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in catalogue() if case.parallel == 1][:60]
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: tuple(cases))
    with Path(named("at-most=6")) as path:
        result, notes = campaign(path, saved, Settings(examples=100, seed=3, parallel=6, window=30))
        assert result.failures == []
        result, notes = campaign(path, saved, Settings(examples=0, seed=3))
    assert result.failures == []
    assert result.exit_code == 0
    lines = [note for note in notes if "passes alone; holding fewer" in note]
    assert len(lines) <= 1


def test_what_fails_alone_does_not_hide_that_the_path_bears_few_connections(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in catalogue() if case.parallel == 1][:100]
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: tuple(cases))
    faults = named("close-at-fin"), named("latency=20ms"), named("at-most=6")
    with Path(*faults) as path:
        result, notes = campaign(path, saved, replace(SETTINGS, examples=0))
    assert [str(failure.session) for failure in result.failures] == ["send 00; fin"], notes
    assert result.held == result.wanted
    # Nothing that was only refused beside others was analysed.
    assert result.transients == 0
    assert any("passes alone; holding fewer" in note for note in notes)


def test_a_path_that_fails_now_and_then_bears_as_many_connections_as_any(
    saved: SavedFailures,
) -> None:
    settings = Settings(cases=("E-003", "E-005", "E-011", "E-018"), explain=False)
    with Path(named("nth-reset=2")) as path:
        result, notes = campaign(path, saved, settings)
    assert [str(failure.session) for failure in result.failures] == ["nothing"]
    assert not any("passes alone" in note for note in notes)


def test_a_fault_between_independent_sessions_is_shrunk_to_the_fewest(
    saved: SavedFailures,
) -> None:
    with Path(named("answers-copied")) as path:
        result, notes = campaign(path, saved)
    assert len(result.failures) == 1, notes
    (failure,) = result.failures
    assert failure.session == Session.parse("nothing | send 00")
    assert failure.reproduced == failure.runs
    assert result.counts[Phase.FUZZ] == 60
    assert result.window > 1


def test_this_machines_trouble_is_not_the_paths(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = itertools.chain([None], itertools.repeat("this machine is out of memory"))
    monkeypatch.setattr(
        "echoproto.probe.wire.machine.Machine.trouble", lambda machine: next(troubles)
    )

    class Resets(Relay):
        def client_sent(self, data: bytes) -> None:
            if b"\xff" in data:
                self.reset()
            else:
                self.to_echo(data)

    with Path(Resets) as path:
        result, _ = campaign(path, saved)
    assert result.error == "this machine is out of memory"
    assert result.failures == []
    assert result.exit_code == 2


def test_no_descriptor_left_is_said(saved: SavedFailures, monkeypatch: pytest.MonkeyPatch) -> None:
    new_socket = Connector.new_socket

    def few(connector: Connector, slow: bool = False) -> socket.socket:
        if connector.opened > 60:
            raise LocalError("no more sockets: Too many open files")
        return new_socket(connector, slow)

    monkeypatch.setattr(Connector, "new_socket", few)
    with Path() as path:
        result, _ = campaign(path, saved)
    assert result.error == "no more sockets: Too many open files"
    assert result.failures == []
    assert result.exit_code == 2


@pytest.mark.slow
def test_a_path_that_serves_one_connection_at_a_time_has_one_cause(
    saved: SavedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that are late have its place; nothing that waits for them accuses it of more."""
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", catalogue)
    settings = replace(SETTINGS, examples=30, patience=4)
    with Path(named("one-at-a-time")) as path:
        result, _ = campaign(path, saved, settings)
    found = {str(failure.session): failure.kind for failure in result.failures}
    assert found == {"nothing | fin": Fault.NEVER_CLOSED, "nothing | send 00": Fault.STALLED}
    assert [failure.remark for failure in result.failures] == ["", ""]
    assert result.counts[Phase.CATALOGUE] == len(catalogue())
    assert result.counts[Phase.FUZZ] == 30
