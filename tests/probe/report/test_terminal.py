from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from echoproto.probe.report.terminal import JsonLines, Observers, Terminal, write_junit
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Fault
from tests.probe.sample_result import CORRUPT, HOSTILE, MESSAGE, TARGET, sample_result


def tell(observer: Observer, result: CampaignResult) -> None:
    """What a campaign tells its observer, in short."""
    observer.phase(Phase.PREFLIGHT, None)
    observer.note("half-close survives")
    observer.phase(Phase.CATALOGUE, 3)
    for record in result.records:
        if record.phase is Phase.CATALOGUE:
            observer.record(record)
    observer.failure(result.failures[0])
    observer.phase(Phase.FUZZ, 1000)
    observer.record(result.records[-1])


def printed(result: CampaignResult, tty: bool = False) -> str:
    stream = io.StringIO()
    colours: Literal["standard"] | None = "standard" if tty else None
    console = Console(file=stream, force_terminal=tty, width=60, color_system=colours)
    with Terminal(console) as terminal:
        tell(terminal, result)
    terminal.summary(result)
    return stream.getvalue()


def test_piped_it_is_plain_lines_that_are_not_wrapped() -> None:
    text = printed(sample_result())
    assert "\x1b" not in text
    assert text.splitlines()[:6] == [
        "half-close survives",
        "preflight: done",
        "catalogue: 3 conversations to hold",
        "found: corrupt  send 00*4097",
        "catalogue: 3 held",
        "fuzz: 1000 conversations to hold",
    ]
    assert "  reproduced 5 of 5" in text.splitlines()
    assert "  reproduced 3 of 30: flaky, 10% of the runs" in text.splitlines()
    assert f"  replay:  {CORRUPT.replay}" in text.splitlines()
    assert f"  pin:     {CORRUPT.example}" in text.splitlines()
    assert "again:   echoproto fuzz 127.0.0.1:4007 --seed 7 --html report.html" in text
    assert text.splitlines()[-1] == "2 failures, 1 of them flaky"


def test_a_terminal_gets_colours_and_bars() -> None:
    text = printed(sample_result(), tty=True)
    assert "\x1b[1;31m" in text
    assert "━" in text
    assert "3/3" in text


def test_nothing_is_taken_for_markup() -> None:
    failure = replace(CORRUPT, found_by="[red]saved[/red]")
    text = printed(replace(sample_result(), failures=[failure]))
    assert "found by [red]saved[/red]" in text


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (sample_result(), "2 failures, 1 of them flaky"),
        (replace(sample_result(), interrupted=True), "2 failures, 1 of them flaky, interrupted"),
        (replace(sample_result(), failures=[]), "no failure"),
        (
            replace(sample_result(), failures=[], interrupted=True),
            "interrupted; no failure so far",
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


def test_json_lines_hold_every_session_and_end_with_the_sums() -> None:
    stream = io.StringIO()
    result = sample_result()
    lines = JsonLines(stream, result.target, result.settings)
    tell(lines, result)
    lines.end(result)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in told] == [
        "start", "phase", "note", "phase", "session", "session", "session", "failure",
        "phase", "session", "end",
    ]  # fmt: skip
    assert told[0]["settings"]["tokens"] == ["0d 0a", "ff"]
    assert told[0]["settings"]["exclude"] == ["refused"]
    assert told[5]["kind"] == "corrupt"
    assert told[5]["title"] == HOSTILE
    assert told[5]["script"] == "send 00*9000; await; send ff; fin"
    assert told[7]["script"] == "send 00*4097"
    assert told[7]["got"] == "00 00 00 00 00 00 00 00 01"
    assert told[-1]["failures"] == 2
    assert told[-1]["counts"]["fuzz"] == 1000
    assert told[-1]["kinds"]["cross-talk"] == 29
    assert told[-1]["preflight"]["half_close"] is True


def test_a_json_line_is_there_when_its_session_is_over(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with file.open("w") as stream:
        lines = JsonLines(stream, TARGET, Settings())
        lines.record(sample_result().records[0])
        assert len(file.read_text().splitlines()) == 2


def test_junit_counts_a_failure_for_each_case_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    write_junit(sample_result(), file)
    root = ET.parse(file).getroot()
    suite = root.find("testsuite")
    assert suite is not None
    # preflight, one saved, three of the catalogue, the one that fuzzing found
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "3", "0")
    failed = {
        case.get("name"): case.find("failure")
        for case in suite.iter("testcase")
        if case.find("failure") is not None
    }
    assert next(iter(failed)) == "3f9a1c"
    saved = failed["3f9a1c"]
    assert saved is not None
    assert saved.get("type") == "corrupt"
    assert saved.get("message") == MESSAGE
    assert saved.text is not None
    assert CORRUPT.replay in saved.text
    assert "E-003 refused, which is excluded" not in failed
    assert {p.get("name"): p.get("value") for p in suite.iter("property")}["seed"] == "7"


def test_junit_of_a_clean_and_of_an_untestable_run(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    records = [record for record in sample_result().records if record.kind is Fault.NONE]
    write_junit(replace(sample_result(), failures=[], records=records), file)
    suite = ET.parse(file).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "0")
    assert suite[-1].get("name") == "1000 conversations, seed 7"
    write_junit(CampaignResult(TARGET, Settings(), error="refused"), file)
    suite = ET.parse(file).getroot()[0]
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def test_observers_are_all_told_the_same() -> None:
    streams = [io.StringIO(), io.StringIO()]
    tell(Observers([JsonLines(s, TARGET, Settings()) for s in streams]), sample_result())
    assert streams[0].getvalue() == streams[1].getvalue()
    assert len(streams[0].getvalue().splitlines()) == 10
