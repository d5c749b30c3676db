from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
from rich.console import Console

from echoproto.probe.report.terminal import Terminal
from echoproto.probe.search.result import CampaignResult, CaseRecord, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Fault
from tests.probe.sample_result import CORRUPT, TARGET, sample_result, tell

PASSED = CaseRecord(Phase.FUZZ, "1", "", "send 00", Fault.NONE, "all bytes came back", 0.01, 1, 1)


def printed(result: CampaignResult, tty: bool = False) -> str:
    stream = io.StringIO()
    colours: Literal["standard"] | None = "standard" if tty else None
    console = Console(file=stream, force_terminal=tty, width=60, color_system=colours)
    with Terminal(console) as terminal:
        tell(terminal, result)
    terminal.summary(result)
    return stream.getvalue()


def test_a_pipe_gets_plain_lines_that_are_not_wrapped() -> None:
    text = printed(sample_result())
    assert "\x1b" not in text
    assert text.splitlines()[:6] == [
        "half-close survives",
        "preflight: done",
        "catalogue: running 3 conversations",
        "found: corrupt  send 00*4097",
        "catalogue: 3 done",
        "fuzz: running 1,000 conversations",
    ]
    assert "  reproduced in 5 of 5 runs" in text.splitlines()
    assert "  reproduced in 3 of 30 runs (flaky, 10%)" in text.splitlines()
    assert f"  replay:  {CORRUPT.replay}" in text.splitlines()
    assert f"  pin:     {CORRUPT.example}" in text.splitlines()
    assert "repeat:  echoproto fuzz 127.0.0.1:4007 --seed 7 --html report.html" in text
    assert text.splitlines()[-1] == "2 failures (1 flaky)"


def test_a_terminal_gets_colours_and_bars() -> None:
    text = printed(sample_result(), tty=True)
    assert "\x1b[1;31m" in text
    assert "━" in text
    assert "3/3" in text


def test_nothing_is_interpreted_as_markup() -> None:
    failure = replace(CORRUPT, found_by="[red]saved[/red]")
    text = printed(replace(sample_result(), failures=[failure]))
    assert "found by [red]saved[/red]" in text


class Clock:
    """A clock that stands still until it is told to go on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines_of(total: int | None, seconds: float, count: int, phase: Phase = Phase.FUZZ) -> list[str]:
    """What a pipe gets in a phase, up to its end, of ``count`` conversations of ``seconds``."""
    stream, clock = io.StringIO(), Clock()
    with Terminal(Console(file=stream, color_system=None), clock) as terminal:
        terminal.phase(phase, total)
        for _ in range(count):
            clock.now += seconds
            terminal.record(replace(PASSED, phase=phase))
        return stream.getvalue().splitlines()


def test_a_pipe_gets_a_line_every_ten_seconds() -> None:
    assert lines_of(1000, 0.125, 300) == [
        "fuzz: running 1,000 conversations",
        "fuzz: 80 of 1,000 conversations, 115 s left",
        "fuzz: 160 of 1,000 conversations, 105 s left",
        "fuzz: 240 of 1,000 conversations, 95 s left",
    ]


def test_a_phase_that_ends_before_gets_no_line() -> None:
    assert lines_of(120, 0.0625, 120) == ["fuzz: running 120 conversations"]
    # The tenth second is that of the last conversation: the line of the end comes next.
    assert lines_of(4, 2.5, 4) == ["fuzz: running 4 conversations"]


def test_a_phase_without_a_total_says_how_far_it_is() -> None:
    assert lines_of(None, 1, 25, Phase.SHRINK) == [
        "shrink: 10 conversations",
        "shrink: 20 conversations",
    ]


@pytest.mark.parametrize(
    ("total", "seconds", "left"),
    [
        (3, 10, ""),  # nothing is known of how long one takes
        (13, 10, "100 s left"),
        (200, 10, "33 min left"),
        (100_000, 10, "278 h left"),
    ],
)
def test_how_long_it_will_take(total: int, seconds: float, left: str) -> None:
    *_, last = lines_of(total, seconds, 3 if left else 1)
    assert last.endswith(f"conversations, {left}" if left else "conversations")


def test_the_time_left_is_that_of_the_last_conversations() -> None:
    stream, clock = io.StringIO(), Clock()
    with Terminal(Console(file=stream, color_system=None), clock) as terminal:
        terminal.phase(Phase.FUZZ, 1000)
        for seconds in [1.0] * 60 + [0.125] * 340:
            clock.now += seconds
            terminal.record(PASSED)
    # Older versions of rich end with an empty line.
    lines = stream.getvalue().strip().splitlines()
    assert lines[1] == "fuzz: 10 of 1,000 conversations, 17 min left"
    assert lines[-3] == "fuzz: 300 of 1,000 conversations, 88 s left"
    assert lines[-2] == "fuzz: 380 of 1,000 conversations, 78 s left"


def test_a_terminal_shows_the_time_left_and_whole_notes() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    note = "skipped E-091: more connections than --parallel allows; " * 5
    with Terminal(console, clock) as terminal:
        terminal.phase(Phase.FUZZ, 1000)
        for _ in range(100):
            clock.now += 0.125
            terminal.record(PASSED)
        terminal._progress.refresh()  # which rich does ten times in a second
        terminal.note(note)
    bar = [line for line in stream.getvalue().splitlines() if "100/1000" in line]
    assert any("113 s left" in line for line in bar)
    assert note.rstrip() in stream.getvalue()


@pytest.mark.parametrize("tty", [False, True])
def test_a_known_failure_does_not_end_the_fuzz_phase(tty: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=tty, color_system=None)
    with Terminal(console) as terminal:
        for left in range(100, 90, -1):
            terminal.phase(Phase.FUZZ, left)
            terminal.record(PASSED)
            terminal.phase(Phase.SHRINK, None)
            terminal.record(replace(PASSED, phase=Phase.SHRINK))
            if left == 94:
                terminal.failure(CORRUPT)
        tasks = [(task.description, task.completed) for task in terminal._progress.tasks]
    assert tasks == [("fuzz", 7), ("shrink", 1), ("fuzz", 3), ("shrink", 1)]
    if not tty:
        # Older versions of rich end with an empty line.
        assert list(filter(None, stream.getvalue().splitlines())) == [
            "fuzz: running 100 conversations",
            "fuzz: 7 done",
            "found: corrupt  send 00*4097",
            "shrink: 1 done",
            "fuzz: running 93 conversations",
            "fuzz: 3 done",
        ]


@pytest.mark.parametrize("tty", [False, True])
def test_a_preflight_that_fails_is_not_done(tty: bool) -> None:
    stream = io.StringIO()
    with Terminal(Console(file=stream, force_terminal=tty, color_system=None)) as terminal:
        terminal.phase(Phase.PREFLIGHT, None)
    terminal.summary(CampaignResult(TARGET, Settings(), error="connection refused"))
    text = stream.getvalue()
    assert "done" not in text
    assert "0/0" not in text
    assert text.splitlines()[-1] == "could not test: connection refused"


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (sample_result(), "2 failures (1 flaky)"),
        (replace(sample_result(), interrupted=True), "2 failures (1 flaky), interrupted"),
        (replace(sample_result(), failures=[]), "no failures"),
        (
            replace(sample_result(), failures=[], interrupted=True),
            "interrupted; no failures so far",
        ),
        (
            CampaignResult(TARGET, Settings(), error="connection refused"),
            "could not test: connection refused",
        ),
    ],
)
def test_the_last_line_says_how_it_ended(result: CampaignResult, line: str) -> None:
    stream = io.StringIO()
    Terminal(Console(file=stream, color_system=None)).summary(result)
    assert stream.getvalue().splitlines()[-1] == line


def test_a_failure_of_the_preflight_needs_no_conversation() -> None:
    result = replace(sample_result(), counts=Counter())
    assert "\n0 conversations\n" in printed(result)
