from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoproto.probe.script.conversation import (
    MAX_PAYLOAD,
    Await,
    Conversation,
    ConversationError,
    HalfClose,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    format_payload,
    parse_payload,
)
from echoproto.probe.script.strategies import sessions


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("nothing", ()),
        ("send 00", (Send(b"\0"),)),
        ("send 0d ff; await; send 00*4097; fin",
         (Send(b"\r\xff"), Await(), Send(bytes(4097)), HalfClose())),
        ("pause 20; slow 65536; reset", (Pause(20), SlowRead(65536), Reset())),
        ("send (0d 0a)*100 0d", (Send(b"\r\n" * 100 + b"\r"),)),
        ("send 00..ff", (Send(bytes(range(256))),)),
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


@given(st.lists(st.sampled_from([b"\0", b"\1", b"\2", b"\3", b"\xff", b"ab" * 20])).map(b"".join))
def test_every_payload_reads_back(payload: bytes) -> None:
    assert parse_payload(format_payload(payload)) == payload


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
        ("send (00 zz)*3", "'zz' is not a payload"),
        ("await now", "'await now' is not a step"),
        ("pause", "pause: '' is not a whole number"),
        ("pause -1", "pause: '-1' is not a whole number"),
        ("pause 60001", "pause: 60001; allowed are 0 to 60000 milliseconds"),
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
