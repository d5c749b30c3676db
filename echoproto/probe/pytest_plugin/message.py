"""The message of a failed check: at most some forty lines, whatever was sent, and one line."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from echoproto.probe.pytest_plugin.checks import Failed
from echoproto.probe.pytest_plugin.running_test import RunningTest
from echoproto.probe.report.describe import away_text, difference, one_line, time_line
from echoproto.probe.script.conversation import Session
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.result import replay_line
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Outcome

__all__ = ["fail", "message"]

# Longer ones have several conversations; then only the one that shows the fault is listed.
_EVENTS = 24
_WIDTH = 160
_SUMMARY = 80


def message(target: Target, failed: Failed, as_session: bool) -> str:
    """Return what there is to say about a failure.

    Args:
        target: where it was found.
        failed: the failure.
        as_session: whether the test takes sessions, for the line that pins it.
    """
    outcome = failed.outcome
    session = outcome.session
    lines = [
        f"{target} does not echo this conversation:",
        f"    {shorten(str(session), _WIDTH)}",
        f"{outcome.kind}: {one_line(outcome.verdict.message)}",
        *(f"  {line}" for line in _events(outcome)),
    ]
    if shown := difference(outcome.verdict):
        lines += ["", *(f"  {line}" for line in shown)]
    lines.append("")
    if failed.remark:
        lines.append(one_line(failed.remark))
    elif failed.reproduced is not None:
        reproduced = f"reproduced in {failed.reproduced} of {plural(failed.runs, 'run')}"
        lines.append(reproduced + away_text(failed.away))
    lines += [
        f"replay:  {replay_line(target.words, session)}",
        f"pin:     {_pin(session, as_session)}",
    ]
    return "\n".join(lines)


def fail(
    target: Target, failed: Failed, test: RunningTest | None, as_session: bool = False
) -> NoReturn:
    """Raise the failure.

    Args:
        target: where it was found.
        failed: the failure.
        test: that found it; it keeps the one line for the short summary.
        as_session: as for :func:`message`.

    Raises:
        AssertionError: always.
    """
    __tracebackhide__ = True
    text = message(target, failed, as_session)
    if test is not None:
        test.summaries[text] = _summary(target, failed)
    raise AssertionError(text)


def _summary(target: Target, failed: Failed) -> str:
    return f"{target}: {failed.outcome.kind}: {shorten(str(failed.outcome.session), _SUMMARY)}"


def _pin(session: Session, as_session: bool) -> str:
    several = as_session or len(session.conversations) > 1
    return f'@example({"Session" if several else "Conversation"}.parse("{session}"))'


def _events(outcome: Outcome) -> list[str]:
    count = len(outcome.session.conversations)
    if count == 1:
        return time_line(outcome, _EVENTS)
    index = outcome.index
    only = dataclasses.replace(
        outcome,
        session=Session((outcome.session.conversations[index],)),
        verdicts=(outcome.verdicts[index],),
        timelines=(outcome.timelines[index],),
    )
    text = shorten(str(only.session))
    return [f"conversation {index + 1} of {count}: {text}", *time_line(only, _EVENTS)]
