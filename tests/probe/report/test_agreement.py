"""The terminal, the JSON lines, the JUnit file and the page tell the same of one campaign."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import pytest

from echoproto.probe.cli.main import main
from tests.probe.faulty_paths import FAULTS, FaultyPath, Path
from tests.probe.report.test_html import Page

#: One that the catalogue finds, one of several conversations, one of two failures, a flaky one.
NAMES = ("iac-swallowed", "trailer", "answers-copied", "iac-one-in-2")


@dataclass
class Told:
    """What one report says.

    :param failures: kind, shortest conversation and replay line of each, in order.
    :param result: the last line.
    :param counts: conversations, by phase.
    :param verdicts: conversations, by verdict.
    """

    failures: list[tuple[str, str, str]]
    result: str
    counts: str
    verdicts: str


def terminal(text: str) -> Told:
    found = re.findall(r"^Failure \d+: (\S+)\n  (.*)$", text, re.MULTILINE)
    replays = re.findall(r"^  replay:  (.*)$", text, re.MULTILINE)
    counts = re.search(r"^\d+ conversations? \(.*$", text, re.MULTILINE)
    verdicts = re.search(r"^verdicts: (.*)$", text, re.MULTILINE)
    assert counts is not None
    assert verdicts is not None
    failures = [(*each, replay) for each, replay in zip(found, replays, strict=True)]
    return Told(failures, text.splitlines()[-1], counts[0], verdicts[1])


def json_lines(lines: list[dict[str, Any]]) -> Told:
    found = [line for line in lines if line["event"] == "failure"]
    end = lines[-1]
    assert end["failures"] == len(found)
    assert [line["number"] for line in found] == [*range(1, len(found) + 1)]
    sessions = [line for line in lines if line["event"] == "session"]
    assert sum(end["counts"].values()) == len(sessions)
    phases = ", ".join(f"{phase} {count}" for phase, count in end["counts"].items())
    kinds = {"ok": 0, **end["kinds"]}
    ordered = {"ok": kinds.pop("ok"), **kinds}
    return Told(
        [(line["kind"], line["script"], line["replay"]) for line in found],
        end["result"],
        f"{len(sessions)} conversations ({phases})",
        ", ".join(f"{kind} {count}" for kind, count in ordered.items()),
    )


def junit(file: File, numbers: dict[str, int]) -> Told:
    """Read the JUnit file; ``numbers`` are those of the failures, by replay line."""
    suite = ET.parse(file).getroot()[0]
    properties = {p.get("name"): p.get("value", "") for p in suite.iter("property")}
    told = {}
    for failure in suite.iter("failure"):
        text = failure.text or ""
        (replay,) = re.findall(r"^replay:  (.*)$", text, re.MULTILINE)
        (shortest,) = re.findall(r"^shortest: (.*)$", text, re.MULTILINE)
        kind = text[text.index("shortest: ") :].splitlines()[1].partition(":")[0]
        told[numbers[replay]] = (kind, shortest, replay)
    assert properties["failures"] == str(len(told))
    return Told(
        [told[number] for number in sorted(told)],
        properties["result"],
        properties["counts"],
        properties["verdicts"],
    )


def page(text: str) -> Told:
    read = Page(text)
    pairs = dict(zip(read.texts["dt"], read.texts["dd"], strict=True))
    classes = [a.get("class") or "" for tag, a in read.tags if tag == "article"]
    kinds = [re.findall(r"kind-(\S+)", each)[0] for each in classes]
    # The command that repeats the campaign; then three for each failure.
    _, *blocks = read.texts["pre"]
    result = re.search(r'id="result"[^>]*>([^<]*)<', text)
    assert result is not None
    return Told(
        list(zip(kinds, blocks[::3], blocks[1::3], strict=True)),
        result[1][:1].lower() + result[1][1:],
        pairs["counts"],
        pairs["verdicts"],
    )


@pytest.mark.usefixtures("small_catalogue")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, marks=pytest.mark.slow) if f.name.startswith("iac") else f
        for f in FAULTS
        if f.name in NAMES
    ],
    ids=str,
)
def test_the_reports_agree(
    fault: FaultyPath,
    tmp_path: File,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path(fault.relay) as path:
        options = "-n 100 --seed 1 --retries 20 --patience 0.7"
        options += " --html r.html --junit r.xml --jsonl r.jsonl"
        code = main(["fuzz", f"127.0.0.1:{path.port}", *options.split()])
    assert code == 1
    text = capsys.readouterr().out
    shown = terminal(text)
    assert shown.failures
    lines = [json.loads(line) for line in File("r.jsonl").read_text().splitlines()]
    assert json_lines(lines) == shown
    html = File("r.html").read_text()
    assert page(html) == shown
    numbers = {replay: number for number, (_, _, replay) in enumerate(shown.failures, 1)}
    assert junit(File("r.xml"), numbers) == shown
    # Each failing session of the phases is explained by one of these failures.
    explained = [line for line in lines if line["event"] == "explained"]
    by = [line["explained_by"] for line in explained]
    assert {*by} - {None} == set(numbers.values())
    # None explains what never came again, and that is said.
    assert by.count(None) == lines[-1]["not_again"]
    failing = [
        line for line in lines
        if line["event"] == "session" and line["kind"] != "ok" and line["phase"] != "shrink"
    ]  # fmt: skip
    assert len(explained) == len(failing)
    for told in (text, html, File("r.xml").read_text()):
        assert not re.search(r"(?<![\w.])1 (bytes|runs|failures|conversations|stalls)\b", told)
