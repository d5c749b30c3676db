"""The lines that sum up a failure and a campaign, for the terminal and the reports."""

from __future__ import annotations

from echoproto.probe.report.describe import describe, one_line, plural, shorten
from echoproto.probe.search.result import CampaignResult, Failure
from echoproto.probe.wire.verdict import Fault

__all__ = ["failure_lines", "summary_lines", "verdict_line"]


def failure_lines(failure: Failure) -> list[str]:
    """Return the lines on one failure, below its conversation."""
    reproduced = f"reproduced in {failure.reproduced} of {plural(failure.runs, 'run')}"
    if failure.flaky:
        reproduced += f" (flaky, {failure.reproduced / failure.runs:.0%})"
    found = f"found by {failure.found_by}"
    if failure.found != failure.session:
        found += (
            f", shrunk in {plural(failure.shrink_runs, 'run')} ({failure.seconds:.2f} s) "
            f"from {shorten(str(failure.found), 60)}"
        )
    lines = [*describe(failure.outcome), "", reproduced, found]
    if failure.id is not None:
        lines.append(f"saved as {failure.id}")
    lines += [f"replay:  {failure.replay}", f"pin:     {failure.example}"]
    return [one_line(line) for line in lines]


def summary_lines(result: CampaignResult) -> list[tuple[str, str]]:
    """Return the last lines of a campaign, each with its style."""
    if result.error is not None:
        return [(f"could not test: {one_line(result.error)}", "bold red")]
    phases = ", ".join(f"{phase} {count}" for phase, count in result.counts.items() if count)
    lines = [(f"{sum(result.counts.values())} conversations ({phases})", "")]
    faults = [f"{kind} {count}" for kind, count in result.kinds.items() if kind is not Fault.NONE]
    if faults:
        lines.append((f"verdicts: ok {result.kinds[Fault.NONE]}, {', '.join(faults)}", ""))
    if result.transients:
        stalls = plural(result.transients, "stall")
        lines.append((f"ignored {stalls} that did not recur", ""))
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
        lines.append((f"repeat:  {one_line(result.command)}", ""))
    lines.append(verdict_line(result))
    return lines


def verdict_line(result: CampaignResult) -> tuple[str, str]:
    """Return the result of a campaign in one line, with its style."""
    if result.error is not None:
        return "could not test", "bold red"
    if result.failures:
        flaky = sum(failure.flaky for failure in result.failures)
        text = plural(len(result.failures), "failure") + (f" ({flaky} flaky)" if flaky else "")
        return text + (", interrupted" if result.interrupted else ""), "bold red"
    if result.interrupted:
        return "interrupted; no failures so far", "yellow"
    return "no failures", "bold green"
