"""The lines that sum up a failure and a campaign, for the terminal and the reports."""

from __future__ import annotations

from echoproto.probe.report.describe import away_text, describe, one_line
from echoproto.probe.report.explanation import explanation_lines
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.result import CampaignResult, Failure, Phase
from echoproto.probe.wire.verdict import Fault

__all__ = [
    "counts_text",
    "failure_lines",
    "held_text",
    "made_by",
    "passing_words",
    "repeated_text",
    "started_text",
    "summary_lines",
    "verdict_line",
    "verdicts_text",
]


def repeated_text(failure: Failure) -> str:
    """Return how often a failure came again, and what became of the path."""
    if failure.remark:
        return failure.remark
    text = f"reproduced in {failure.reproduced} of {plural(failure.runs, 'run')}"
    if failure.flaky:
        text += f" (flaky, {failure.reproduced / failure.runs:.0%})"
    return text + away_text(failure.away)


def failure_lines(failure: Failure) -> list[str]:
    """Return the lines on one failure, below its conversation."""
    found = f"found by {failure.found_by}"
    if failure.found != failure.session:
        found += (
            f", shrunk in {plural(failure.shrink_runs, 'run')} ({failure.seconds:.2f} s) "
            f"from {shorten(str(failure.found), 60)}"
        )
    verdict, *details = describe(failure.outcome)
    if failure.explanation is not None:
        explained = explanation_lines(failure.explanation)
    else:
        explained = [failure.not_explained] if failure.not_explained else []
    lines = [verdict, *explained, *details, "", repeated_text(failure), found]
    if failure.id is not None:
        lines.append(f"saved as {failure.id}")
    lines += [f"replay:  {failure.replay}", f"pin:     {failure.example}"]
    return [one_line(line) for line in lines]


def made_by() -> str:
    """Return the program and its version, as the reports name it."""
    from importlib.metadata import version  # imports much, and only reports need it

    return f"echoproto {version('echoproto')}"


def started_text(result: CampaignResult) -> str:
    """Return when a campaign began, as ISO 8601 with the offset from UTC."""
    return result.started.isoformat(timespec="seconds")


def verdicts_text(result: CampaignResult) -> str:
    """Return how often each verdict was given: ``ok 950, corrupt 50``."""
    faults = [f"{kind} {count}" for kind, count in result.kinds.items() if kind is not Fault.NONE]
    return ", ".join([f"ok {result.kinds[Fault.NONE]}", *faults])


def counts_text(result: CampaignResult) -> str:
    """Return how many conversations were run, in all and by phase."""
    phases = ", ".join(f"{phase} {count}" for phase, count in result.counts.items() if count)
    total = plural(sum(result.counts.values()), "conversation")
    # None, if the preflight has found the failure.
    return f"{total} ({phases})" if phases else total


def summary_lines(result: CampaignResult) -> list[tuple[str, str]]:
    """Return the last lines of a campaign, each with its style."""
    if result.error is not None:
        return [verdict_line(result)]
    lines = [(counts_text(result), "")]
    if result.held < result.wanted:
        lines.append((held_text(result), "yellow"))
    if any(kind is not Fault.NONE for kind in result.kinds):
        lines.append((f"verdicts: {verdicts_text(result)}", ""))
    if result.settings.known:
        lines.append((f"known, not reported: {', '.join(result.settings.known)}", ""))
    if result.left_out:
        count = plural(len(result.left_out), "failing conversation")
        lines.append((f"no time to analyse {count}:", "yellow"))
        for record in (result.records[index] for index in result.left_out):
            name = record.name if record.title else f"{record.phase} {record.name}"
            lines.append((f"  {name}: {record.kind}: {shorten(record.script, 70)}", "yellow"))
    if result.transients:
        text = plural(result.transients, "conversation")
        lines.append((f"not counted: {text} that failed once, and never again", ""))
    if result.delayed:
        text = plural(result.delayed, "conversation")
        lines.append((f"delayed: {text}, by {result.longest_delay:.3g} s at most", ""))
    if result.passing:
        lines.append((f"{passing_words(result)}: {', '.join(result.passing)}", "green"))
    fuzzed = result.counts[Phase.FUZZ] > 0
    rate = f"{result.rate:.0f} conversations/s in the fuzz phase, " if fuzzed else ""
    lines.append(
        (
            f"{rate}{plural(result.bytes_sent, 'byte')} sent, "
            f"{result.seconds:.1f} s, seed {result.settings.seed}",
            "",
        )
    )
    if result.command:
        lines.append((f"repeat:  {one_line(result.command)}", ""))
    lines.append(verdict_line(result))
    return lines


def passing_words(result: CampaignResult) -> str:
    """Return what the saved failures are called that no longer fail."""
    one = len(result.passing) == 1
    return "saved failure that passes now" if one else "saved failures that pass now"


def verdict_line(result: CampaignResult) -> tuple[str, str]:
    """Return the result of a campaign in one line, with its style."""
    if result.error is not None:
        return f"could not test: {one_line(result.error)}", "bold red"
    if result.failures:
        flaky = sum(failure.flaky for failure in result.failures)
        text = plural(len(result.failures), "failure") + (f" ({flaky} flaky)" if flaky else "")
        return text + (", interrupted" if result.interrupted else ""), "bold red"
    if result.interrupted:
        return "interrupted; no failures so far", "yellow"
    if not result.complete:
        return f"could not test all: no failures, but {held_text(result)}", "bold red"
    if result.held < result.wanted:
        return f"no failures; {held_text(result)}", "bold green"
    return "no failures", "bold green"


def held_text(result: CampaignResult) -> str:
    """Return how much of what was asked for was run: ``held 2 of 1097 conversations``."""
    limit = result.settings.max_time
    why = f" in {limit:g} s" if limit is not None else ""
    return f"held {result.held} of {plural(result.wanted, 'conversation')}{why}"
