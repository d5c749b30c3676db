"""What each fault does to bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from echoproto.probe.relay.connection import Connection, Shared
from echoproto.probe.relay.fault import choose
from echoproto.probe.relay.faults import FAULTS
from echoproto.probe.relay.log import Event, Log
from echoproto.probe.relay.loop import Loop
from echoproto.probe.relay.stage import Place, Stage, join
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import named
from tests.probe.relay.clients import connect, converse, read_all, reset


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that is not run: it only has timers and no sockets to wait for."""
    loop = Loop()
    yield loop
    loop.stop()
    loop.run()


def passed(loop: Loop, faults: list[str], segments: list[bytes]) -> tuple[bytes, list[Event]]:
    """What the server is sent of segments that a client sends, and what was noted."""
    events: list[Event] = []
    connection = Connection(Shared(loop, Log(events.append), lambda ms: None), 1, "a client")
    stages: list[Stage] = []
    for index, text in enumerate(faults):
        peers: list[Stage] = []
        place = Place(connection, text, peers, bytearray(), index)
        stages.append(choose(text, FAULTS).make(place))
    join(stages)
    connection.pass_through(stages)
    for segment in segments:
        connection.client.received(segment)
    return bytes(connection.server.pending), events


A = b"a"
BYTES = [
    ("replace=0102,03", [b"\1\2\1\2x"], b"\3\3x"),
    ("replace=41,", [b"ABA"], b"B"),
    ("iac-swallowed", [b"a\xffb\xff\xff"], b"ab"),
    ("iac-doubled", [b"a\xff"], b"a\xff\xff"),
    ("telnet-receiver", [b"a\xff\xffb\xff\xf4c\xff", b"\xfd\x01d"], b"a\xffbcd"),
    ("iac-iac-halved", [b"\xff\xff\xffa"], b"\xff\xffa"),
    ("iac-option-swallowed", [b"a\xff\xfd\x01b\xff\xf4"], b"ab\xff\xf4"),
    ("iac-split", [b"a\xff", b"bc", b"d"], b"a\xffcd"),
    ("cr-nul-to-cr", [b"\r\0\r\n"], b"\r\r\n"),
    ("cr-iac-lost", [b"\r\xff\xff"], b"\r\xff"),
    ("crlf-to-lf", [b"a\r\nb\r"], b"a\nb\r"),
    ("lf-to-crlf", [b"a\nb"], b"a\r\nb"),
    ("cr-to-lf", [b"a\r\n"], b"a\n\n"),
    ("cr-to-crlf", [b"a\rb"], b"a\r\nb"),
    ("nul-dropped", [b"a\0b\0"], b"ab"),
    ("cut-at-nul", [b"a\0b", b"c"], b"ac"),
    ("xonxoff", [b"a\x13b\x11c"], b"abc"),
    ("eot-is-eof", [b"a\x04b", b"c"], b"a"),
    ("sub-cuts", [b"a\x1ab", b"c"], b"ac"),
    ("del-erases", [b"ab\x7fc", b"\x7f"], b"ac"),
    ("tab-expanded", [b"a\tb"], b"a       b"),
    ("modem-escape", [b"a+++b++"], b"ab++"),
    ("high-bit-stripped", [b"\x80\xc1a"], b"\0Aa"),
    ("even-parity", [b"\x00\x01\x03\x81"], b"\x00\x81\x03\x81"),
    ("utf-8-replaced", [b"a\xffb\xc3\xa9"], b"a\xef\xbf\xbdb\xc3\xa9"),
    ("utf-8-ignored", [b"a\xffb"], b"ab"),
    ("latin-1-to-utf-8", [b"\xe9"], b"\xc3\xa9"),
    ("utf-8-bom-eaten", [b"\xef\xbb\xbfa\xef\xbb\xbf"], b"a\xef\xbb\xbf"),
    ("flip-at=2", [b"aa", b"aa"], b"aa`a"),
    ("flip-at=0", [b"ab"], b"`b"),
    ("flip-every=3", [b"aaaa", b"aa"], b"aa`aa`"),
    ("drop-at=2", [b"ab", b"cd"], b"abd"),
    ("last-byte-held", [b"ab", b"cd"], b"abc"),
    ("last-byte-lost-at-fin", [b"ab"], b"a"),
    ("proxy-v1-eaten", [b"PROX", b"Y abc", b"PROXY "], b"abcPROXY "),
    ("proxy-v2-mute", [b"\r\n\r\n\0\r\nQUIT\n", b"abc"], b""),
    ("http-answered", [b"GET /", b"abc"], b"abc"),
    ("http-answered", [b"GEX /", b"abc"], b"GEX /abc"),
    ("tls-reset", [b"\x16\x03\x01", b"abc"], b""),
    ("ssh-mute", [b"SSH-2", b"abc"], b""),
    ("segment-short=3", [b"abc", b"abcd", b"ab"], b"ababcdab"),
    ("segment-cut=3", [b"abcde", b"ab"], b"abcab"),
    ("segment-swapped=2", [b"abcde", b"ab"], b"cdabeab"),
    ("zeros-short=3", [bytes(3), b"abc", bytes(2)], bytes(2) + b"abc" + bytes(2)),
    ("multiple-lost=2", [b"ab", b"abc", b"abcd"], b"abc"),
    ("one-byte-lost", [b"a", b"ab"], b"ab"),
    ("later-short", [b"ab", b"ab", b"a"], b"abaa"),
    ("run-length", [A * 256, A * 255, b"b" + A * 255], A * 255 + A * 255 + b"b" + A * 255),
    ("segment-doubled=2", [b"a", b"b", b"c"], b"abbc"),
    ("stall-at=3", [b"ab", b"cd", b"ef"], b""),
    ("policer=3", [b"ab", b"cd", b"ef"], b"abc"),
    ("crash-on=2", [b"ab", b"abc", b"a"], b""),
    ("restart-on=ff", [b"ab", b"a\xff"], b"ab"),
    ("flood-after=ff", [b"a", b"\xff"], b"a"),
    ("etx-resets", [b"a\x03"], b""),
]


@pytest.mark.parametrize(("fault", "segments", "expected"), BYTES)
def test_what_the_server_is_sent(
    fault: str, segments: list[bytes], expected: bytes, loop: Loop
) -> None:
    sent, events = passed(loop, [fault], segments)
    assert sent == expected
    noted = [event for event in events if event.kind == "fault"]
    # last-byte-held and last-byte-lost-at-fin have done nothing until FIN comes.
    if expected != b"".join(segments) and not fault.startswith("last-byte"):
        assert noted, events
        assert {event.fault for event in noted} == {fault}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_note_says_exactly_what_was_changed(fault: object, loop: Loop) -> None:
    """Applying the noted changes to what was sent gives what the server got."""
    for text, segments, expected in BYTES:
        if text.partition("=")[0] != getattr(fault, "name", ""):
            continue
        _, events = passed(loop, [text], segments)
        changes = [event.details for event in events if event.details.get("action") == "changed"]
        if not changes:
            continue
        whole = b"".join(segments)
        for change in reversed(changes):
            at, removed = change["at"], bytes.fromhex(change["removed"])
            inserted = bytes.fromhex(change["inserted"])
            if change["removed_bytes"] > len(removed) or change["inserted_bytes"] > len(inserted):
                break  # More than a note shows.
            assert whole[at : at + len(removed)] == removed
            whole = whole[:at] + inserted + whole[at + len(removed) :]
        else:
            assert whole.startswith(expected)


def test_the_order_of_faults_counts(loop: Loop) -> None:
    one, other = "replace=41,42", "replace=42,43"
    assert passed(loop, [one, other], [b"AB"])[0] == b"CC"
    assert passed(loop, [other, one], [b"AB"])[0] == b"BC"


def test_offsets_are_those_of_the_stage(loop: Loop) -> None:
    """The second of two stages counts what the first has passed on."""
    sent, events = passed(loop, ["drop-at=0", "flip-at=0"], [b"ab", b"c"])
    assert sent == b"cc"
    assert [event.as_text() for event in events if event.kind == "fault"] == [
        "connection 1: drop-at=0: removed 1 byte at 0: 61",
        "connection 1: flip-at=0: replaced 1 byte at 0: 62 with 63",
    ]


# With a client and the echo behind the relay.


def test_urgent_data() -> None:
    for faults, expected in ((), b"abc"), (("urgent-lost",), b"ac"):
        with Path(*map(named, faults)) as path, connect(path.port) as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
            client.send(b"b", socket.MSG_OOB)
            client.sendall(b"c")
            client.shutdown(socket.SHUT_WR)
            assert b"a" + read_all(client)[0] == expected


# Several connections.


def test_answers_crossed_and_copied() -> None:
    with Path(named("answers-crossed")) as path, connect(path.port) as one:
        one.sendall(b"1")
        assert one.recv(10) == b"1"
        with connect(path.port) as other:
            other.sendall(b"2")
            assert one.recv(10) == b"2"
    with Path(named("answers-copied")) as path, connect(path.port) as one:
        one.sendall(b"1")
        assert one.recv(10) == b"1"
        with connect(path.port) as other:
            other.sendall(b"2")
            assert (one.recv(10), other.recv(10)) == (b"2", b"2")


def test_one_at_a_time() -> None:
    with Path(named("one-at-a-time")) as path, connect(path.port) as one:
        one.sendall(b"1")
        assert one.recv(10) == b"1"
        with connect(path.port, timeout=0.05) as other, connect(path.port) as third:
            other.sendall(b"2")
            third.sendall(b"3")
            with pytest.raises(TimeoutError):
                other.recv(10)
            one.close()
            other.settimeout(10)
            # The relay waits for the client's FIN, and the echo's.
            assert other.recv(10) == b"2"
            other.close()
            assert third.recv(10) == b"3"


def test_some_at_a_time() -> None:
    with Path(named("serves-at-most=2")) as path, connect(path.port), connect(path.port) as two:
        two.sendall(b"2")
        assert two.recv(10) == b"2"
        third = connect(path.port, timeout=0.05)
        third.sendall(b"3")
        with pytest.raises(TimeoutError):
            third.recv(10)
        two.close()
        third.settimeout(10)
        assert third.recv(10) == b"3"
        third.close()


def test_a_reset_kills_all() -> None:
    with Path(named("reset-kills-all")) as path, connect(path.port) as one:
        one.sendall(b"1")
        assert one.recv(10) == b"1"
        other = connect(path.port)
        other.sendall(b"2")
        assert other.recv(10) == b"2"
        reset(other)
        assert read_all(one) == (b"", "reset")


def test_a_limit_of_connections() -> None:
    with Path(named("at-most=1")) as path, connect(path.port) as one:
        one.sendall(b"1")
        assert one.recv(10) == b"1"
        assert converse(path.port)[1] == "reset"
        one.shutdown(socket.SHUT_WR)
        assert read_all(one) == (b"", "eof")
        assert converse(path.port, b"2") == (b"2", "eof")


def test_every_second() -> None:
    with Path(named("nth-reset=2")) as path:
        ends = [converse(path.port, b"x")[1] for _ in range(4)]
    assert ends == ["eof", "reset", "eof", "reset"]


def test_it_dies() -> None:
    with Path(named("dies-at=2")) as path:
        assert converse(path.port, b"x") == (b"x", "eof")
        with connect(path.port) as one:
            assert converse(path.port, b"x") == (b"", "reset")
            assert read_all(one) == (b"", "reset")
        with pytest.raises(ConnectionRefusedError):
            connect(path.port)


def test_a_flood() -> None:
    for fault in ("flood", "flood-after=ff"):
        with Path(named(fault)) as path, connect(path.port) as client:
            client.sendall(b"\xff")
            zeros = 0
            while zeros < 3_000_000:
                data = client.recv(65536)
                assert data
                zeros += data.count(0)


# Rates.


def acted_on(fault: str, connections: int, seed: int = 0) -> list[int]:
    chosen = choose(fault, FAULTS)
    loop = Loop()
    shared = Shared(loop, Log(), lambda ms: None, seed)
    numbers = [
        number
        for number in range(1, connections + 1)
        if chosen.acts_on(Connection(shared, number, "").chance(0))
    ]
    loop.stop()
    loop.run()
    return numbers


def test_a_rate_is_one_of_connections_and_its_seed_repeats_it() -> None:
    once = acted_on("iac-swallowed@10%", 1000)
    assert 70 <= len(once) <= 130
    assert once == acted_on("iac-swallowed@10%", 1000)
    assert once != acted_on("iac-swallowed@10%", 1000, seed=1)
    assert acted_on("iac-swallowed", 3) == acted_on("iac-swallowed@100%", 3) == [1, 2, 3]


def test_the_connections_of_a_rate_are_those_that_are_drawn() -> None:
    expected = acted_on("nth-reset=1@50%", 20, seed=862)
    with Path(named("nth-reset=1@50%")) as path:
        reset_ = [n for n in range(1, 21) if converse(path.port, b"x")[1] == "reset"]
    assert reset_ == expected


def test_every_fault_is_in_a_table_here() -> None:
    """A fault that is added gets a row."""
    text = "".join(file.read_text() for file in File(__file__).parent.glob("test_faults*.py"))
    assert [fault.name for fault in FAULTS if f'"{fault.name}' not in text] == []
