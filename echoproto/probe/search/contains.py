"""Whether one session contains another, so that one failure explains both."""

from __future__ import annotations

import re

from echoproto.probe.script.conversation import (
    Conversation,
    HalfClose,
    Reset,
    Send,
    Session,
    Step,
    Urgent,
)

__all__ = ["contains"]


def contains(session: Session, shorter: Session, half_close: bool, any_zero: bool = True) -> bool:
    """Return whether leaving out and simplifying parts of ``session`` can give ``shorter``.

    If so, a failure of ``session`` is probably the one that ``shorter`` already shows. A 00 in
    ``shorter`` matches any byte, since shrinking sets every byte that does not matter to 00,
    unless it is known to matter.

    Args:
        session: the longer one.
        shorter: the one that is already known to fail.
        half_close: whether every conversation ends with a FIN, written or not.
        any_zero: whether a 00 stands for any byte.
    """
    left = iter(session.conversations)
    return all(
        any(_includes(whole, part, half_close, any_zero) for whole in left)
        for part in shorter.conversations
    )


def _includes(whole: Conversation, part: Conversation, half_close: bool, any_zero: bool) -> bool:
    steps = list(whole.steps)
    wanted = list(part.steps)
    if half_close and wanted and isinstance(wanted[-1], HalfClose):
        if steps and isinstance(steps[-1], Reset):
            return False  # it sends no FIN
        wanted.pop()
    rest = b""
    for step in wanted:
        if isinstance(step, Urgent):
            if (place := _find(steps, step)) is None:
                return False
            del steps[: place + 1]
            rest = b""
            continue
        if isinstance(step, Send):
            # One send may stand for several: joining them is a simplification too.
            pattern = _pattern(step.payload, any_zero)
            while (match := pattern.search(rest)) is None:
                following = next(((i, s) for i, s in enumerate(steps) if isinstance(s, Send)), None)
                if following is None:
                    return False
                index, send = following
                rest += send.payload
                del steps[: index + 1]
            rest = rest[match.end() :]
            continue
        kinds = [type(other) for other in steps]
        if type(step) not in kinds:
            return False
        del steps[: kinds.index(type(step)) + 1]
        rest = b""
    return True


def _find(steps: list[Step], wanted: Urgent) -> int | None:
    """Return the index of the first step that sends this byte, or any for 00, as urgent data."""
    for index, step in enumerate(steps):
        if isinstance(step, Urgent) and wanted.payload in (step.payload, b"\0"):
            return index
    return None


def _pattern(payload: bytes, any_zero: bool) -> re.Pattern[bytes]:
    parts = []
    for match in re.finditer(rb"\0+|[^\0]+", payload):
        piece = match[0]
        parts.append(b".{%d}" % len(piece) if piece[0] == 0 and any_zero else re.escape(piece))
    return re.compile(b"".join(parts), re.DOTALL)
