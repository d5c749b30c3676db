"""``echoproto fuzz``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from echoproto.probe.cli.options import (
    KINDS,
    WholeNumber,
    case_option,
    complete_saved,
    number,
    report_options,
    require,
    target_options,
    timing_options,
    tokens,
)
from echoproto.probe.script.conversation import MAX_PAUSE
from echoproto.probe.search.failures import SavedFailures, SavedFailuresError
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault

__all__ = ["fuzz"]


@click.command()
@click.argument("target")
@click.option(
    "-n",
    "examples",
    type=WholeNumber(0, 10**7),
    default=1000,
    show_default=True,
    help="Number of conversations to draw.",
)
@click.option("--max-time", callback=number, metavar="S", help="Begin no more after S seconds.")
@click.option("--seed", type=WholeNumber(0, 2**64 - 1), help="Draw the same conversations.")
@click.option("--no-shrink", is_flag=True, help="Report failures as they were found.")
@click.option("--no-explain", is_flag=True, help="Do not find out what about a failure matters.")
@click.option(
    "--retries",
    type=WholeNumber(1, 10**5),
    default=100,
    show_default=True,
    metavar="K",
    help="Retry a flaky failure up to K times.",
)
@click.option("--rate", callback=number, metavar="PER_S", help="Maximum connections per second.")
@click.option(
    "--parallel",
    type=WholeNumber(1, 1024),
    default=64,
    show_default=True,
    metavar="N",
    help="Maximum simultaneous connections.",
)
@click.option(
    "--window",
    type=WholeNumber(1, 1024),
    metavar="N",
    help="Hold N independent conversations at the same time; 1 is one after the other (default: "
    "as many as the path bears).",
)
@click.option(
    "--idle",
    callback=number,
    metavar="S",
    help="Leave connections without a byte, or without reading, for up to S seconds, and wait for "
    "them (default: up to 5 s, as long as the run lasts).",
)
@click.option(
    "--crowd",
    type=WholeNumber(2, 1024),
    metavar="N",
    help="Open N connections at once in one case of the catalogue (default: 64, or as many as "
    "--parallel allows).",
)
@timing_options
@click.option(
    "--max-delay",
    callback=number,
    metavar="S",
    help="A wait of more than S seconds is a failure, even if all comes back.",
)
@click.option(
    "--exclude",
    type=click.Choice(KINDS),
    multiple=True,
    metavar="KIND",
    help=f"Do not count this kind as a failure: {', '.join(KINDS)}.",
)
@click.option(
    "--token",
    callback=tokens,
    multiple=True,
    metavar="HEX",
    help="Bytes to draw more often, as 0d 0a.",
)
@click.option(
    "--size",
    type=WholeNumber(1, 64 * 1024 * 1024),
    multiple=True,
    help="A payload size to draw more often, in bytes.",
)
@click.option(
    "--known",
    multiple=True,
    metavar="ID",
    shell_complete=complete_saved,
    help="Do not report the saved failure ID, and avoid what causes it.",
)
@case_option("Run only this case, as E-017.")
@click.option("--prune", is_flag=True, help="Delete the saved failures of TARGET that pass now.")
@click.option("--any-target", is_flag=True, help="Replay saved failures of other targets too.")
@report_options
@target_options
def fuzz(
    target: str,
    options: dict[str, Any],
    timing: dict[str, float],
    html: Path | None,
    junit: Path | None,
    jsonl: Path | None,
    prune: bool,
    any_target: bool,
    **asked: Any,
) -> int:
    """Run conversations with TARGET, and shrink those that fail.

    Replays the failures of TARGET that are saved under .echoproto/failures/, then runs the
    catalogue, then draws conversations.
    """
    require("hypothesis")  # only imported to draw, but the user has to know now
    # It imports rich, which the help, and a shell that completes a word, do not need.
    from echoproto.probe.cli.campaign import Reports, run_campaign

    seed = asked["seed"]
    settings = Settings(
        examples=asked["examples"],
        seed=secrets.randbelow(2**32) if seed is None else seed,
        max_time=asked["max_time"],
        shrink=not asked["no_shrink"],
        explain=not asked["no_explain"],
        retries=asked["retries"],
        rate=asked["rate"],
        parallel=max(asked["parallel"], asked["crowd"] or 0),
        window=asked["window"],
        max_delay=asked["max_delay"],
        exclude=frozenset(map(Fault, asked["exclude"])),
        tokens=asked["token"],
        sizes=asked["size"],
        known=tuple(map(_known, asked["known"])),
        idle=_idle(asked["idle"]),
        crowd=asked["crowd"],
        cases=asked["case"],
        timeout=timing["timeout"],
        connect_timeout=timing["connect_timeout"],
        patience=timing["patience"],
    )
    reports = Reports(html, junit, jsonl)
    return run_campaign(Target.parse(target, **options), settings, reports, prune, any_target)


def _known(id_: str) -> str:
    """Return the whole ID of a saved failure.

    Raises:
        BadParameter: if it is the ID, or the start of the ID, of none or several.
    """
    try:
        return SavedFailures().get(id_).id
    except SavedFailuresError as error:
        raise click.BadParameter(str(error), param_hint="--known") from None


def _idle(seconds: float | None) -> float | None:
    """Return the seconds of ``--idle``.

    Raises:
        BadParameter: if they are more than a pause may be.
    """
    most = MAX_PAUSE / 2000
    if seconds is not None and seconds > most:
        raise click.BadParameter(f"{seconds:g}; must be at most {most:g}", param_hint="--idle")
    return seconds
