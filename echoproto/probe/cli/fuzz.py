"""``echoproto fuzz``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from echoproto.probe.cli.campaign import Reports, run_campaign
from echoproto.probe.cli.options import (
    KINDS,
    case_option,
    number,
    report_options,
    target_options,
    tokens,
)
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault

__all__ = ["fuzz"]


@click.command()
@click.argument("target")
@click.option(
    "-n",
    "examples",
    type=click.IntRange(0, 10**7),
    default=1000,
    show_default=True,
    help="Number of conversations to draw.",
)
@click.option("--max-time", callback=number, metavar="S", help="Stop after S seconds.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Draw the same conversations.")
@click.option("--no-shrink", is_flag=True, help="Report failures as they were found.")
@click.option(
    "--retries",
    type=click.IntRange(1, 10**5),
    default=100,
    show_default=True,
    metavar="K",
    help="Retry a flaky failure up to K times.",
)
@click.option("--rate", callback=number, metavar="PER_S", help="Maximum connections per second.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    metavar="N",
    help="Maximum simultaneous connections.",
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
    type=click.IntRange(1, 64 * 1024 * 1024),
    multiple=True,
    help="A payload size to draw more often, in bytes.",
)
@case_option("Run only this case, as E-017.")
@click.option("--prune", is_flag=True, help="Delete the saved failures that pass now.")
@report_options
@target_options
def fuzz(
    target: str,
    options: dict[str, Any],
    examples: int,
    max_time: float | None,
    seed: int | None,
    no_shrink: bool,
    retries: int,
    rate: float | None,
    parallel: int,
    exclude: tuple[str, ...],
    token: tuple[bytes, ...],
    size: tuple[int, ...],
    case: tuple[str, ...],
    prune: bool,
    html: Path | None,
    junit: Path | None,
    jsonl: Path | None,
) -> int:
    """Run conversations with TARGET, and shrink those that fail.

    Replays the failures saved under .echoproto/failures/, then runs the catalogue, then draws
    conversations.
    """
    settings = Settings(
        examples=examples,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        max_time=max_time,
        shrink=not no_shrink,
        retries=retries,
        rate=rate,
        parallel=parallel,
        exclude=frozenset(map(Fault, exclude)),
        tokens=token,
        sizes=size,
        cases=case,
    )
    reports = Reports(html, junit, jsonl)
    return run_campaign(Target.parse(target, **options), settings, reports, prune)
