"""Paths that crash and are started again, or die while a failure is looked at."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as File

import pytest

from echoproto.probe.relay.faults.death import RestartsOn
from echoproto.probe.relay.listen import bound_to, listen_at
from echoproto.probe.relay.server import Relay
from echoproto.probe.relay.stage import Place
from echoproto.probe.report.summary import failure_lines
from echoproto.probe.script.catalogue import Case
from echoproto.probe.script.conversation import Session
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.explain.suspects import CRASHES
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import named

SETTINGS = Settings(examples=20, seed=3, patience=1.5)

#: Of those that are under way together when a path dies, none can be told from the others.
SINGLY = replace(SETTINGS, window=1)

DIES = b"dies"
FOR_EVER = 3_600_000  # milliseconds


@pytest.fixture
def saved(tmp_path: File) -> SavedFailures:
    return SavedFailures(tmp_path)


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other; the third and the fifth contain FF."""
    scripts = [
        "send 00; await",
        "send 61",
        "send 0d ff 0a",
        f"send {DIES.hex(' ')}",
        "send ff",
        "fin",
    ]
    catalogue = tuple(
        Case(f"E-{number:03}", "a case", "", Session.parse(script))
        for number, script in enumerate(scripts, 1)
    )
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: catalogue)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that does not come back is not waited for as long as one that may."""
    monkeypatch.setattr("echoproto.probe.search.availability._REVIVAL_SECONDS", 0.1)


def run(
    path: Path,
    saved: SavedFailures,
    settings: Settings = SETTINGS,
    observer: Observer | None = None,
) -> CampaignResult:
    return Campaign(Target.parse(f"127.0.0.1:{path.port}"), settings, observer, saved).run()


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.usefixtures("small_catalogue")
def test_a_server_that_crashes_and_is_restarted(saved: SavedFailures) -> None:
    with Path(named("restart-on=ff,50ms")) as path:
        for found_by in ("E-", str(Session.parse("send ff"))):
            result = run(path, saved)
            (failure,) = result.failures
            assert str(failure.session) == "send ff"
            assert failure.kind is Fault.RESET
            assert failure.explanation is not None
            assert failure.explanation.bytes_ == (b"\xff",)
            assert failure.explanation.suspects == (CRASHES,)
            assert failure.away > 0
            assert "; after it the path was away for up to " in "".join(failure_lines(failure))
            # Everything was held, though the path was away.
            assert result.held == result.wanted
            assert result.exit_code == 1
            # The second time, the saved one shows it first.
            assert failure.found_by.startswith("E-") == (found_by == "E-")


@contextlib.contextmanager
def listening(place: str, fault: str) -> Iterator[Target]:
    """A path at a place of any kind, with an echo behind it."""
    listener = listen_at(place)
    with Relay(listener, [named(fault)]):
        yield Target.parse(bound_to(listener))


@pytest.mark.slow
@pytest.mark.usefixtures("cases")
@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix:{}/s"])
def test_everything_is_held_on_a_path_that_is_restarted(
    place: str, saved: SavedFailures, tmp_path: File
) -> None:
    with listening(place.format(tmp_path), "restart-on=ff,20ms") as target:
        result = Campaign(target, replace(SETTINGS, explain=False), saved=saved).run()
    assert [str(failure.session) for failure in result.failures] == ["send ff"]
    assert result.failures[0].away > 0
    assert result.held == result.wanted
    assert result.left_out == []


@pytest.mark.usefixtures("impatient")
def test_a_path_whose_connections_fail_at_once_is_not_tried_on(
    saved: SavedFailures, tmp_path: File
) -> None:
    """A connection to a missing socket file fails as it begins."""
    with listening(f"unix:{tmp_path}/s", "restart-on=ff,1000s") as target:
        result = Campaign(target, SINGLY, saved=saved).run()
    (failure,) = result.failures
    assert failure.remark.startswith("nothing has worked since E-006")
    assert result.kinds[Fault.REFUSED] <= 3


class Limited(RestartsOn):
    """Is started again so many times only, as systemd does (``StartLimitBurst=``)."""

    left = 4

    def __init__(self, place: Place) -> None:
        super().__init__(place, b"\xff", 50)

    def client_sent(self, data: bytes) -> None:
        if b"\xff" in data:
            type(self).left -= 1
        self.ms = 50 if self.left > 0 else FOR_EVER
        super().client_sent(data)


@pytest.mark.slow
@pytest.mark.usefixtures("cases")
@pytest.mark.parametrize("crashes", [1, 2, 3, 5, 8])
def test_a_server_that_is_not_restarted_any_more(crashes: int, saved: SavedFailures) -> None:
    class Server(Limited):
        left = crashes

    with Path(Server) as path:
        result = run(path, saved, SINGLY)
    (failure,) = result.failures
    assert failure.kind is Fault.RESET
    assert b"\xff" in failure.session.conversations[-1].payload
    assert failure.remark.startswith("nothing has worked since ")
    assert failure.explanation is None
    assert result.exit_code == 1
    # Whatever failed is explained by it.
    failed = [record for record in result.records if record.kind is not Fault.NONE]
    assert {record.explained_by for record in failed} == {0}
    assert result.left_out == []


class Begins(Observer):
    """Knows when a failure is looked at."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def phase(self, phase: Phase, total: int | None) -> None:
        if phase is Phase.SHRINK:
            self.begun.set()


def dying(runs: int, changed: bytes, saved: SavedFailures) -> CampaignResult:
    """The result on a path that changes FF, and dies so long after the first experiment."""
    begins = Begins()

    class Server(RestartsOn):
        left = runs

        def __init__(self, place: Place) -> None:
            super().__init__(place, b"\xff", FOR_EVER)

        def client_sent(self, data: bytes) -> None:
            type(self).left -= begins.begun.is_set()
            super().client_sent(b"\xff" if self.left < 0 else data.replace(b"\xff", changed))

    with Path(Server) as path:
        return run(path, saved, SINGLY, begins)


@pytest.mark.usefixtures("cases", "impatient")
@pytest.mark.parametrize("runs", [50, 60])
def test_a_path_that_dies_while_a_failure_is_explained(runs: int, saved: SavedFailures) -> None:
    (failure,) = dying(runs, b"", saved).failures
    assert (failure.kind, str(failure.session)) == (Fault.TRUNCATED, "send ff")
    assert failure.reproduced == failure.runs > 1
    assert failure.explanation is None
    assert failure.remark.startswith("nothing has worked since an experiment (")


@pytest.mark.usefixtures("cases", "impatient")
@pytest.mark.parametrize("runs", [1, 2, 5, 15, 40])
@pytest.mark.parametrize(("changed", "kind"), [(b"\xfe", Fault.CORRUPT), (b"", Fault.TRUNCATED)])
def test_a_path_that_dies_while_a_failure_is_looked_at(
    changed: bytes, kind: Fault, runs: int, saved: SavedFailures
) -> None:
    result = dying(runs, changed, saved)
    told = [failure for failure in result.failures if not failure.remark]
    (end,) = (failure for failure in result.failures if failure.remark)
    assert re.fullmatch(
        r"nothing has worked since an experiment \(.*: reset\), connection \d+", end.remark
    )
    assert end.explanation is None
    # What was wrong is told as well, and not as what the end of the path looks like.
    assert told
    assert {failure.kind for failure in told} <= {Fault.CORRUPT, kind}
    assert all(b"\xff" in failure.session.conversations[0].payload for failure in told)
    scripts = [str(failure.session) for failure in told]
    assert len(set(scripts)) == len(scripts)
    assert told[0].reproduced == told[0].runs
    failed = [record for record in result.records if record.kind is not Fault.NONE]
    assert None not in {record.explained_by for record in failed}
    assert result.exit_code == 1


@pytest.mark.usefixtures("cases", "impatient")
def test_what_failed_before_a_path_died_is_told(saved: SavedFailures) -> None:
    class Server(RestartsOn):
        """Changes one byte, and dies at another, for ever."""

        def __init__(self, place: Place) -> None:
            super().__init__(place, DIES, FOR_EVER)

        def client_sent(self, data: bytes) -> None:
            super().client_sent(data.replace(b"\xff", b"\xfe"))

    with Path(Server) as path:
        result = run(path, saved, SINGLY)
    wrong, end = result.failures
    assert (wrong.kind, str(wrong.session)) == (Fault.CORRUPT, "send 0d ff 0a")
    assert (end.kind, str(end.session)) == (Fault.RESET, f"send {DIES.hex(' ')}")
    assert end.remark.startswith("nothing has worked since E-004")


def with_saved(path: Path, saved: SavedFailures, *scripts: str) -> CampaignResult:
    for script in scripts:
        saved.save(Session.parse(script), [], f"127.0.0.1:{path.port}")
    return run(path, saved)


@pytest.mark.usefixtures("cases", "impatient")
@pytest.mark.parametrize("others", [(), ("send 61 61",), ("send ff ff",)])
def test_a_saved_failure_that_kills_the_path_is_the_one(
    others: tuple[str, ...], saved: SavedFailures
) -> None:
    class Server(RestartsOn):
        def __init__(self, place: Place) -> None:
            super().__init__(place, b"\xff", FOR_EVER)

    with Path(Server) as path:
        result = with_saved(path, saved, "send ff", *others)
    (failure,) = result.failures
    script = str(failure.session)
    assert failure.kind is Fault.RESET
    assert script in ("send ff", "send ff ff")
    assert failure.remark.startswith(f"nothing has worked since an experiment ({script}: reset)")
    assert result.exit_code == 1


@pytest.mark.usefixtures("cases", "impatient")
@pytest.mark.parametrize("fault", ["reset-from=25", "mute-from=25", "dies-at=25"])
def test_a_saved_failure_on_a_path_that_is_used_up(fault: str, saved: SavedFailures) -> None:
    """None of the others is accused as well."""
    with Path(named(fault)) as path:
        result = with_saved(path, saved, "send 00 00", "send ff", "send 61 61")
    (failure,) = result.failures
    assert failure.remark.startswith("nothing has worked since an experiment (")
    assert failure.remark.endswith(", connection 25")
    if fault != "dies-at=25":
        assert failure.explanation is not None
        assert failure.explanation.after_connections == 24
