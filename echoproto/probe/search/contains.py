"""Whether one session contains another, so that one failure explains both."""

from __future__ import annotations

import re

from echoproto.probe.script.conversation import Conversation, HalfClose, Send, Session

__all__ = ["contains"]


def contains(session: Session, shorter: Session, half_close: bool) -> bool:
    """Return whether leaving out and simplifying parts of ``session`` can give ``shorter``.

    If so, a failure of ``session`` counts as the one that ``shorter`` already shows. A 00 in
    ``shorter`` matches any byte, since shrinking sets every byte that does not matter to 00.

    Args:
        session: the longer one.
        shorter: the one that is already known to fail.
        half_close: whether every conversation ends with a FIN, written or not.
    """
    left = iter(session.conversations)
    return all(
        any(_includes(whole, part, half_close) for whole in left) for part in shorter.conversations
    )


def _includes(whole: Conversation, part: Conversation, half_close: bool) -> bool:
    steps = list(whole.steps)
    wanted = list(part.steps)
    if half_close and wanted and isinstance(wanted[-1], HalfClose):
        wanted.pop()
    rest = b""
    for step in wanted:
        if isinstance(step, Send):
            # One send may stand for several: joining them is a simplification too.
            pattern = _pattern(step.payload)
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


def _pattern(payload: bytes) -> re.Pattern[bytes]:
    parts = []
    for match in re.finditer(rb"\0+|[^\0]+", payload):
        piece = match[0]
        parts.append(b".{%d}" % len(piece) if piece[0] == 0 else re.escape(piece))
    return re.compile(b"".join(parts), re.DOTALL)
