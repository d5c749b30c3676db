"""Where the bytes that came back first differ from the bytes that were sent. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

from echoproto.probe.script.words import plural
from echoproto.probe.wire.timeline import PREVIEW
from echoproto.probe.wire.verdict import Fault, Verdict

__all__ = ["Difference", "first_difference", "verdict_at"]

# What a report shows before and after the first difference, in bytes.
_BEFORE, _AFTER = 8, 24


class Difference(NamedTuple):
    """The first wrong byte of a conversation.

    Attributes:
        kind: ``CORRUPT`` or ``EXTRA``.
        message: one sentence for people.
        offset: of the wrong byte.
        got: the bytes received around it, from ``_BEFORE`` bytes earlier on.
        tail: the bytes received from ``offset`` on, at most ``PREVIEW``; they may belong to
            another conversation.
    """

    kind: Fault
    message: str
    offset: int
    got: bytes
    tail: bytes


def first_difference(stream: bytes, sent: int, start: int, data: bytes) -> Difference:
    """Describe the first difference in ``data``; there must be one.

    Args:
        stream: all bytes of the conversation.
        sent: how many of them have been sent.
        start: the offset of ``data`` in the stream.
        data: what was received there.
    """
    end = start + len(data)
    same = _common_prefix(stream[start : min(end, sent)], data)
    offset = start + same
    if offset >= sent:
        kind = Fault.EXTRA
        message = f"{plural(end - offset, 'extra byte')} came back after the {sent} sent"
    else:
        kind = Fault.CORRUPT
        message = f"byte {offset} came back as {data[same]:02x} instead of {stream[offset]:02x}"
    before = max(0, offset - _BEFORE)
    got = stream[before:offset] + data[same : same + _AFTER]
    return Difference(kind, message, offset, got, data[same : same + PREVIEW])


def verdict_at(
    kind: Fault,
    message: str,
    stream: bytes,
    sent: int,
    received: int,
    offset: int | None = None,
    got: bytes = b"",
) -> Verdict:
    """Return a verdict with the bytes around ``offset``.

    Args:
        kind: of the verdict, as the next one.
        message: one sentence for people.
        stream: all bytes of the conversation.
        sent: how many of them have been sent.
        received: how many came back.
        offset: where the two first differ; None if they do not.
        got: what was received around ``offset``; empty if nothing came after it.
    """
    if offset is None:
        return Verdict(kind, message, sent, received)
    before = max(0, offset - _BEFORE)
    expected = stream[before : min(offset + _AFTER, sent)]
    return Verdict(
        kind, message, sent, received, offset, before, expected, got or stream[before:offset]
    )


def _common_prefix(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
