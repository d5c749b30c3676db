"""``echoproto replay``."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click

from echoproto.probe.cli.options import TARGET_OPTIONS, target_options
from echoproto.probe.report.describe import describe, plural, shorten
from echoproto.probe.script.conversation import Session
from echoproto.probe.search.failures import SavedFailure, SavedFailures
from echoproto.probe.search.preflight import preflight
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target

__all__ = ["replay"]


@click.command()
@click.argument("target")
@click.argument("conversation", required=False)
@click.option(
    "--retries",
    type=click.IntRange(1, 10**5),
    default=10,
    show_default=True,
    metavar="K",
    help="Run it until it fails, at most K times.",
)
@target_options
def replay(target: str, options: dict[str, Any], conversation: str | None, retries: int) -> int:
    """Run one CONVERSATION, or the saved failure with an ID, with TARGET.

    \b
    echoproto replay TARGET 'send 0d ff; await'
    echoproto replay TARGET ID
    echoproto replay ID          with the target where it was found
    """
    store = SavedFailures()
    saved: SavedFailure | None = None
    if conversation is None:
        if not re.fullmatch(r"[0-9a-f]{1,8}", target):
            raise click.UsageError(
                f"replay {target!r}: give TARGET and CONVERSATION, or the ID of a saved failure"
            )
        saved = store.get(target)
        parsed = _saved_target(saved)
    else:
        parsed = Target.parse(target, **options)
        if re.fullmatch(r"[0-9a-f]{8}", conversation):
            saved = store.get(conversation)
    session = saved.session if saved is not None else Session.parse(conversation or "")
    passed = _run_and_print(parsed, session, retries)
    if saved is not None:
        store.mark(saved, passed=passed)
    return 0 if passed else 1


def _run_and_print(target: Target, session: Session, retries: int) -> bool:
    """Run a session until it fails, print what happened; return whether it passed."""
    connector, known = preflight(target)
    limits = known.limits(known.patience)
    outcome = run(session, connector, limits)
    number = 1
    while outcome.ok and number < retries:
        outcome = run(session, connector, limits)
        number += 1
    print(f"{target}: {shorten(str(session), 400)}")
    for line in describe(outcome):
        print(line)
    if outcome.ok:
        print(f"\npassed in {plural(number, 'run')}")
    else:
        print(f"\nfailed in run {number}: {outcome.kind}")
    return outcome.ok


def _saved_target(saved: SavedFailure) -> Target:
    """Return the target where a failure was found, with its options."""
    if saved.target is None:
        raise click.UsageError(f"replay {saved.id}: its file names no target; give TARGET too")
    with replay.make_context("replay", shlex.split(saved.target), resilient_parsing=True) as ctx:
        options = {name: ctx.params[name] for name in TARGET_OPTIONS}
        return Target.parse(ctx.params["target"], **options)
