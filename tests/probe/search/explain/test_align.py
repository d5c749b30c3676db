from __future__ import annotations

import pytest

from echoproto.probe.search.explain.align import Edit, align, effect_of_edits, kind_of_change
from echoproto.probe.search.explain.explanation import Effect


@pytest.mark.parametrize(
    ("sent", "received", "edits", "effect"),
    [
        (b"abcdef", b"abcdef", [], None),
        (b"abcdef", b"abXdef", [Edit(2, 3, b"X")], Effect.REPLACED),
        (b"abcdef", b"abdef", [Edit(2, 3, b"")], Effect.DELETED),
        (b"abcdef", b"abcdef!", [Edit(6, 6, b"!")], Effect.INSERTED),
        (b"abcdef", b"abcdefdef", [Edit(6, 6, b"def")], Effect.DUPLICATED),
        (b"abc", b"", [Edit(0, 3, b"")], Effect.DELETED),
        (bytes(range(200)), bytes(range(100, 200)) + bytes(range(100)), None, Effect.REORDERED),
    ],
)
def test_align(
    sent: bytes, received: bytes, edits: list[Edit] | None, effect: Effect | None
) -> None:
    found = align(sent, received)
    assert edits is None or found == edits
    assert effect_of_edits(sent, found, received) is effect


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (b"\r\n", b"\n", Effect.DELETED),
        (b"\n", b"\r\n", Effect.INSERTED),
        (b"\xff", b"\xff\xff", Effect.DUPLICATED),
        (b"ab", b"ba", Effect.REORDERED),
        (b"\x80", b"\0", Effect.REPLACED),
    ],
)
def test_kind_of_change(before: bytes, after: bytes, effect: Effect) -> None:
    assert kind_of_change(before, after) is effect
