from __future__ import annotations

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.contains import contains


@pytest.mark.parametrize(
    ("whole", "part", "contained"),
    [
        ("send 00..ff", "send ff", True),
        ("send 00..ff", "send ff 00", False),
        ("send 41 ff 42", "send ff 00", True),
        ("send 61*5000", "send 00*4097", True),
        ("send 61*4096", "send 00*4097", False),
        ("send 61*4000; send 61*97", "send 00*4097", True),
        ("send 61; await; send 62", "send 00; send 00", True),
        ("send 61", "send 00; await", False),
        ("send 61", "send 00; fin", True),
        ("send 61; reset", "reset", True),
        ("send 61; reset", "send 00; fin", False),
        ("send 61 | send 62", "nothing | send 00", True),
        ("send 61", "nothing | send 00", False),
        ("send 61; urgent 62", "urgent 00", True),
        ("send 61; urgent 62", "urgent 62", True),
        ("send 61; urgent 62", "urgent 63", False),
        ("send 61; send 62", "urgent 00", False),
        ("send 61; urgent 62", "urgent 00; send 00", False),
        ("urgent 61; await; send 62", "urgent 00; send 00", True),
        ("urgent 61", "send 00", True),
    ],
)
def test_contains(whole: str, part: str, contained: bool) -> None:
    assert contains(Session.parse(whole), Session.parse(part), half_close=True) is contained


@pytest.mark.parametrize(
    ("whole", "part", "contained"),
    [
        ("send 61", "send 00; fin", False),
        ("send 61; await", "fin", False),
        ("send 61; fin", "send 00; fin", True),
        ("send 61; await; fin; pause 1", "send 00; fin", True),
        ("send 61*5000", "send 00*4097", True),
    ],
)
def test_without_half_close_only_a_written_fin_is_sent(
    whole: str, part: str, contained: bool
) -> None:
    assert contains(Session.parse(whole), Session.parse(part), half_close=False) is contained


def test_a_zero_that_matters_stands_for_itself() -> None:
    whole, part = Session.parse("send 61 62"), Session.parse("send 00")
    assert not contains(whole, part, half_close=True, any_zero=False)
    assert contains(Session.parse("send 61 00"), part, half_close=True, any_zero=False)
