"""Draws sessions with Hypothesis.

Only the drawing is Hypothesis's. What is run again and what is shorter is decided in
``reproduce.py`` and ``shrink.py``, in the same way for every failure, drawn or not.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy

from echoproto.probe.script.conversation import Session

__all__ = ["draw"]


class _EnoughError(Exception):
    """Ends the drawing; Hypothesis offers no other way."""


def draw(
    strategy: SearchStrategy[Session], count: int, seed_: int, use: Callable[[Session], bool]
) -> None:
    """Draw sessions until there are ``count``, or one is the last.

    Args:
        strategy: to draw from.
        count: how many to draw at most.
        seed_: the same seed and version of Hypothesis draw the same sessions.
        use: gets each session; returns whether to continue.
    """
    enough = False

    @seed(seed_)
    @settings(
        max_examples=count,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def one(session: Session) -> None:
        nonlocal enough
        # Hypothesis runs a failing example once more: the answer must be the same.
        enough = enough or not use(session)
        if enough:
            raise _EnoughError

    with warnings.catch_warnings(), contextlib.suppress(_EnoughError):
        # Hypothesis warns about the size of the session that ends the drawing.
        warnings.simplefilter("ignore", HypothesisWarning)
        one()
