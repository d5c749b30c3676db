"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from echoproto.base.words import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 clients"), (1, "1 client"), (2, "2 clients"), (11, "11 clients")]
)
def test_counted(number: int, words: str) -> None:
    assert counted(number, "client") == words
