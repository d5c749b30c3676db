"""An explanation in each of the reports."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from echoproto.probe.report.html.page import html_page
from echoproto.probe.report.json_lines import JsonLines
from echoproto.probe.report.junit import write_junit
from echoproto.probe.report.summary import failure_lines
from echoproto.probe.search.explain.explanation import (
    Effect,
    Explanation,
    Need,
    Size,
    Suspect,
    Unit,
)
from echoproto.probe.search.result import CampaignResult, Failure
from tests.probe.sample_result import CORRUPT, HOSTILE, MESSAGE, sample_result

EXPLANATION = Explanation(
    text="deletes 11 and 13, anywhere in the stream",
    effect=Effect.DELETED,
    bytes_=(b"\x11", b"\x13"),
    becomes=((b"\x11", b""), (b"\x13", b"")),
    size=Size(Unit.WRITE, least=4097),
    position=4096,
    needs=(Need.FIN,),
    rate=(5, 5),
    suspects=(Suspect("flow control", "stty -ixon", "termios(3)"), Suspect(HOSTILE)),
    conversations=12,
    sizes_tried=((4096, False), (4097, True), (8194, True)),
)
FAILURE = replace(CORRUPT, explanation=EXPLANATION)


@pytest.fixture
def result() -> CampaignResult:
    made = sample_result()
    made.failures[0] = FAILURE
    return made


def in_json(failure: Failure) -> dict[str, object]:
    stream = io.StringIO()
    JsonLines(stream).failure(failure)
    line: dict[str, object] = json.loads(stream.getvalue())
    return line


def test_json_has_what_is_known_and_nothing_else() -> None:
    assert in_json(FAILURE)["explanation"] == {
        "text": "deletes 11 and 13, anywhere in the stream",
        "effect": "deleted",
        "bytes": ["11", "13"],
        "becomes": {"11": "", "13": ""},
        "size": {"unit": "write", "least": 4097},
        "position": {"offset": 4096},
        "needs": ["fin"],
        "rate": [5, 5],
        "suspects": [
            {"what": "flow control", "remedy": "stty -ixon", "source": "termios(3)"},
            {"what": HOSTILE},
        ],
        "conversations": 12,
    }
    assert "explanation" not in in_json(CORRUPT)


def test_the_line_stands_under_the_verdict() -> None:
    lines = failure_lines(FAILURE)
    assert lines[0] == f"corrupt: {MESSAGE}"
    assert lines[1] == "the path deletes 11 and 13, anywhere in the stream"
    assert lines[2] == "  typical of flow control; remedy: stty -ixon"
    assert [*lines[:1], *lines[4:]] == failure_lines(CORRUPT)


def test_junit_has_it_in_the_message(result: CampaignResult, tmp_path: Path) -> None:
    write_junit(result, tmp_path / "junit.xml")
    messages = [f.get("message", "") for f in ET.parse(tmp_path / "junit.xml").iter("failure")]
    assert f"{MESSAGE}; the path {EXPLANATION.text}" in messages


def test_the_page_maps_the_bytes_and_plots_the_sizes(result: CampaignResult) -> None:
    page = html_page(result)
    root = ET.fromstring(page[page.index("<table class=\"bytemap\">") :].partition("</table>")[0]
                         + "</table>")  # fmt: skip
    assert len(list(root.iter("td"))) == 256
    assert [mark.text for mark in root.iter("mark")] == ["11", "13"]
    assert page.count('class="fails"') == 2
    assert page.count('class="passes"') == 1
    assert "<script>" not in page


def test_that_too_little_was_found_out_is_said_everywhere(
    result: CampaignResult, tmp_path: Path
) -> None:
    text = "not explained: 10.0 s of experiments did not tell what about it matters"
    failure = replace(CORRUPT, not_explained=text)
    result.failures[0] = failure
    assert in_json(failure)["not_explained"] == text
    assert failure_lines(failure)[1] == text
    assert f"{text.capitalize()}." in html_page(result)
    write_junit(result, tmp_path / "junit.xml")
    assert text in (tmp_path / "junit.xml").read_text()
    assert "not_explained" not in in_json(CORRUPT) | in_json(FAILURE)
    assert "not explained" not in " ".join(failure_lines(CORRUPT))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"away": 0.52},
            "reproduced in 10 of 10 runs; after it the path was away for up to 0.5 s, then it "
            "worked again",
        ),
        ({"remark": "nothing has worked since E-001"}, "nothing has worked since E-001"),
    ],
)
def test_what_became_of_the_path_is_said_everywhere(
    changes: dict[str, Any], text: str, result: CampaignResult, tmp_path: Path
) -> None:
    failure = replace(CORRUPT, reproduced=10, runs=10, **changes)
    result.failures[0] = failure
    assert in_json(failure)["away"] == failure.away
    assert in_json(failure)["remark"] == failure.remark
    assert text in failure_lines(failure)
    assert f"{text[:1].upper()}{text[1:]}; found by " in html_page(result)
    write_junit(result, tmp_path / "junit.xml")
    assert text in (tmp_path / "junit.xml").read_text()
