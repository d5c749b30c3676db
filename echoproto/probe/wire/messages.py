"""The sentences of verdicts on bytes that did not come back."""

from __future__ import annotations

from echoproto.probe.wire.verdict import Fault

__all__ = ["reset_message", "timed_out", "truncated_message"]


def truncated_message(received: int, sent: int) -> str:
    """Return the sentence for an EOF that came too early."""
    missing = sent - received
    return f"the path closed after {received} of {sent} bytes, {missing} missing"


def reset_message(received: int, sent: int, fin: bool, why: str) -> str:
    """Return the sentence for an aborted connection.

    Args:
        received: how many bytes came back.
        sent: how many were sent.
        fin: whether this side has closed.
        why: the error.
    """
    if received < sent:
        state = f"after {received} of {sent} bytes"
    elif fin:
        state = "instead of an orderly close, all bytes were back"
    else:
        state = f"all {sent} bytes were back"
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
        return Fault.STALLED, f"{waited}, {received} of {sent} bytes are back", received
    if closing:
        return Fault.NEVER_CLOSED, f"all bytes ({sent}) are back, but no EOF: {waited}", None
    return Fault.STALLED, f"{waited}, {size - sent} bytes could not be sent", received
