"""The sentences of verdicts on bytes that did not come back."""

from __future__ import annotations

from echoproto.probe.script.words import plural
from echoproto.probe.wire.verdict import Action, Fault

__all__ = ["delayed_message", "reset_message", "timed_out", "truncated_message"]


def delayed_message(wait: float, waited_for: Action) -> str:
    """Return what is said of a wait that ended: ``delayed by 3.05 s``.

    Args:
        wait: in seconds.
        waited_for: what ended it.
    """
    if waited_for is Action.GOT_EOF:
        return f"the path closed {wait:.3g} s after the last byte or FIN"
    return f"delayed by {wait:.3g} s"


def truncated_message(received: int, sent: int) -> str:
    """Return the sentence for an EOF that came too early."""
    missing = sent - received
    return f"the path closed after {received} of {plural(sent, 'byte')}, {missing} missing"


def reset_message(received: int, sent: int, fin: bool, why: str) -> str:
    """Return the sentence for an aborted connection.

    Args:
        received: how many bytes came back.
        sent: how many were sent.
        fin: whether this side has closed.
        why: the error.
    """
    if received < sent:
        state = f"after {received} of {plural(sent, 'byte')}"
    elif fin:
        state = "instead of an orderly close, all bytes were back"
    elif sent:
        state = f"when all bytes ({sent}) were back"
    else:
        state = "before any byte was sent"
    return f"the path aborted the connection {state}: {why}"


def timed_out(
    waited: str, received: int, sent: int, size: int, closing: bool
) -> tuple[Fault, str, int | None]:
    """Return the kind, the sentence and the offset for a wait that failed.

    Args:
        waited: how long the wait was, in words.
        received: how many bytes came back.
        sent: how many were sent.
        size: how many the conversation sends in all.
        closing: whether only the EOF is missing.
    """
    if received < sent:
        back = f"{received} of {plural(sent, 'byte')} came back"
        return Fault.STALLED, f"{waited}, {back}", received
    if closing:
        return Fault.NEVER_CLOSED, f"all bytes ({sent}) are back, but no EOF: {waited}", None
    return Fault.STALLED, f"{waited}, {plural(size - sent, 'byte')} could not be sent", received
