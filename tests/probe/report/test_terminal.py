from __future__ import annotations

import io
from dataclasses import replace
from typing import Literal

import pytest
from rich.console import Console

from echoproto.probe.report.terminal import Terminal
from echoproto.probe.search.result import CampaignResult
from echoproto.probe.search.settings import Settings
from tests.probe.sample_result import CORRUPT, TARGET, sample_result, tell


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
        "fuzz: running 1000 conversations",
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
