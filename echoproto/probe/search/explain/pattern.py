"""Whether a failure that is not seen each time comes on every Nth connection."""

from __future__ import annotations

import itertools

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.lab import Lab

__all__ = ["every_nth"]

_FEWEST_RUNS = 24
_FEWEST_FAILURES = 4
_MOST_RUNS = 130


def every_nth(lab: Lab, session: Session) -> int | None:
    """Run a session again and again; return N if it fails on every Nth connection.

    None as soon as the failures are not equally far apart, or if it always fails.
    """
    failures: list[int] = []
    for number in range(_MOST_RUNS):
        if not lab.run(session).ok:
            failures.append(number)
        gaps = {b - a for a, b in itertools.pairwise(failures)}
        if len(gaps) > 1 or gaps == {1} or (number > 60 and len(failures) < 2):
            return None
        if number + 1 >= _FEWEST_RUNS and len(failures) >= _FEWEST_FAILURES:
            return gaps.pop()
    return None
