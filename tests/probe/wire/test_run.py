from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
import tracemalloc
from dataclasses import replace

import pytest

from echoproto.probe.report.describe import describe
from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Action, Fault, Outcome
from tests.probe.conftest import Handler, echo, serving
from tests.probe.faulty_paths import NOT_AN_ECHO, Path

LIMITS = Limits(stall=2, half_close=True)
# For what ends only with the timeout; long enough for a server thread of a busy machine.
QUICK = Limits(stall=1.0, half_close=True)
TIMED = replace(LIMITS, half_close=False)

RIGHT = [
    "nothing",
    "fin",
    "reset",
    "send 00",
    "send 00; reset",
    "send 00; await; reset",
    "send 00*1000000; reset",
    "send 0d ff; await; send 00*4097; fin",
    "send (00..fa)*8000",
    "pause 5; send 00; pause 5; fin; pause 5; await",
    "slow 1000000; send 00*20000; await; fin",
    "hold 20; send 00*200000; await; hold 5; fin; hold 5",
    "hold 10; slow 10000000; send 00*20000; pause 5; reset",
    "send 00 | send 01; reset | nothing | fin",
    "send 00*100000 then reset then send 01",
    "absent 5; send 00; fin then absent 5; send 01 then absent 5",
]


@pytest.mark.parametrize("script", RIGHT)
@pytest.mark.parametrize("limits", [LIMITS, TIMED], ids=["by eof", "by time"])
def test_a_correct_echo(script: str, limits: Limits, right_connector: Connector) -> None:
    outcome = run(Session.parse(script), right_connector, limits)
    assert outcome.ok, outcome.verdict.message
    assert len(outcome.verdicts) == len(outcome.timelines) == len(outcome.session.conversations)
    for timeline in outcome.timelines:
        assert timeline[0].action is Action.CONNECTED
        assert timeline[-1].action is Action.CLOSED
        assert [event.at for event in timeline] == sorted(event.at for event in timeline)


def test_the_time_line_shows_what_was_sent_and_received(right_connector: Connector) -> None:
    outcome = run(Conversation.parse("send 41*100; await; fin"), right_connector, LIMITS)
    (events,) = outcome.timelines
    assert [(event.action, event.step) for event in events if event.action is not
            Action.RECEIVED] == [
        (Action.CONNECTED, None), (Action.SENT, 0), (Action.AWAITED, 1), (Action.SENT_FIN, 2),
        (Action.GOT_EOF, None), (Action.CLOSED, None),
    ]  # fmt: skip
    received = [event for event in events if event.action is Action.RECEIVED]
    assert sum(event.size for event in received) == 100
    assert received[0].data == b"A" * 64
    ((size, seconds),) = outcome.round_trips
    assert size == 100
    assert 0 < seconds < outcome.seconds


def test_a_reader_that_holds_reads_nothing_and_sends_all(right_connector: Connector) -> None:
    outcome = run(Conversation.parse("hold 500; send 41*1000; fin"), right_connector, LIMITS)
    assert outcome.ok
    (events,) = outcome.timelines
    at = {event.action: event.at for event in reversed(events)}
    assert at[Action.SENT_FIN] < at[Action.RECEIVED]
    assert at[Action.RECEIVED] - at[Action.HELD] >= 0.5
    # It is not the path that took so long.
    assert outcome.wait < 0.5


def test_it_connects_after_a_time_without_a_connection(right_connector: Connector) -> None:
    outcome = run(Session.parse("send 41 then absent 60; send 42"), right_connector, LIMITS)
    closed, connected = outcome.timelines[0][-1], outcome.timelines[1][0]
    assert closed.action is Action.CLOSED
    assert connected.action is Action.CONNECTED
    assert 0.05 < connected.at - closed.at < 10


def test_a_reader_that_holds_is_not_late(right_connector: Connector) -> None:
    limits = replace(LIMITS, stall=0.4, late=0.2)
    assert run(Conversation.parse("hold 800; send 41; await"), right_connector, limits).ok


def broken(handler: Handler, script: str, limits: Limits = LIMITS) -> Outcome:
    """The outcome of a conversation with a server that does ``handler``."""
    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        made = Connector(target, target.addresses()[0])
        return run(Session.parse(script), made, limits)


def answer(data: bytes, then: Handler | None = None) -> Handler:
    """Read once, send ``data``, and close, or do ``then``."""

    def handler(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(data)
        if then is not None:
            then(sock)

    return handler


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def discard(sock: socket.socket) -> None:
    """Read to the end and send nothing."""
    while sock.recv(65536):
        pass


def hang(sock: socket.socket) -> None:
    """Do nothing until the other side resets."""
    poll = select.poll()
    poll.register(sock, 0)
    poll.poll(5000)


def test_corrupt() -> None:
    verdict = broken(answer(b"abXd"), "send 61 62 63 64").verdict
    assert verdict.kind is Fault.CORRUPT
    assert verdict.message == "byte 2 came back as 58 instead of 63"
    assert (verdict.offset, verdict.context) == (2, 0)
    assert (verdict.expected, verdict.got) == (b"abcd", b"abXd")


def test_the_verdict_has_the_bytes_around_the_difference() -> None:
    payload = bytes(range(100))
    wrong = payload[:50] + b"\xff" + payload[51:]
    verdict = broken(answer(wrong), f"send {payload.hex(' ')}").verdict
    assert (verdict.offset, verdict.context) == (50, 42)
    assert verdict.expected == payload[42:74]
    assert verdict.got == wrong[42:74]


def test_extra() -> None:
    verdict = broken(answer(b"ab!"), "send 61 62").verdict
    assert (verdict.kind, verdict.offset) == (Fault.EXTRA, 2)
    assert verdict.message == "1 extra byte came back after the 2 sent"
    assert broken(lambda sock: sock.sendall(b"220 hello"), "nothing").kind is Fault.EXTRA


def test_bytes_that_arrive_before_they_are_sent_are_extra() -> None:
    assert broken(answer(b"ab", discard), "send 61; await; send 62").kind is Fault.EXTRA


def test_truncated() -> None:
    verdict = broken(answer(b"a"), "send 61 62 63").verdict
    assert (verdict.kind, verdict.offset) == (Fault.TRUNCATED, 1)
    assert "after 1 of 3 bytes, 2 missing" in verdict.message
    assert broken(answer(b"a"), "send 61; await; pause 20; send 62; await").kind in (
        Fault.TRUNCATED,
        Fault.RESET,
    )


def test_stalled() -> None:
    for script in ("send 61 62", "send 61 62; await", "send 61 62; fin"):
        outcome = broken(answer(b"a", hang), script, QUICK)
        assert outcome.kind is Fault.STALLED
        assert "1 of 2 bytes came back" in outcome.verdict.message
        assert outcome.timelines[0][-2].action is Action.TIMED_OUT


def test_stalled_while_sending() -> None:
    assert broken(hang, "send 00*20000000", QUICK).kind is Fault.STALLED


def test_never_closed() -> None:
    outcome = broken(answer(b"a", hang), "send 61", QUICK)
    assert outcome.kind is Fault.NEVER_CLOSED
    assert "all bytes (1) are back, but no EOF" in outcome.verdict.message


def test_bytes_received_before_a_reset_are_judged() -> None:
    verdict = broken(answer(b"ab", reset), "send 61 62 63; pause 30; await").verdict
    assert verdict.kind is Fault.RESET
    assert verdict.received == 2
    assert "after 2 of 3 bytes" in verdict.message
    wrong = broken(answer(b"aX", reset), "send 61 62 63; pause 30; await").verdict
    assert wrong.kind is Fault.CORRUPT


def test_reset_instead_of_a_close() -> None:
    def handler(sock: socket.socket) -> None:
        echo(sock)
        reset(sock)

    verdict = broken(handler, "send 61").verdict
    assert verdict.kind is Fault.RESET
    assert "instead of an orderly close" in verdict.message


def test_bytes_received_before_a_failing_send_are_judged() -> None:
    def handler(sock: socket.socket) -> None:
        sock.sendall(sock.recv(1))
        reset(sock)

    outcome = broken(handler, "send 61; pause 50; send 62; pause 50; send 63; await")
    assert outcome.kind is Fault.RESET
    assert outcome.verdict.received == 1


def test_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target.parse(f"127.0.0.1:{unused.getsockname()[1]}")
        outcome = run(Conversation(), Connector(target, target.addresses()[0]), LIMITS)
    assert outcome.kind is Fault.REFUSED
    assert "connection refused" in outcome.verdict.message


def test_no_answer_to_the_first_packet() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        made = Connector(target, target.addresses()[0])
        waiting = [socket.socket() for _ in range(4)]  # they fill the accept queue
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        outcome = run(Conversation(), made, replace(LIMITS, connect=0.2))
        for sock in waiting:
            sock.close()
    assert outcome.kind is Fault.REFUSED
    assert "timed out after 0.2 s" in outcome.verdict.message


@pytest.mark.parametrize(("sent", "kind"), [(64, Fault.CROSS_TALK), (1, Fault.CORRUPT)])
def test_cross_talk(sent: int, kind: Fault) -> None:
    mixed: list[socket.socket] = []
    both = threading.Event()

    def first_or_second(sock: socket.socket) -> None:
        mixed.append(sock)
        if len(mixed) == 2:
            both.set()
        both.wait(2)
        other = mixed[1 - mixed.index(sock)]
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                other.sendall(data)

    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def accept() -> None:
        for _ in range(2):
            sock, _ = listener.accept()
            thread = threading.Thread(target=first_or_second, args=(sock,))
            thread.start()
            threads.append(thread)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
    outcome = run(Session.parse(f"send 41*{sent} | send 42*{sent}"), connect_only(target), LIMITS)
    acceptor.join()
    for sock in mixed:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for sock in (*mixed, listener):
        sock.close()
    assert outcome.kind is kind  # one byte is found anywhere
    named = "the bytes of conversation 2 came back" in outcome.verdicts[0].message
    assert named is (kind is Fault.CROSS_TALK)


def connect_only(target: Target) -> Connector:
    return Connector(target, target.addresses()[0])


def test_a_connection_that_blocks_the_next_is_detected() -> None:
    outcome = broken(echo, "nothing | send 00", QUICK)
    assert [verdict.kind for verdict in outcome.verdicts] == [Fault.NONE, Fault.STALLED]
    assert outcome.index == 1


def test_a_flood_ends_in_bounded_time_and_memory() -> None:
    def flood(sock: socket.socket) -> None:
        while True:
            sock.sendall(bytes(65536))

    tracemalloc.start()
    try:
        began = time.monotonic()
        outcome = broken(flood, "pause 200; send 61; await")
        assert time.monotonic() - began < 30
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert outcome.kind is Fault.EXTRA


def test_a_path_that_trickles_ends_too() -> None:
    def drip(sock: socket.socket) -> None:
        for byte in sock.recv(65536):
            sock.sendall(bytes([byte]))
            time.sleep(0.05)

    outcome = broken(drip, "send 00*1000", replace(LIMITS, total=0.5))
    assert outcome.kind is Fault.STALLED
    assert "not done" in outcome.verdict.message
    assert outcome.seconds < 10  # and not the 50 s that all of it takes


def test_a_long_time_line_is_cut(right_connector: Connector) -> None:
    script = "; ".join(["send 61; await"] * 300)
    (events,) = run(Conversation.parse(script), right_connector, LIMITS).timelines
    assert len(events) <= 401
    assert events[-1].action is Action.CLOSED


def test_ipv6() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    with serving(echo, listener):
        made = connect(Target.parse(f"[::1]:{listener.getsockname()[1]}"))
        for script in RIGHT[:9]:
            assert run(Session.parse(script), made, LIMITS).ok, script


def test_unix_socket(unix_path: str) -> None:
    made = connect(Target.parse(f"unix:{unix_path}"))
    for script in RIGHT[:9]:
        assert run(Session.parse(script), made, LIMITS).ok, script


def test_unix_socket_whose_accept_queue_is_full(tmp_path: object) -> None:
    path = f"{tmp_path}/full.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            made = connect_only(Target.parse(f"unix:{path}"))
            outcome = run(Conversation(), made, replace(LIMITS, connect=0.1))
            assert outcome.kind is Fault.REFUSED


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_proxy_header_goes_first(version: str) -> None:
    heads: list[bytes] = []

    def handler(sock: socket.socket) -> None:
        head = b""
        end = b"\r\n" if version == "v1" else b"\0\x0c"
        while end not in head:
            head += sock.recv(1)
        if version == "v2":
            head += sock.recv(12)
        heads.append(head)
        echo(sock)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        target = Target.parse(f"127.0.0.1:{port}", send_proxy=version)
        assert run(Conversation.parse("send 61"), connect_only(target), LIMITS).ok
    assert heads[0].startswith(b"PROXY TCP4 127.0.0.1 " if version == "v1" else b"\r\n\r\n\0")


def test_a_path_that_hangs_takes_one_timeout_for_a_sequential_session() -> None:
    began = time.monotonic()
    with Path(NOT_AN_ECHO["hanging"]) as path:
        outcome = run(
            Session.parse(" then ".join(["send 61"] * 100)),
            connect(Target.parse(f"127.0.0.1:{path.port}")),
            Limits(stall=0.1, half_close=True),
        )
    assert time.monotonic() - began < 5
    assert [verdict.kind for verdict in outcome.verdicts] == [Fault.STALLED] + [Fault.NONE] * 99
    assert outcome.verdicts[1].message.startswith("not run")
    assert describe(outcome)[0].startswith("stalled")
