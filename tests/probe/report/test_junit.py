from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from echoproto.probe.report.junit import write_junit
from echoproto.probe.search.result import CampaignResult
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Fault
from tests.probe.sample_result import CORRUPT, MESSAGE, TARGET, sample_result


def test_junit_counts_a_failure_for_each_case_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    sample = sample_result()
    write_junit(sample, file)
    root = ET.parse(file).getroot()
    suite = root.find("testsuite")
    assert suite is not None
    # preflight, one saved, three of the catalogue, one found by fuzzing
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
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties["seed"] == "7"
    assert properties["result"] == "2 failures (1 flaky)"
    assert properties["target"] == " ".join(TARGET)
    assert suite.get("timestamp") == sample.started.isoformat(timespec="seconds")
    assert suite.get("skipped") == "0"


def test_what_no_failure_explains_is_skipped(tmp_path: Path) -> None:
    """Such as a stall that did not recur, which leaves the exit code at 0."""
    sample = sample_result()
    stalled = replace(sample.records[1], kind=Fault.STALLED, message="nothing moved")
    result = replace(sample, failures=[], records=[stalled])
    assert result.exit_code == 0
    file = tmp_path / "junit.xml"
    write_junit(result, file)
    suite = ET.parse(file).getroot()[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    (skipped,) = suite.iter("skipped")
    assert "nothing moved" in skipped.get("message", "")


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
