"""``echoproto replay``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from echoproto.probe.cli.ending import exit_code
from echoproto.probe.cli.options import WholeNumber, complete_saved, target_options, timing_options
from echoproto.probe.report.describe import away_text, describe
from echoproto.probe.script.conversation import Session
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.availability import availability_of
from echoproto.probe.search.failures import SavedFailure, SavedFailures
from echoproto.probe.search.preflight import assumed, preflight
from echoproto.probe.search.reproduced import PathGoneError
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["replay"]


@click.command()
@click.argument("target", shell_complete=complete_saved)
@click.argument("conversation", required=False, shell_complete=complete_saved)
@click.option(
    "--retries",
    type=WholeNumber(1, 10**5),
    default=10,
    show_default=True,
    metavar="K",
    help="Run it until it fails, at most K times.",
)
@click.option(
    "--times",
    type=WholeNumber(1, 10**6),
    metavar="N",
    help="Run it N times, and report how often it failed.",
)
@timing_options
@target_options
def replay(
    target: str,
    options: dict[str, Any],
    timing: dict[str, float],
    conversation: str | None,
    retries: int,
    times: int | None,
) -> int:
    """Run one conversation, or a saved failure.

    \b
    echoproto replay TARGET 'send 0d ff; await'
    echoproto replay TARGET ID
    echoproto replay ID          with the target where it was found
    """
    if times is not None and _is_given("retries"):
        raise click.UsageError("--times and --retries exclude each other")
    store = SavedFailures()
    saved: SavedFailure | None = None
    if conversation is None:
        if not re.fullmatch(r"[0-9a-f]{1,8}", target):
            raise click.UsageError(
                f"replay {target!r}: give TARGET and CONVERSATION, or the ID of a saved failure"
            )
        saved = store.get(target)
        if saved.target is None:
            raise click.UsageError(f"replay {saved.id}: its file names no target; give TARGET too")
        if any(options.values()):
            raise click.UsageError(
                f"replay {saved.id}: the options of its target are in its file; "
                "give TARGET too, to replace them"
            )
        parsed = saved.target
    else:
        parsed = Target.parse(target, **options)
        if re.fullmatch(r"[0-9a-f]{8}", conversation):
            saved = store.get(conversation)
    session = saved.session if saved is not None else Session.parse(conversation or "")
    runs = _Runs(times or retries, to_the_end=times is not None)
    code = _run_and_print(parsed, session, runs, timing)
    if saved is not None and code in (0, 1):
        SavedFailures(target=parsed).mark(saved, passed=code == 0)
    return code


def _is_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is ParameterSource.COMMANDLINE


class _Runs(NamedTuple):
    """How often to run a session: until it fails, or ``to_the_end``."""

    times: int
    to_the_end: bool


def _run_and_print(
    target: Target, session: Session, runs: _Runs, timing: Mapping[str, float]
) -> int:
    """Run a session, and print the first failure, or a run.

    Returns:
        the exit code.
    """
    times, to_the_end = runs
    if target.is_single:
        times, connector = 1, connect(target)
        known = assumed(connector, **timing)
    else:
        connector, known = preflight(target, **timing)
    limits = known.limits(known.patience)
    availability = availability_of(connector, known)
    shown: Outcome | None = None
    kinds: Counter[Fault] = Counter()
    interrupted, ended = 0, ""

    def hold() -> list[Outcome]:
        return [run(session, connector, limits)]

    try:
        while kinds.total() < times and (to_the_end or not _failed(kinds)):
            # Of a program that serves one connection, nothing more can be asked.
            held = hold() if target.is_single else availability.run(hold, lambda one: not one.ok)
            kinds[held[0].kind] += 1
            if shown is None or (shown.ok and not held[0].ok):
                shown = held[0]
    except KeyboardInterrupt as stop:
        interrupted = exit_code(stop)
    except PathGoneError as gone:
        ended = f"; {gone}"
        if shown is None:
            shown = gone.outcome
            kinds[shown.kind] += 1
    if shown is not None:
        print(f"{target}: {shorten(str(session), 400)}")
        for line in describe(shown):
            print(line)
        ended = ended or away_text(availability.away_after(session))
        print(f"\n{_rate(kinds) if to_the_end else _first(kinds)}{ended}")
    return interrupted or int(_failed(kinds) > 0)


def _failed(kinds: Counter[Fault]) -> int:
    return kinds.total() - kinds[Fault.NONE]


def _first(kinds: Counter[Fault]) -> str:
    """Return what is said of runs to the first that failed."""
    if not _failed(kinds):
        return f"passed in {plural(kinds.total(), 'run')}"
    (kind,) = kinds.keys() - {Fault.NONE}
    return f"failed in run {kinds.total()}: {kind}"


def _rate(kinds: Counter[Fault]) -> str:
    """Return what is said of a number of runs: ``failed in 3 of 50 runs (6%): truncated 3``."""
    failed, runs = _failed(kinds), kinds.total()
    found = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common() if kind is not Fault.NONE)
    rate = f"failed in {failed} of {plural(runs, 'run')} ({100 * failed / runs:.3g}%)"
    return f"{rate}: {found}" if found else rate
