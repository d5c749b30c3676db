from __future__ import annotations

from echoproto.probe.script.words import plural, shorten


def test_numbers_have_their_nouns() -> None:
    assert plural(1, "byte") == "1 byte"
    assert plural(0, "byte") == "0 bytes"
    assert plural(2, "more event") == "2 more events"


def test_a_long_text_keeps_its_beginning_and_end() -> None:
    assert shorten("a" * 100) == "a" * 100
    assert shorten("a" * 100 + "b" * 100, 25) == "aaaaaaaaaa ... bbbbbbbbbb"
