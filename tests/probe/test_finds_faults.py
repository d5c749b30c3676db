"""The probe finds each faulty path, with several seeds, and shrinks it to the shortest.

The whole sweep is slow. A few faults are found in every run of the tests.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import Send, Session
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import Failure
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import FAULTS, NOT_AN_ECHO, FaultyPath, Path

SEEDS = range(5)
CONVERSATIONS = 1000

#: Found in every run: of most kinds, one that is quick.
QUICK = (
    "iac-swallowed",
    "utf-8-replaced",
    "flipped-at-4095",
    "trailer",
    "answers-copied",
    "iac-one-in-2",
)


def size(session: Session) -> tuple[int, int]:
    """The length of a session: steps, then bytes."""
    steps = [step for conversation in session.conversations for step in conversation.steps]
    return len(steps), sum(len(step.payload) for step in steps if isinstance(step, Send))


def shows(fault: FaultyPath, failure: Failure) -> bool:
    """Whether the failure names the fault, with a session as short as possible."""
    as_short = size(failure.session) <= size(Session.parse(fault.shortest))
    return as_short and failure.reproduced > 0 and str(failure.kind) in fault.verdicts


class UntilFound(Observer):
    """Interrupts a campaign once it has found the fault and shrunk it."""

    def __init__(self, fault: FaultyPath) -> None:
        self._fault: FaultyPath | None = fault

    def failure(self, failure: Failure) -> None:
        if self._fault is not None and shows(self._fault, failure):
            self._fault = None
            raise KeyboardInterrupt


def find(fault: FaultyPath, folder: File, seed: int) -> Failure:
    """Return the first failure that shows the fault, from a campaign without saved failures.

    Within ``CONVERSATIONS``, those of the catalogue included.
    """
    examples = CONVERSATIONS - len(catalogue())
    with Path(fault.relay) as path:
        result = Campaign(
            Target.parse(f"127.0.0.1:{path.port}"),
            Settings(examples=examples, seed=seed),
            UntilFound(fault),
            SavedFailures(folder / str(seed)),
        ).run()
    assert result.error is None
    assert result.failures, "not found"
    found = [failure for failure in result.failures if shows(fault, failure)]
    assert found, [(str(failure.session), str(failure.kind)) for failure in result.failures]
    return found[0]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in QUICK], ids=str)
def test_a_fault_is_found_and_shrunk(fault: FaultyPath, tmp_path: File) -> None:
    find(fault, tmp_path, seed=0)


@pytest.mark.parametrize("name", ["greeting", "flood", "dead"])
def test_a_target_that_is_not_an_echo_is_reported(name: str, tmp_path: File) -> None:
    words = {"greeting": "banner, '220 ready'", "flood": "floods", "dead": "reset the connection"}
    with Path(NOT_AN_ECHO[name]) as path:
        target = Target.parse(f"127.0.0.1:{path.port}")
        result = Campaign(target, Settings(), saved=SavedFailures(tmp_path)).run()
    assert result.error is not None
    assert words[name] in result.error
    assert result.exit_code == 2


@pytest.fixture(scope="module")
def shrink_seconds() -> Iterator[list[float]]:
    """Seconds from the first occurrence of each fault to its shortest conversation."""
    seconds: list[float] = []
    yield seconds
    print(f"\nmedian of {len(seconds)}: {statistics.median(seconds):.2f} s to the shrunk failure")
    assert statistics.median(seconds) < 5


@pytest.fixture(scope="module")
def missed() -> Iterator[list[str]]:
    """The faults that were not found at once: at most three."""
    names: list[str] = []
    yield names
    print(f"\nnot found, or not as short, at the first try: {names or 'none'}")
    assert len(names) <= 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_fault_is_found_and_shrunk_with_each_seed(
    fault: FaultyPath, tmp_path: File, shrink_seconds: list[float], missed: list[str]
) -> None:
    for seed in SEEDS:
        # Where a fault depends on a time or on the size of a kernel's buffer, load can
        # hide it or make its conversation longer; but not every time.
        for attempts_left in (2, 1, 0):
            try:
                found = find(fault, tmp_path / str(attempts_left), seed)
                break
            except AssertionError:
                if not attempts_left or fault.kind not in ("timing", "flaky"):
                    raise
                missed.append(f"{fault.name}, seed {seed}")
        shrink_seconds.append(found.seconds)
        if found.found_by != "fuzz":
            # The catalogue runs before anything is drawn, so the seed does not matter.
            return
