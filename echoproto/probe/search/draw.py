"""Draws sessions with Hypothesis, in blocks.

Only the drawing is Hypothesis's. What is run again and what is shorter is decided in
``reproduce.py`` and ``shrink.py``, in the same way for every failure, drawn or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from echoproto.probe.script.conversation import Session

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["drawn"]

_BLOCK = 32
"""How many are drawn at a time: meanwhile, for some 40 ms, those under way are not served."""


def drawn(strategy: SearchStrategy[Session], seed: int) -> Iterator[Session]:
    """Yield sessions without end.

    Args:
        strategy: to draw from.
        seed: the same seed and version of Hypothesis draw the same sessions.
    """
    block = 0
    while True:
        yield from _block(strategy, seed + (block << 64))
        block += 1


def _block(strategy: SearchStrategy[Session], seed_: int) -> list[Session]:
    from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
    from hypothesis.errors import HypothesisWarning

    found: list[Session] = []

    @seed(seed_)
    @settings(
        max_examples=_BLOCK,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def one(session: Session) -> None:
        found.append(session)

    with warnings.catch_warnings():
        # Hypothesis warns about the size of a session.
        warnings.simplefilter("ignore", HypothesisWarning)
        one()
    return found
