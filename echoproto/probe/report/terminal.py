"""Reports a campaign on the terminal, or in plain lines where there is none."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from echoproto.probe.report.describe import plural, shorten
from echoproto.probe.report.summary import failure_lines, summary_lines
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase

__all__ = ["Terminal"]


class Terminal(Observer):
    """Shows colours and a bar for each phase on a terminal, a line for each phase elsewhere.

    It is a context manager, so that an interrupted campaign leaves no bar behind.

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
            self.line(f"{phase}: running {plural(total, 'conversation')}")

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
        """Print one line as it is: without markup, not wrapped."""
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
            # A phase without a known total, or stopped early, is complete all the same.
            self._progress.update(self._task, total=self._done, completed=self._done)
            self._progress.stop_task(self._task)
        if self._phase is not None and not self._console.is_terminal:
            self.line(f"{self._phase}: {f'{self._done} done' if self._done else 'done'}")
        self._phase = None
