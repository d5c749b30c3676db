"""The table of cases and verdicts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence

from echoproto.probe.report.html.elements import tag
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.result import CampaignResult, CaseRecord, Phase
from echoproto.probe.wire.verdict import Fault

__all__ = ["matrix"]

#: Rows for the failing sessions of the fuzz phase; the others are only counted.
FUZZ_ROWS = 100


def matrix(result: CampaignResult) -> ET.Element:
    """Return the table: a row for each case, a column for each verdict."""
    head = tag("tr", tag("th", "case"))
    head.extend(
        tag("th", tag("span", str(kind)), cls="kind", scope="col", title=str(kind))
        for kind in Fault
    )
    head.append(tag("th", "conversation"))
    body = tag("tbody")
    listed = [r for r in result.records if r.phase in (Phase.SAVED, Phase.CATALOGUE)]
    fuzzed = [r for r in result.records if r.phase is Phase.FUZZ and r.kind is not Fault.NONE]
    body.extend(_record_row(record, result) for record in listed)
    if result.counts[Phase.FUZZ]:
        body.append(_fuzz_row(result.counts[Phase.FUZZ], fuzzed))
    body.extend(_record_row(record, result) for record in fuzzed[:FUZZ_ROWS])
    return tag("table", tag("thead", head), body, cls="matrix", id="matrix")


def _record_row(record: CaseRecord, result: CampaignResult) -> ET.Element:
    row = tag("tr", cls="passed" if record.kind is Fault.NONE else "failed")
    row.append(tag("th", record.name, scope="row", cls="number"))
    marks = {record.kind: "\N{CHECK MARK}" if record.kind is Fault.NONE else "\N{BALLOT X}"}
    row.extend(_cells(marks))
    script = tag("code", shorten(record.script, 160))
    case = tag("td", cls="case")
    case.append(tag("details", tag("summary", record.title), script) if record.title else script)
    if record.kind is not Fault.NONE:
        message = tag("div", f"{record.message} ")
        if record.explained_by is not None:
            number = record.explained_by + 1
            message.append(tag("a", f"failure {number}", href=f"#failure-{number}"))
        case.append(message)
    row.append(case)
    return row


def _fuzz_row(count: int, failing: Sequence[CaseRecord]) -> ET.Element:
    counts = Counter(record.kind for record in failing)
    counts[Fault.NONE] = count - len(failing)
    row = tag("tr", tag("th", "fuzz", scope="row", cls="number"), id="fuzz")
    row.extend(_cells({kind: f"{count}" for kind, count in counts.items() if count}))
    row.append(tag("td", f"{plural(count, 'conversation')} drawn", cls="case"))
    return row


def _cells(marks: dict[Fault, str]) -> Iterable[ET.Element]:
    for kind in Fault:
        if kind in marks:
            mark = tag("span", marks[kind], cls="hit", title=str(kind))
        else:
            mark = tag("span", cls="none")
        yield tag("td", mark, cls=f"cell kind-{kind}")
