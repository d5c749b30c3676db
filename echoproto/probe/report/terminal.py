"""Tells what a campaign does and found: on the terminal, as JSON lines, as JUnit XML.

The HTML page is in :mod:`echoproto.probe.report.html`, the words in
:mod:`echoproto.probe.report.describe`.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from echoproto.probe.report.describe import describe, one_line, plural, shorten
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Fault

__all__ = ["JsonLines", "Observers", "Terminal", "write_junit"]


class Observers(Observer):
    """Tells several observers the same, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def phase(self, phase: Phase, total: int | None) -> None:
        for observer in self._observers:
            observer.phase(phase, total)

    def record(self, record: CaseRecord) -> None:
        for observer in self._observers:
            observer.record(record)

    def failure(self, failure: Failure) -> None:
        for observer in self._observers:
            observer.failure(failure)

    def note(self, text: str) -> None:
        for observer in self._observers:
            observer.note(text)


class Terminal(Observer):
    """Colours and a bar for each phase on a terminal, a line for each phase elsewhere.

    Used as a context manager, so that an interrupted campaign leaves no bar behind.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[found]}", style="red"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._phase: Phase | None = None
        self._done = 0
        self._found = 0

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_phase()
        self._progress.stop()

    def phase(self, phase: Phase, total: int | None) -> None:
        self._end_phase()
        self._phase, self._done = phase, 0
        self._task = self._progress.add_task(str(phase), total=total, found="")
        if not self._console.is_terminal and total:
            self.line(f"{phase}: {plural(total, 'conversation')} to hold")

    def record(self, record: CaseRecord) -> None:
        self._done += 1
        if self._task is not None:
            self._progress.advance(self._task)

    def failure(self, failure: Failure) -> None:
        self._found += 1
        self.line(f"found: {failure.kind}  {shorten(str(failure.session))}", style="red")
        if self._task is not None:
            self._progress.update(self._task, found=f"{plural(self._found, 'failure')}")

    def note(self, text: str) -> None:
        self.line(text)

    def line(self, text: str, style: str = "") -> None:
        """Print one line as it is: nothing in it is markup, and it is not wrapped."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def summary(self, result: CampaignResult) -> None:
        """Print a block for each failure, then the counts."""
        for number, failure in enumerate(result.failures, 1):
            self.line("")
            self._failure(number, failure)
        self.line("")
        for text, style in summary_lines(result):
            self.line(text, style)

    def _failure(self, number: int, failure: Failure) -> None:
        self.line(f"Failure {number}: {failure.kind}", "bold red")
        self.line(f"  {failure.session}", "bold")
        for text in failure_lines(failure):
            marked = text.strip() != "" and not text.strip("^ ")
            self.line(f"  {text}".rstrip(), "red" if marked else "")

    def _end_phase(self) -> None:
        if self._task is not None:
            # A phase that did not know its total, or stopped early, is done all the same.
            self._progress.update(self._task, total=self._done, completed=self._done)
            self._progress.stop_task(self._task)
        if self._phase is not None and not self._console.is_terminal:
            self.line(f"{self._phase}: {f'{self._done} held' if self._done else 'done'}")
        self._phase = None


def failure_lines(failure: Failure) -> list[str]:
    """What is said of one failure, below its conversation."""
    lines = describe(failure.outcome)
    reproduced = f"reproduced {failure.reproduced} of {failure.runs}"
    if failure.flaky:
        reproduced += f": flaky, {failure.reproduced / failure.runs:.0%} of the runs"
    lines += ["", reproduced]
    if failure.found != failure.session:
        lines.append(
            f"found by {failure.found_by}, shrunk in {plural(failure.shrink_runs, 'run')} "
            f"and {failure.seconds:.2f} s from {shorten(str(failure.found), 60)}"
        )
    else:
        lines.append(f"found by {failure.found_by}")
    if failure.id is not None:
        lines.append(f"saved as {failure.id}")
    lines += [f"replay:  {failure.replay}", f"pin:     {failure.example}"]
    return [one_line(line) for line in lines]


def summary_lines(result: CampaignResult) -> list[tuple[str, str]]:
    """The last lines of a campaign, each with its style."""
    if result.error is not None:
        return [(f"could not test: {one_line(result.error)}", "bold red")]
    phases = ", ".join(f"{phase} {count}" for phase, count in result.counts.items() if count)
    lines = [(f"{sum(result.counts.values())} conversations ({phases})", "")]
    faults = [f"{kind} {count}" for kind, count in result.kinds.items() if kind is not Fault.NONE]
    if faults:
        lines.append((f"verdicts: ok {result.kinds[Fault.NONE]}, {', '.join(faults)}", ""))
    if result.transients:
        pauses = plural(result.transients, "pause")
        lines.append((f"{pauses} that did not come again: not counted as failures", ""))
    if result.passing:
        lines.append((f"saved failures that pass now: {', '.join(result.passing)}", "green"))
    lines.append(
        (
            f"{result.rate:.0f} conversations/s, {result.bytes_sent} bytes sent, "
            f"{result.seconds:.1f} s, seed {result.settings.seed}",
            "",
        )
    )
    if result.command:
        lines.append((f"again:   {one_line(result.command)}", ""))
    lines.append(verdict_line(result))
    return lines


def verdict_line(result: CampaignResult) -> tuple[str, str]:
    """The whole campaign in one line, with its style."""
    if result.error is not None:
        return "could not test", "bold red"
    if result.failures:
        flaky = sum(failure.flaky for failure in result.failures)
        text = plural(len(result.failures), "failure") + (f", {flaky} of them flaky" * bool(flaky))
        return text + (", interrupted" * result.interrupted), "bold red"
    if result.interrupted:
        return "interrupted; no failure so far", "yellow"
    return "no failure", "bold green"


class JsonLines(Observer):
    """Writes every session and its verdict as it is held, a JSON object a line.

    The key ``event`` says what a line is: ``start``, ``phase``, ``session``, ``failure``,
    ``note``, and ``end``, which is missing when the campaign was killed.

    Args:
        stream: to write to; flushed after each line.
        target: the target as given, with its options.
        settings: what was asked.
    """

    def __init__(self, stream: TextIO, target: Sequence[str], settings: Settings) -> None:
        self._stream = stream
        self._write("start", target=list(target), settings=settings_json(settings))

    def phase(self, phase: Phase, total: int | None) -> None:
        self._write("phase", phase=phase, total=total)

    def record(self, record: CaseRecord) -> None:
        self._write("session", **asdict(record))

    def failure(self, failure: Failure) -> None:
        verdict = failure.outcome.verdict
        self._write(
            "failure",
            kind=failure.kind,
            script=str(failure.session),
            message=verdict.message,
            offset=verdict.offset,
            expected=verdict.expected.hex(" "),
            got=verdict.got.hex(" "),
            found=str(failure.found),
            found_by=failure.found_by,
            reproduced=failure.reproduced,
            runs=failure.runs,
            shrink_runs=failure.shrink_runs,
            seconds=failure.seconds,
            id=failure.id,
            replay=failure.replay,
        )

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def end(self, result: CampaignResult) -> None:
        """Write the last line."""
        self._write(
            "end",
            error=result.error,
            interrupted=result.interrupted,
            failures=len(result.failures),
            kinds=result.kinds,
            counts=result.counts,
            bytes_sent=result.bytes_sent,
            seconds=result.seconds,
            rate=result.rate,
            command=result.command,
            preflight=None if result.preflight is None else asdict(result.preflight),
        )

    def _write(self, event: str, **values: Any) -> None:
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()


def settings_json(settings: Settings) -> dict[str, Any]:
    """``settings`` as JSON has it: sets in order, bytes in hexadecimal."""
    values = asdict(settings)
    values["exclude"] = sorted(map(str, settings.exclude))
    values["tokens"] = [token.hex(" ") for token in settings.tokens]
    return values


def write_junit(result: CampaignResult, file: Path) -> None:
    """Write the JUnit XML that CI systems read: a test case for each case of the catalogue,
    each saved failure, and each failure that the fuzz phase found.

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
        "skipped": "0",
        "time": f"{result.seconds:.3f}",
    }
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", totals)
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("target", " ".join(result.target)),
        ("seed", str(result.settings.seed)),
        ("command", result.command),
    ):
        ET.SubElement(properties, "property", name=name, value=one_line(value))
    suite.extend(cases)
    ET.indent(suites)
    ET.ElementTree(suites).write(file, encoding="utf-8", xml_declaration=True)


_LISTED = (Phase.SAVED, Phase.CATALOGUE)


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
    if record.kind is not Fault.NONE and record.kind not in result.settings.exclude:
        lines = [f"conversation: {record.script}", record.message]
        if record.explained_by is not None:
            lines += ["", *_block(result.failures[record.explained_by])]
        _add_failure(case, record.kind, record.message, lines)
    return case


def _fuzz_case(failure: Failure) -> ET.Element:
    case = ET.Element(
        "testcase", classname=_class(Phase.FUZZ), name=one_line(shorten(str(failure.session)))
    )
    _add_failure(case, failure.kind, failure.outcome.verdict.message, _block(failure))
    return case


def _add_failure(case: ET.Element, kind: Fault, message: str, lines: list[str]) -> None:
    element = ET.SubElement(case, "failure", type=str(kind), message=one_line(message))
    element.text = "\n".join(map(one_line, lines))


def _block(failure: Failure) -> list[str]:
    return [f"shortest: {failure.session}", *failure_lines(failure)]
