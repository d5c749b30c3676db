from __future__ import annotations

from echoproto.probe.report.describe import (
    describe,
    difference,
    event_text,
    hex_rows,
    one_line,
    time_line,
)
from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.verdict import Action, Event, Fault, Outcome, Verdict
from tests.probe.sample_result import CORRUPT, CROSS_TALK


def test_the_differing_byte_is_marked_in_its_column() -> None:
    assert difference(CORRUPT.outcome.verdict) == [
        "sent      00000ff8                          00 00 00 00 00 00 00 00",
        "received  00000ff8                          00 00 00 00 00 00 00 00",
        "sent      00001000  00",
        "received  00001000  01",
        "                    ^^",
    ]


def test_bytes_that_are_missing_on_one_side_are_dashes() -> None:
    assert difference(CROSS_TALK.outcome.verdicts[0]) == [
        "sent      00000000  41 --",
        "received  00000000  41 42",
        "                       ^^",
    ]
    assert difference(CROSS_TALK.outcome.verdicts[1])[:2] == [
        "sent      00000000  42",
        "received  00000000  --",
    ]


def test_rows_begin_at_multiples_of_16_and_are_limited() -> None:
    verdict = Verdict(Fault.CORRUPT, "", 100, 100, 20, 12, bytes(60), bytes([1]) * 60)
    rows = hex_rows(verdict)
    assert [row.offset for row in rows] == [12, 16, 32]
    assert [len(row.cells) for row in rows] == [4, 16, 16]
    assert [row.offset for row in hex_rows(verdict, limit=9)][-1] == 64


def test_nothing_is_shown_where_nothing_differs() -> None:
    never_closed = Verdict(Fault.NEVER_CLOSED, "no EOF", 1, 1)
    assert hex_rows(never_closed) == []
    assert difference(never_closed) == []
    outcome = Outcome(Session.parse("fin"), (never_closed,), ((Event(0.0, Action.CLOSED),),), 0.1)
    assert describe(outcome) == ["never-closed: no EOF", "        0.0 ms  closed"]


def test_the_time_line_shows_each_step_of_each_conversation() -> None:
    assert time_line(CROSS_TALK.outcome) == [
        "conversation 1 of 2: send 41 (cross-talk)",
        "      0.0 ms  connected",
        "      0.1 ms  sent 1 byte: 41",
        "      0.2 ms  received 1 byte: 41",
        "      6.3 ms  received 1 byte from 1: 42",
        "     50.0 ms  closed",
        "conversation 2 of 2: pause 5; slow 1000; send 42 (stalled)",
        "      0.1 ms  connected",
        "      0.1 ms  paused: pause 5",
        "      5.2 ms  slowed: slow 1000",
        "      5.3 ms  sent 1 byte: 42",
        "     55.3 ms  timed out",
        "     55.4 ms  closed",
    ]


def test_a_long_time_line_keeps_its_beginning_and_its_end() -> None:
    events = tuple(Event(n / 1000, Action.RECEIVED, None, n, 1, b"x") for n in range(100))
    verdict = Verdict(Fault.STALLED, "")
    lines = time_line(Outcome(Session.parse("send 78*100"), (verdict,), (events,), 1), limit=9)
    assert len(lines) == 10
    assert lines[6].strip() == "... 91 more events"
    assert lines[-1].endswith("received 1 byte from 99: 78")


def test_sent_bytes_are_shown_completely_and_received_bytes_as_a_preview() -> None:
    (conversation,) = CORRUPT.session.conversations
    sent, received = CORRUPT.outcome.timelines[0][1:3]
    assert event_text(sent, conversation) == "sent 4097 bytes: 00*4097"
    assert event_text(received, conversation) == "received 4080 bytes: 00*64 ..."


def test_a_failure_is_described_by_sentence_time_line_and_bytes() -> None:
    lines = describe(CORRUPT.outcome)
    assert lines[0] == "corrupt: byte 4096 came back as 01 instead of 00"
    assert "      0.1 ms  sent 4097 bytes: 00*4097" in [line[2:] for line in lines]
    assert lines[-1].strip() == "^^"


def test_what_cannot_be_printed_is_replaced() -> None:
    assert one_line("a\x00\x1b[31m\nb\u2028") == "a\ufffd\ufffd[31m\ufffdb\ufffd"


def test_a_long_session_of_equal_conversations_is_folded() -> None:
    count = 82
    session = Session.parse(" | ".join(["send 00; await"] * count))
    right, stalled = Verdict(Fault.NONE, "", 1, 1), Verdict(Fault.STALLED, "nothing moved", 1, 0)
    verdicts = (*[right] * 80, stalled, right)
    timelines = (((Event(0.0, Action.CONNECTED),),) * count)  # fmt: skip
    assert time_line(Outcome(session, verdicts, timelines, 0.1)) == [
        "conversation 1 of 82: send 00; await (ok)",
        "      0.0 ms  connected",
        "conversations 2 to 80: the same (ok)",
        "conversation 81 of 82: send 00; await (stalled)",
        "      0.0 ms  connected",
        "conversation 82 of 82: send 00; await (ok)",
        "      0.0 ms  connected",
    ]
