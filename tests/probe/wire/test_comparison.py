from __future__ import annotations

import pytest

from echoproto.probe.wire.comparison import first_difference, verdict_at
from echoproto.probe.wire.verdict import Fault

STREAM = bytes(range(100))


def test_a_wrong_byte() -> None:
    data = STREAM[40:50] + b"\xff" + STREAM[51:]
    found = first_difference(STREAM, 100, 40, data)
    assert (found.kind, found.offset) == (Fault.CORRUPT, 50)
    assert found.message == "byte 50 came back as ff instead of 32"
    assert found.got == STREAM[42:50] + b"\xff" + STREAM[51:74]
    assert found.tail == data[10:]


@pytest.mark.parametrize(
    ("sent", "data", "message"),
    [
        (100, STREAM[90:] + b"!", "1 extra byte came back after the 100 sent"),
        (95, STREAM[90:], "5 extra bytes came back after the 95 sent"),
    ],
)
def test_bytes_that_were_not_sent(sent: int, data: bytes, message: str) -> None:
    found = first_difference(STREAM, sent, 90, data)
    assert (found.kind, found.offset, found.message) == (Fault.EXTRA, sent, message)


def test_the_bytes_around_the_end_of_what_came_back() -> None:
    verdict = verdict_at(Fault.TRUNCATED, "", STREAM, 100, 50, 50)
    assert (verdict.offset, verdict.context) == (50, 42)
    assert (verdict.expected, verdict.got) == (STREAM[42:74], STREAM[42:50])


def test_a_verdict_without_a_difference() -> None:
    verdict = verdict_at(Fault.NONE, "", STREAM, 100, 100)
    assert (verdict.offset, verdict.expected, verdict.got) == (None, b"", b"")
