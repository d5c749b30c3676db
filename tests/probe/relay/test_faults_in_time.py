"""What each fault does at the end of a conversation, and over time; the time is simulated."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.probe.relay.clients import reset
from tests.probe.relay.simulated import SimulatedClient, SimulatedRelay


@pytest.mark.parametrize(
    ("fault", "steps", "came_back", "end"),
    [
        ("close-at-fin", [b"ab"], b"", "eof"),
        ("close-at-fin", [b"ab", 1, b"cd"], b"ab", "eof"),
        ("close-at-fin", [b"ab", 2], b"ab", "eof"),
        ("end-resets", [b"ab"], b"ab", "reset"),
        ("bulk-cut-at-end=1", [b"ab"], b"a", "eof"),
        ("bulk-cut-at-end=1", [b"ab", b"cd"], b"a", "eof"),
        ("bulk-cut-at-end=1", [b"ab", 3, b"cd"], b"abc", "eof"),
        ("one-answer", [b"ab"], b"ab", "eof"),
        ("one-answer", [b"ab", b"cd"], b"ab", "eof"),
        ("empty-resets", [], b"", "reset"),
        ("empty-resets", [b"ab"], b"ab", "eof"),
        ("trailer", [b"ab"], b"ab\r\n", "eof"),
        ("trailer=2e", [b"ab"], b"ab.", "eof"),
        ("cut-after-fin=3s", [b"ab"], b"ab", "eof"),
        ("last-byte-held", [b"ab"], b"a", "eof"),
        ("last-byte-held", [b"ab", 1000], b"a", "eof"),
        ("last-byte-lost-at-fin", [b"ab"], b"a", "eof"),
        ("last-byte-lost-at-fin", [b"ab", 2], b"a", "eof"),
        ("last-byte-lost-at-fin", [b"ab", 4], b"ab", "eof"),
        ("http-answered", [b"GET /"], b"HTTP/1.1 400 Bad Request\r\n\r\n", "eof"),
        ("tls-reset", [b"\x16\x03\x01"], b"", "reset"),
        ("eot-is-eof", [b"ab\x04cd"], b"ab", "eof"),
        ("etx-resets", [b"ab\x03"], b"", "reset"),
        ("xonxoff", [b"ab", b"\x13", b"cd", b"\x11"], b"abcd", "eof"),
        ("quick-writes-overwritten", [b"ab", b"cd"], b"cd", "eof"),
        ("quick-writes-overwritten", [b"ab", 19, b"cd"], b"cd", "eof"),
        ("quick-writes-overwritten", [b"ab", 21, b"cd"], b"abcd", "eof"),
        ("idle-reset=300ms", [b"ab", 301, b"cd"], b"ab", "reset"),
        ("idle-reset=300ms", [b"ab", 299, b"cd"], b"abcd", "eof"),
        ("idle-loses=300ms", [b"ab", 301, b"cd"], b"abd", "eof"),
        ("idle-loses=300ms", [b"ab", 299, b"cd"], b"abcd", "eof"),
        ("idle-cut=300ms", [301, b"ab"], b"", "reset"),
        ("idle-cut=300ms", [299, b"ab", 299, b"cd"], b"abcd", "eof"),
        ("idle-close=300ms", [b"ab", 299, b"cd", 301], b"abcd", "eof"),
        ("idle-close=20s", [b"ab"], b"ab", "eof"),
        ("drops-at-end=1ms", [b"ab"], b"ab", "eof"),
        ("write-timeout=1ms", [b"ab"], b"ab", "eof"),
        ("silent-start=10ms", [11, b"ab"], b"SSH-2.0-x\r\nab", "eof"),
        ("silent-start=10ms", [9, b"ab", 9, b"cd"], b"abcd", "eof"),
        ("greeting", [b"ab"], b"220 ready\r\nab", "eof"),
        ("greeting=2", [b"ab"], b"ab", "eof"),
        ("at-most=1", [b"ab"], b"ab", "eof"),
        ("nth-reset=1", [], b"", "reset"),
        ("reset-from=1", [], b"", "reset"),
        ("stale-after=1ms", [b"ab"], b"ab", "eof"),
        ("dies-at=1", [b"ab"], b"", "reset"),
        ("crash-on=1", [b"ab"], b"", "reset"),
        ("policer=3", [b"ab", b"cd"], b"abc", "eof"),
        ("policer=3", [b"ab", 19, b"cd", 19, b"ef"], b"abcef", "eof"),
    ],
)
def test_what_comes_back(fault: str, steps: list[bytes | int], came_back: bytes, end: str) -> None:
    with SimulatedRelay(fault) as relay:
        assert relay.converse(*steps) == (came_back, end)


@pytest.mark.parametrize(
    ("fault", "steps", "came_back"),
    [
        ("end-not-passed-on", [b"ab"], b"ab"),
        ("lingers-after=1", [b"ab"], b"ab"),
        ("xonxoff", [b"\x13ab"], b""),
        ("idle-mute=300ms", [b"ab", 301, b"cd"], b"ab"),
        ("idle-mute=300ms", [b"ab", 299, b"cd", 301, b"ef"], b"abcd"),
        ("stall-at=1", [b"a", b"b"], b"a"),
        ("nth-mute=1", [b"ab"], b""),
        ("mute-from=1", [b"ab"], b""),
        ("ssh-mute", [b"SSH-"], b""),
        ("proxy-v2-mute", [b"\r\n\r\n\0\r\nQUIT\n"], b""),
    ],
)
def test_a_path_that_hangs(fault: str, steps: list[bytes | int], came_back: bytes) -> None:
    with SimulatedRelay(fault) as relay:
        assert relay.converse(*steps) == (came_back, "open")


@pytest.mark.parametrize(
    ("fault", "end"), [("idle-cut=300ms", "reset"), ("idle-close=300ms", "eof")]
)
def test_when_a_silent_client_is_cut(fault: str, end: str) -> None:
    with SimulatedRelay(fault) as relay, contextlib.closing(relay.connect()) as client:
        client.send(b"ab")
        relay.advance(200)
        client.send(b"cd")
        assert client.received() == (b"abcd", "open")
        relay.advance(299)
        assert client.received() == (b"", "open")
        relay.advance(2)
        assert client.received() == (b"", end)


def test_idle_cut_spares_a_client_that_has_ended() -> None:
    with SimulatedRelay("latency=600ms", "idle-cut=300ms") as relay:
        assert relay.converse(b"ab")[1] == "reset"
    with SimulatedRelay("idle-cut=300ms", "latency=600ms") as relay:
        assert relay.converse(b"ab") == (b"ab", "eof")


def test_cut_after_fin_cuts_what_is_on_its_way() -> None:
    with SimulatedRelay("cut-after-fin=20ms", "latency=1s") as relay:
        assert relay.converse(b"ab") == (b"", "eof")
    with SimulatedRelay("cut-after-fin=20ms", "latency=9ms") as relay:
        assert relay.converse(b"ab") == (b"ab", "eof")


def test_closes_unread() -> None:
    with SimulatedRelay("closes-unread=10") as relay:
        with contextlib.closing(relay.connect()) as client:
            client.send(bytes(10))
            assert client.received() == (bytes(10), "open")
            client.send(b"x")
            assert client.received() == (b"x", "eof")
        with contextlib.closing(relay.connect()) as client:
            # More than one read of the relay, which leaves the rest.
            client.send(bytes(300_000))
            assert client.received()[1] == "reset"


def time_of_all(relay: SimulatedRelay, client: SimulatedClient) -> float:
    """How much time passes until the relay has closed the connection, in milliseconds."""
    while client.connection.client.open:
        due = relay.loop.next_due
        assert due is not None
        relay.advance(max(0.0, 1000 * due - relay.ms))
    return relay.ms


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        ("latency=30ms", 60, 60),
        ("delay-one-in=1,30ms", 60, 60),
        # Both directions at once: 200 bytes, and of the other one the last chunk (at most 20 ms).
        ("bandwidth=10k", 35, 35),
        ("bandwidth=1k", 220, 220),
        # 10 pieces in each direction, which begin together.
        ("slice=20", 10, 11),
        ("slice=20,500ms", 5000, 5500),
        ("jitter=30ms", 1, 60),
    ],
)
def test_a_delay_loses_nothing(fault: str, least: float, most: float) -> None:
    data = bytes(range(200))
    with SimulatedRelay(fault) as relay, contextlib.closing(relay.connect()) as client:
        client.send(data[:150])
        client.send(data[150:])
        client.end()
        lasted = time_of_all(relay, client)
        assert client.received() == (data, "eof")
    assert least - 0.5 <= lasted <= most + 0.5


def test_slices_arrive_one_after_the_other() -> None:
    with SimulatedRelay("slice=5,500ms") as relay, contextlib.closing(relay.connect()) as client:
        client.send(b"0123456789")
        came = []
        for _ in range(4):
            relay.advance(501)
            came.append(client.received()[0])
    assert [piece for piece in came if piece] == [b"01234", b"56789"]


def test_the_first_client_after_a_while_without_any() -> None:
    with SimulatedRelay("stale-after=400ms") as relay:
        one = relay.connect()
        relay.advance(500)
        assert relay.converse(b"x") == (b"x", "eof")  # there is another one
        reset(one.sock)
        relay.turn_until(lambda: not one.connection.client.open)
        relay.advance(399)
        assert relay.converse(b"x") == (b"x", "eof")
        relay.advance(401)
        assert relay.converse(b"x") == (b"", "reset")
        assert relay.converse(b"x") == (b"x", "eof")


def test_a_restart() -> None:
    with SimulatedRelay("restart-on=ff,300ms") as relay:
        with contextlib.closing(relay.connect()) as one, contextlib.closing(relay.connect()) as two:
            one.send(b"ab")
            two.send(b"a\xff")
            assert one.received() == (b"ab", "reset")
            assert two.received() == (b"", "reset")
        relay.advance(299)
        with pytest.raises(ConnectionRefusedError):
            relay.connect()
        relay.advance(2)
        assert relay.converse(b"ab") == (b"ab", "eof")


def test_what_arrives_after_a_crash_changes_nothing() -> None:
    """Bytes that were on their way then, to a relay that is away."""
    with SimulatedRelay("latency=10ms", "restart-on=ff,300ms") as relay:
        clients = [relay.connect() for _ in range(3)]
        for client in clients:
            client.send(b"\xff")
            client.send(b"\xff")
        relay.advance(20)
        for client in clients:
            assert client.received() == (b"", "reset")
            client.close()
        relay.advance(300)
        assert relay.converse(b"ab", 20) == (b"ab", "eof")


def test_a_restart_while_another_has_the_port() -> None:
    with SimulatedRelay("restart-on=ff") as relay:
        assert relay.converse(b"\xff") == (b"", "reset")
        with socket.create_server(("127.0.0.1", relay.port)):
            relay.advance(300)
        relay.advance(200)
        assert relay.converse(b"ab") == (b"ab", "eof")


def test_a_buffer_that_is_left() -> None:
    with SimulatedRelay("leftover-after-reset") as relay:
        one = relay.connect()
        one.send(b"1")
        assert one.received() == (b"1", "open")
        reset(one.sock)
        relay.turn_until(lambda: not one.connection.client.open)
        assert relay.converse(b"2") == (b"2left over", "eof")
        assert relay.converse(b"2") == (b"2", "eof")


def test_nothing_comes_back_after_one_answer() -> None:
    with SimulatedRelay("one-answer") as relay, contextlib.closing(relay.connect()) as client:
        client.send(b"ab")
        assert client.received() == (b"ab", "open")
        client.send(b"cd")
        assert client.received() == (b"", "eof")


# A client that does not read.

#: More than a relay, and the kernel for it, keep for a client that does not read, but not much.
HELD = 130_000


@pytest.mark.parametrize(
    ("fault", "fin", "end"),
    [
        ("write-timeout=20ms", False, "reset"),
        ("write-timeout=20ms", True, "reset"),
        ("drops-at-end=20ms", True, "eof"),
        ("cut-after-fin=20ms", True, "eof"),
    ],
)
def test_a_client_that_does_not_read(fault: str, fin: bool, end: str) -> None:
    with (
        SimulatedRelay(fault) as relay,
        contextlib.closing(relay.connect(receive_buffer=4096)) as client,
    ):
        client.send(bytes(HELD))
        if fin:
            client.end()
        relay.advance(18)
        assert client.connection.client.open
        relay.advance(4)
        assert not client.connection.client.open
        received, ended = client.received()
    assert ended == end
    assert len(received) < HELD


@pytest.mark.parametrize("fault", ["write-timeout=20ms", "drops-at-end=20ms", "cut-after-fin=20ms"])
def test_a_client_that_reads_in_time(fault: str) -> None:
    with (
        SimulatedRelay(fault) as relay,
        contextlib.closing(relay.connect(receive_buffer=4096)) as client,
    ):
        client.send(bytes(HELD))
        client.end()
        relay.advance(18)
        assert client.read_on() == (bytes(HELD), "eof")


def test_a_slow_reader_loses() -> None:
    with (
        SimulatedRelay("slow-reader-loses=4096") as relay,
        contextlib.closing(relay.connect(receive_buffer=4096)) as client,
    ):
        client.send(bytes(400_000))
        client.end()
        received, end = client.read_on()
    assert end == "eof"
    assert 65536 <= len(received) < 400_000


def test_a_slow_reader_is_reset() -> None:
    with (
        SimulatedRelay("slow-reader-reset=20ms") as relay,
        contextlib.closing(relay.connect(receive_buffer=4096)) as client,
    ):
        client.send(bytes(100_000))
        relay.advance(1000)
        assert client.connection.client.open
        client.fill(100_000_000)
        relay.advance(19)
        assert client.connection.client.open
        relay.advance(2)
        assert not client.connection.client.open
        assert client.received()[1] == "reset"
