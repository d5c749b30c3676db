from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoproto.probe.script.conversation import (
    Absent,
    Await,
    Conversation,
    ConversationError,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Urgent,
)
from echoproto.probe.script.payload import MAX_PAYLOAD, format_payload, parse_payload
from echoproto.probe.script.strategies import sessions


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("nothing", ()),
        ("send 00", (Send(b"\0"),)),
        ("send 0d ff; await; send 00*4097; fin",
         (Send(b"\r\xff"), Await(), Send(bytes(4097)), HalfClose())),
        ("pause 20; slow 65536; reset", (Pause(20), SlowRead(65536), Reset())),
        ("send 61; fin; hold 700", (Send(b"a"), HalfClose(), Hold(700))),
        ("absent 2200; send 61", (Absent(2200), Send(b"a"))),
        ("send (0d 0a)*100 0d", (Send(b"\r\n" * 100 + b"\r"),)),
        ("send 00..ff", (Send(bytes(range(256))),)),
        ("send 61; urgent 62; await", (Send(b"a"), Urgent(b"b"), Await())),
    ],
)  # fmt: skip
def test_the_text_form_reads_back(text: str, steps: tuple[object, ...]) -> None:
    conversation = Conversation.parse(text)
    assert conversation.steps == steps
    assert str(conversation) == text
    assert eval(repr(conversation)) == conversation


@pytest.mark.parametrize("text", ["", "  ", "nothing", " nothing "])
def test_the_empty_conversation(text: str) -> None:
    assert Conversation.parse(text) == Conversation()
    assert Session.parse(text) == Session((Conversation(),))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions())
def test_every_session_drawn_reads_back(session: Session) -> None:
    assert Session.parse(str(session)) == session
    # Most receivers take urgent data out of the stream: it is never drawn.
    assert not any(conversation.urgent for conversation in session.conversations)


@given(st.lists(st.sampled_from([b"\0", b"\1", b"\2", b"\3", b"\xff", b"ab" * 20])).map(b"".join))
def test_every_payload_reads_back(payload: bytes) -> None:
    assert parse_payload(format_payload(payload)) == payload


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_payload_has_one_form_however_it_is_given(payload: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(payload)))
    head, tail = payload[:cut], payload[cut:]
    escaped = "".join(f"\\x{byte:02x}" for byte in tail)
    text = "".join(map(chr, tail)) if tail.isascii() else ""
    for char in '\\"':
        text = text.replace(char, f"\\{char}")
    for form in (f'"{escaped}"', f'"{text}"' if tail.isascii() else tail.hex()):
        session = Session.parse(f"send {head.hex()} {form} then nothing")
        assert session == Session((Conversation((Send(payload),)), Conversation()), sequential=True)
        assert str(session) == f"send {format_payload(payload)} then nothing"


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("0d0a", b"\r\n"),
        ("0D0aff 00*3 61..63", b"\r\n\xff\0\0\0abc"),
        (r'"abc\r\n"', b"abc\r\n"),
        (r'"\t\0\a\b\f\v\e\\\"\xfF"', b'\t\0\a\b\f\v\x1b\\"\xff'),
        ('"abc"*3 00', b"abcabcabc\0"),
        ('("a)" 00)*2', b"a)\0a)\0"),
        ('"é"', "é".encode()),
        ('"\udcff"', b"\xff"),  # a byte of the command line that is no UTF-8
        ('"a;b|c then d"', b"a;b|c then d"),
        ('"\r\n"', b"\r\n"),
        ('"" 00', b"\0"),
    ],
)
def test_payloads_in_text_and_without_blanks(text: str, payload: bytes) -> None:
    step = Send(payload)
    assert Session.parse(f"send {text}; await | send {text}").conversations == (
        Conversation((step, Await())),
        Conversation((step,)),
    )


def test_a_long_payload_is_written_short() -> None:
    assert format_payload(bytes(1_000_000)) == "00*1000000"
    assert format_payload(bytes(range(251)) * 4178) == "(00..fa)*4178"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sned 00", "'sned 00' is not a step; allowed are send HEX, await"),
        ("send", "send: 0 bytes; allowed are 1 to"),
        ("send 0", "'0' is not a payload; allowed are bytes in hexadecimal"),
        ("send 0x00", "'0x00' is not a payload"),
        ("send ff..00", "runs backwards"),
        ("send (00", "is not a payload"),
        ("send 0d0", "'0d0' is not a payload"),
        ("send 0d0a*3", "'0d0a*3' is not a payload; allowed are bytes in hexadecimal such as"),
        ('send "abc', "'\"abc' has no closing quote"),
        (r'send "abc\"; await', "has no closing quote"),
        (r'send "\q"', r"\q is not an escape; allowed are \xHH, \r, \n"),
        (r'send "\xf"', r"\x is not an escape"),
        ('send "a""b"', "is not a payload"),
        ('send ""', "send: 0 bytes; allowed are 1 to"),
        ("send 'abc'", "is not a payload"),
        ('"abc"', "'\"abc\"' is not a step"),
        ("send (00 zz)*3", "'zz' is not a payload"),
        ("await now", "'await now' is not a step"),
        ("urgent 61 62", "urgent: 2 bytes; it must be 1"),
        ("urgent", "urgent: 0 bytes; it must be 1"),
        ("fin; urgent 61", "'urgent' cannot follow 'fin'"),
        ("pause", "pause: '' is not a whole number"),
        ("pause -1", "pause: '-1' is not a whole number"),
        ("pause 3600001", "pause: 3600001; allowed are 0 to 3600000 milliseconds"),
        ("hold 3600001", "hold: 3600001; allowed are 0 to 3600000 milliseconds"),
        ("hold -1", "hold: '-1' is not a whole number"),
        ("hold 12345678901", "hold: 12345678901; allowed are 0 to"),
        ("send 00*1234567890", "more than 67108864 bytes in one send"),
        ('send "a"*12345678901234', "more than 67108864 bytes in one send"),
        ("send 61; absent 5", "'absent' can only be the first step"),
        ("nothing | absent 5", "'absent' needs 'then': with '|' there is a connection"),
        ("slow 0", "slow: 0; allowed are 1 to"),
        ("reset; send 00", "nothing can follow 'reset'"),
        ("fin; send 00", "'send' cannot follow 'fin'"),
        ("fin; fin", "'fin' cannot follow 'fin'"),
        ("send 00;; await", "'' is not a step"),
        (f"send 00*{MAX_PAYLOAD + 1}", "more than"),
        ("send 00*999999999 00*999999999", "more than"),
        ("send 00 | send 01 then send 02", "cannot be mixed"),
        (" | ".join(["nothing"] * 1025), "1025 conversations"),
    ],
)
def test_invalid_conversations(text: str, complaint: str) -> None:
    with pytest.raises(ConversationError, match=re.escape(complaint)) as caught:
        Session.parse(text)
    assert "\n" not in str(caught.value)


def test_urgent_bytes_belong_to_the_payload() -> None:
    conversation = Conversation.parse("urgent 61; send 62 63; await; urgent 64; fin")
    assert conversation.payload == b"abcd"
    assert conversation.urgent == {0, 3}
    assert Conversation.parse("send 61").urgent == set()
    assert Urgent(b"a") != Send(b"a")


def test_simultaneous_and_sequential_sessions() -> None:
    at_once = Session.parse("send 00 | nothing")
    in_turn = Session.parse("send 00 then nothing")
    assert at_once.conversations == in_turn.conversations
    assert not at_once.sequential
    assert in_turn.sequential
    assert str(in_turn) == "send 00 then nothing"
    assert Session((Conversation(),), sequential=True) == Session((Conversation(),))


def test_a_session_of_one_is_the_conversation() -> None:
    conversation = Conversation.parse("send 00; send 01")
    session = Session.of(conversation)
    assert Session.of(session) is session
    assert str(session) == str(conversation)
    assert conversation.payload == b"\0\1"
