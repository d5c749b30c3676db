"""Writes the result of a campaign as JUnit XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from echoproto.probe.report.describe import one_line
from echoproto.probe.report.summary import (
    counts_text,
    failure_lines,
    made_by,
    started_text,
    verdict_line,
    verdicts_text,
)
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.wire.verdict import Fault

__all__ = ["write_junit"]


def write_junit(result: CampaignResult, file: Path) -> None:
    """Write the XML that CI systems read.

    It has a test case for each case of the catalogue, each saved failure, and each failure
    that the fuzz phase found. The properties are those that the other reports show too.

    Args:
        result: what the campaign found.
        file: to write to.

    Raises:
        OSError: if it cannot be written.
    """
    cases = [_preflight_case(result)]
    cases += [_case(record, result) for record in result.records if record.phase in _LISTED]
    fuzzed = result.counts[Phase.FUZZ]
    if fuzzed:
        shown = [f for f in result.failures if f.found_by == "fuzz"]
        cases += [_fuzz_case(failure) for failure in shown]
        if not shown:
            name = f"{plural(fuzzed, 'conversation')}, seed {result.settings.seed}"
            cases.append(ET.Element("testcase", classname=_class(Phase.FUZZ), name=name))
    counts = Counter(child.tag for case in cases for child in case)
    totals = {
        "name": "echoproto",
        "tests": str(len(cases)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]),
        "time": f"{result.seconds:.3f}",
        "timestamp": started_text(result),
    }
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", totals)
    suite.append(_properties(result))
    suite.extend(cases)
    ET.indent(suites)
    ET.ElementTree(suites).write(file, encoding="utf-8", xml_declaration=True)


_LISTED = (Phase.SAVED, Phase.CATALOGUE)


def _properties(result: CampaignResult) -> ET.Element:
    properties = ET.Element("properties")
    for name, value in (
        ("version", made_by()),
        ("target", " ".join(result.target)),
        ("result", verdict_line(result)[0]),
        ("failures", str(len(result.failures))),
        ("counts", counts_text(result)),
        ("verdicts", verdicts_text(result)),
        ("seed", str(result.settings.seed)),
        ("command", result.command),
    ):
        ET.SubElement(properties, "property", name=name, value=one_line(value))
    return properties


def _class(phase: Phase) -> str:
    return f"echoproto.{str(phase).replace(' ', '_')}"


def _preflight_case(result: CampaignResult) -> ET.Element:
    name = " ".join(result.target)
    case = ET.Element("testcase", classname=_class(Phase.PREFLIGHT), name=one_line(name))
    if result.error is not None:
        ET.SubElement(case, "error", type="preflight", message=one_line(result.error))
    return case


def _case(record: CaseRecord, result: CampaignResult) -> ET.Element:
    name = f"{record.name} {record.title}".strip()
    case = ET.Element(
        "testcase",
        classname=_class(record.phase),
        name=one_line(name),
        time=f"{record.seconds:.3f}",
    )
    if record.explained_by is not None:
        failure = result.failures[record.explained_by]
        lines = [f"conversation: {record.script}", record.message, "", *_block(failure)]
        _add_failure(case, record.kind, _message(record.message, failure), lines)
    elif record.kind is not Fault.NONE and record.kind not in result.settings.exclude:
        # It is none of the failures that the other reports count.
        reason = f"did not recur, is known, or was not analysed: {record.message}"
        ET.SubElement(case, "skipped", message=one_line(reason))
    return case


def _fuzz_case(failure: Failure) -> ET.Element:
    case = ET.Element(
        "testcase", classname=_class(Phase.FUZZ), name=one_line(shorten(str(failure.session)))
    )
    message = _message(failure.outcome.verdict.message, failure)
    _add_failure(case, failure.kind, message, _block(failure))
    return case


def _message(message: str, failure: Failure) -> str:
    """Return the sentence of a verdict, with what the path does if that is known."""
    if failure.explanation is None:
        return message
    return f"{message}; the path {failure.explanation.text}"


def _add_failure(case: ET.Element, kind: Fault, message: str, lines: list[str]) -> None:
    element = ET.SubElement(case, "failure", type=str(kind), message=one_line(message))
    element.text = "\n".join(map(one_line, lines))


def _block(failure: Failure) -> list[str]:
    return [f"shortest: {failure.session}", *failure_lines(failure)]
