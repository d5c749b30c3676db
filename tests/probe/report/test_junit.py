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
    write_junit(sample_result(), file)
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
