"""Runs a campaign for a command: terminal, reports, and the command line that repeats it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from echoproto.probe.cli.output import LineFile, open_file
from echoproto.probe.report.json_lines import JsonLines
from echoproto.probe.report.terminal import Terminal
from echoproto.probe.script.words import plural
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer, Observers
from echoproto.probe.search.result import CampaignResult
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target

__all__ = ["Reports", "run_campaign"]


@dataclass(frozen=True)
class Reports:
    """The files to write; None for those not asked for."""

    html: Path | None = None
    junit: Path | None = None
    jsonl: Path | None = None

    def check(self) -> None:
        """Open those that are written in the end, to fail now rather than then.

        Raises:
            ClickException: if one cannot be opened.
        """
        for option, path in (("--html", self.html), ("--junit", self.junit)):
            if path is not None:
                open_file(option, path).close()

    def write(self, result: CampaignResult) -> list[str]:
        """Write those that are written in the end; return why some cannot be, in a line each."""
        from echoproto.probe.report.html.page import write_html
        from echoproto.probe.report.junit import write_junit

        errors = [
            _write("--html", self.html, lambda path: write_html(result, path)),
            _write("--junit", self.junit, lambda path: write_junit(result, path)),
        ]
        return [error for error in errors if error]


def run_campaign(
    target: Target,
    settings: Settings,
    reports: Reports = Reports(),
    prune: bool = False,
    any_target: bool = False,
) -> int:
    """Run a campaign and report it.

    Args:
        target: where to connect.
        settings: what to do.
        reports: the files to write.
        prune: whether to delete the saved failures of the target that pass now.
        any_target: whether to replay the saved failures of other targets too.

    Returns:
        the exit code.

    Raises:
        ClickException: if a file cannot be written.
        SavedFailuresError: if a saved failure cannot be deleted.
    """
    console = Console(highlight=False)
    saved = SavedFailures(target=target, any_target=any_target)
    reports.check()
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(Terminal(console))
        observers: list[Observer] = [terminal]
        lines = stream = None
        if reports.jsonl is not None:
            stream = stack.enter_context(contextlib.closing(LineFile("--jsonl", reports.jsonl)))
            observers.append(lines := JsonLines(stream))
        told = Observers(observers)
        command = command_line(target, settings, any_target)
        campaign = Campaign(target, settings, told, saved, command)
        if lines is not None:
            lines.start(campaign.result)
        if not any_target and not settings.cases and (others := saved.others()):
            told.note(
                f"not replayed: {plural(others, 'saved failure')} of other targets "
                "(--any-target replays them too)"
            )
        result = campaign.run()
        if lines is not None:
            lines.end(result)
    terminal.summary(result)
    errors = reports.write(result)
    if stream is not None and stream.error:
        errors.append(stream.error)
    if prune:
        for id_ in saved.prune():
            console.print(f"deleted saved failure {id_}", soft_wrap=True)
    if errors:
        raise click.ClickException("; ".join(errors))
    return result.exit_code


def _write(option: str, path: Path | None, write: Callable[[Path], None]) -> str:
    """Write a file; return why it cannot be written."""
    try:
        if path is not None:
            write(path)
    except OSError as error:
        return f"{option} {path}: {error.strerror}"
    return ""


def command_line(target: Target, settings: Settings, any_target: bool = False) -> str:
    """Return the command line that does the same again."""
    words = ["echoproto", "fuzz", *target.words, "--seed", str(settings.seed)]
    standard = Settings()
    for option, name in (
        ("-n", "examples"),
        ("--max-time", "max_time"),
        ("--retries", "retries"),
        ("--rate", "rate"),
        ("--parallel", "parallel"),
        ("--window", "window"),
        ("--idle", "idle"),
        ("--crowd", "crowd"),
        ("--timeout", "timeout"),
        ("--connect-timeout", "connect_timeout"),
        ("--patience", "patience"),
        ("--max-delay", "max_delay"),
    ):
        value = getattr(settings, name)
        if value != getattr(standard, name):
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    if not settings.shrink:
        words.append("--no-shrink")
    if not settings.explain:
        words.append("--no-explain")
    if any_target:
        words.append("--any-target")
    for option, values in (
        ("--exclude", sorted(map(str, settings.exclude))),
        ("--token", [token.hex(" ") for token in settings.tokens]),
        ("--size", map(str, settings.sizes)),
        ("--known", settings.known),
        ("--case", settings.cases),
    ):
        for value in values:
            words += [option, value]
    return shlex.join(words)
