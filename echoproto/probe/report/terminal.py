"""Reports a campaign on the terminal, or in plain lines where there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from echoproto.probe.report.summary import failure_lines, summary_lines
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase

__all__ = ["Terminal"]

# Without a terminal, a phase that takes longer says how far it is after each so many seconds.
_LINE_EVERY = 10.0


class Terminal(Observer):
    """Shows colours and a bar for each phase on a terminal, lines for each phase elsewhere.

    It is a context manager, so that an interrupted campaign leaves no bar behind.

    Args:
        console: where to write.
        clock: returns the time, in seconds, from which the time left is estimated.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            _TimeLeft(),
            TextColumn("{task.fields[found]}", style="red"),
            console=console,
            get_time=clock,
            disable=not console.is_terminal,
        )
        self._next_line = 0.0
        self._task: TaskID | None = None
        self._phase: Phase | None = None
        self._done = 0
        self._found = 0
        # A fuzz phase that a failure has interrupted, and its conversations. It goes on if that is
        # a known one, which may be hundreds of times.
        self._fuzz: tuple[TaskID, int] | None = None

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._phase is Phase.PREFLIGHT and self._task is not None:
            # A campaign goes on after its preflight, unless that could not test.
            self._progress.remove_task(self._task)
            self._phase = self._task = None
        self._end_phase()
        self._end_fuzz()
        self._progress.stop()

    def phase(self, phase: Phase, total: int | None) -> None:
        self._end_phase()
        if phase is Phase.FUZZ and self._fuzz is not None:
            (self._task, self._done), self._fuzz = self._fuzz, None
            self._progress.update(self._task, total=self._done + (total or 0))
            self._phase = phase
            return
        if phase is not Phase.SHRINK:
            self._end_fuzz()
        self._phase, self._done = phase, 0
        self._task = self._progress.add_task(str(phase), total=total, found="")
        self._next_line = self._clock() + _LINE_EVERY
        if not self._console.is_terminal and total:
            self.line(f"{phase}: running {_conversations(total)}")

    def record(self, record: CaseRecord) -> None:
        if record.phase is not self._phase:
            return  # a late one, of a phase that has ended
        self._done += 1
        if self._task is not None:
            self._progress.advance(self._task)
            if not self._console.is_terminal and self._clock() >= self._next_line:
                self._next_line = self._clock() + _LINE_EVERY
                self._say_how_far(self._task)

    def failure(self, failure: Failure) -> None:
        self._end_fuzz()
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

    def _say_how_far(self, id_: TaskID) -> None:
        (task,) = (task for task in self._progress.tasks if task.id == id_)
        if task.finished:
            return  # the next line says so
        text = f"{self._phase}: {_conversations(self._done)}"
        if task.total is not None:
            text = f"{self._phase}: {self._done:,} of {_conversations(int(task.total))}"
        left = _left(task)
        self.line(f"{text}, {left}" if left else text)

    def _end_phase(self) -> None:
        phase, task = self._phase, self._task
        self._phase = self._task = None
        if phase is None or task is None:
            return
        if phase is Phase.FUZZ:
            self._fuzz = task, self._done
        elif self._fuzz is not None:
            self._progress.remove_task(task)
        else:
            self._finish(phase, task, self._done)

    def _end_fuzz(self) -> None:
        """End the fuzz phase that was interrupted."""
        if self._fuzz is not None:
            (task, done), self._fuzz = self._fuzz, None
            self._finish(Phase.FUZZ, task, done)

    def _finish(self, phase: Phase, task: TaskID, done: int) -> None:
        # A phase without a known total, or stopped early, is complete all the same.
        self._progress.update(task, total=done, completed=done)
        self._progress.stop_task(task)
        if not self._console.is_terminal:
            self.line(f"{phase}: {f'{done:,} done' if done else 'done'}")


def _conversations(count: int) -> str:
    return f"{count:,} {'conversation' if count == 1 else 'conversations'}"


class _TimeLeft(ProgressColumn):
    """The time left, in the words of the lines without a terminal."""

    max_refresh = 0.5  # as rich's own: more often, the number jumps

    def render(self, task: Task) -> Text:
        return Text(_left(task), style="progress.remaining")


def _left(task: Task) -> str:
    """Return how long a phase will still take: ``35 s left``; empty if that is not known."""
    seconds = task.time_remaining
    if task.finished or seconds is None:
        return ""
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 120 * length:
            return f"{math.ceil(seconds / length)} {unit} left"
    return f"{math.ceil(seconds / 3600)} h left"
