"""``echoproto catalogue``."""

from __future__ import annotations

from typing import Any

import click

from echoproto.probe.cli.options import case_option, target_options
from echoproto.probe.script.catalogue import Case, catalogue
from echoproto.probe.script.words import shorten
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target

__all__ = ["list_catalogue"]


@click.command(name="catalogue")
@click.argument("target", required=False)
@case_option("Only this case, as E-017.")
@target_options
def list_catalogue(target: str | None, options: dict[str, Any], case: tuple[str, ...]) -> int:
    """List conversations that break known paths, or run them.

    Without TARGET they are listed.
    """
    chosen = [c for c in catalogue() if not case or c.number in case]
    if target is not None:
        from echoproto.probe.cli.campaign import run_campaign  # slow, as in fuzz

        settings = Settings(examples=0, cases=tuple(c.number for c in chosen))
        return run_campaign(Target.parse(target, **options), settings)
    for one in chosen:
        for line in _lines(one, whole=bool(case)):
            print(line)
    return 0


def _lines(case: Case, whole: bool) -> list[str]:
    script = str(case.session)
    return [
        f"{case.number}  {case.name}",
        f"       {case.why}",
        f"       {script if whole else shorten(script, 90)}",
    ]
