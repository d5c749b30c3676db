"""Which of the bytes sent came back as what. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from echoproto.probe.search.explain.explanation import Effect

__all__ = ["Edit", "align", "effect_of_edits", "kind_of_change"]

# Aligning takes time that grows with the square of this, in bytes.
_MOST_TO_ALIGN = 4096


class Edit(NamedTuple):
    """A part of the stream that came back different.

    Attributes:
        start: the offset of its first byte, among those sent.
        stop: the offset after its last byte; equal to ``start`` for an insertion.
        got: what came back in its place.
    """

    start: int
    stop: int
    got: bytes


def align(sent: bytes, received: bytes) -> list[Edit]:
    """Return the edits that turn ``sent`` into ``received``, in order.

    Long streams that differ in many places give one edit, from the first to the last difference.
    """
    if len(sent) == len(received):
        if sent == received:
            return []
        differing = [at for at, (a, b) in enumerate(zip(sent, received, strict=True)) if a != b]
        few = len(differing) * 2 <= len(sent) and len(differing) <= _MOST_TO_ALIGN
        if few or not _same_bytes(sent, received):
            return [Edit(at, at + 1, received[at : at + 1]) for at in differing]
    head = _common_prefix(sent, received)
    tail = _common_prefix(sent[head:][::-1], received[head:][::-1])
    middle, got = sent[head : len(sent) - tail], received[head : len(received) - tail]
    if not middle or not got or max(len(middle), len(got)) > _MOST_TO_ALIGN:
        return [Edit(head, head + len(middle), got)] if middle or got else []
    matcher = SequenceMatcher(None, middle, got, autojunk=False)
    return [
        Edit(head + start, head + stop, got[low:high])
        for tag, start, stop, low, high in matcher.get_opcodes()
        if tag != "equal"
    ]


def kind_of_change(before: bytes, after: bytes) -> Effect:
    """Return what was done to ``before`` so that it became ``after``; the two differ."""
    if _is_subsequence(after, before):
        return Effect.DELETED
    if _is_subsequence(before, after):
        twice = len(after) == 2 * len(before)
        return Effect.DUPLICATED if twice and before * 2 == after else Effect.INSERTED
    if sorted(before) == sorted(after):
        return Effect.REORDERED
    return Effect.REPLACED


def effect_of_edits(sent: bytes, edits: Sequence[Edit], received: bytes) -> Effect | None:
    """Return what all edits together are; None if there are none."""
    if not edits:
        return None
    if _same_bytes(sent, received):
        return Effect.REORDERED
    if all(not edit.got for edit in edits):
        return Effect.DELETED
    if all(edit.start == edit.stop for edit in edits):
        again = all(
            edit.got in (sent[edit.start - len(edit.got) : edit.start],
                         sent[edit.start : edit.start + len(edit.got)])
            for edit in edits
        )  # fmt: skip
        return Effect.DUPLICATED if again else Effect.INSERTED
    if len(edits) == 1 and len(edits[0].got) > _MOST_TO_ALIGN:
        return kind_of_change(sent, received)
    return Effect.REPLACED


def _common_prefix(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _same_bytes(a: bytes, b: bytes) -> bool:
    return len(a) == len(b) and all(a.count(byte) == b.count(byte) for byte in range(256))


def _is_subsequence(part: bytes, whole: bytes) -> bool:
    at = -1
    return all((at := whole.find(byte, at + 1)) >= 0 for byte in part)
