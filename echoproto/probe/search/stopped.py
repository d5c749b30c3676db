"""The failure of a path that answers its first connections, and none of those after them."""

from __future__ import annotations

from echoproto.probe.search.explain.stopped import explain_stop
from echoproto.probe.search.preflight import StoppedError
from echoproto.probe.search.result import Failure
from echoproto.probe.wire.target import Target

__all__ = ["stopped_failure"]


def stopped_failure(stopped: StoppedError, target: Target) -> Failure:
    """Return what the preflight found as a failure; there is nothing to shrink, nor to save.

    Args:
        stopped: what the preflight raised.
        target: where the path is.
    """
    outcome = stopped.outcome
    return Failure(
        kind=outcome.kind,
        session=outcome.session,
        outcome=outcome,
        found=outcome.session,
        found_by="preflight",
        reproduced=stopped.runs,
        runs=stopped.runs,
        shrink_runs=0,
        seconds=0.0,
        id=None,
        target=target.words,
        explanation=explain_stop(outcome.kind, stopped.count, stopped.runs),
        remark="",
    )
