"""Whether a failure names a fault of the tests, with a session as short as possible."""

from __future__ import annotations

from echoproto.probe.script.conversation import Send, Session
from echoproto.probe.search.result import Failure
from echoproto.probe.search.settings import Settings
from tests.probe.faulty_paths import FaultyPath

__all__ = ["PATIENT", "shows"]

#: On this machine 2 s of silence are enough to be sure.
PATIENT = Settings(patience=2)


def size(session: Session) -> tuple[int, int]:
    """The length of a session: steps, then bytes."""
    steps = [step for conversation in session.conversations for step in conversation.steps]
    return len(steps), sum(len(step.payload) for step in steps if isinstance(step, Send))


def shows(fault: FaultyPath, failure: Failure) -> bool:
    """Whether the failure names the fault, with a session as short as possible."""
    as_short = size(failure.session) <= size(Session.parse(fault.shortest))
    return as_short and failure.reproduced > 0 and str(failure.kind) in fault.verdicts
