from __future__ import annotations

import pytest

from echoproto.probe.wire.messages import reset_message, timed_out, truncated_message
from echoproto.probe.wire.verdict import Fault


def test_one_byte_is_in_the_singular() -> None:
    assert truncated_message(0, 1) == "the path closed after 0 of 1 byte, 1 missing"
    assert "after 0 of 1 byte:" in reset_message(0, 1, False, "why")
    assert timed_out("waited", 0, 1, 1, False)[1] == "waited, 0 of 1 byte came back"
    assert timed_out("waited", 1, 1, 2, False)[1] == "waited, 1 byte could not be sent"


def test_truncated() -> None:
    assert truncated_message(1, 3) == "the path closed after 1 of 3 bytes, 2 missing"


@pytest.mark.parametrize(
    ("received", "fin", "state"),
    [
        (1, False, "after 1 of 3 bytes"),
        (3, True, "instead of an orderly close, all bytes were back"),
        (3, False, "when all bytes (3) were back"),
    ],
)
def test_reset(received: int, fin: bool, state: str) -> None:
    message = reset_message(received, 3, fin, "why")
    assert message == f"the path aborted the connection {state}: why"


def test_reset_at_once() -> None:
    message = reset_message(0, 0, False, "why")
    assert message == "the path aborted the connection before any byte was sent: why"


@pytest.mark.parametrize(
    ("received", "closing", "kind", "offset", "end"),
    [
        (1, True, Fault.STALLED, 1, "1 of 3 bytes came back"),
        (3, True, Fault.NEVER_CLOSED, None, "waited"),
        (3, False, Fault.STALLED, 3, "2 bytes could not be sent"),
    ],
)
def test_timed_out(received: int, closing: bool, kind: Fault, offset: int | None, end: str) -> None:
    found, message, at = timed_out("waited", received, 3, 5, closing)
    assert (found, at) == (kind, offset)
    assert message.endswith(end)
