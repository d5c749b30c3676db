"""A relay without faults passes on what each side does, and no byte is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echoproto.probe import EchoTarget
from echoproto.probe.relay.broken_path import BrokenPath, BrokenPaths
from echoproto.probe.relay.fault import FaultError
from echoproto.probe.script.conversation import Session
from echoproto.probe.script.strategies import sessions
from echoproto.probe.wire.target import Target, TargetError
from tests.probe.conftest import echo, serving
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import named
from tests.probe.relay.clients import accept, connect, converse, listener, port_of, read_all, reset


@pytest.fixture
def paths() -> Iterator[BrokenPaths]:
    with BrokenPaths() as paths:
        yield paths


Ends = tuple[socket.socket, socket.socket, BrokenPath]


@pytest.fixture
def ends(paths: BrokenPaths) -> Iterator[Ends]:
    """A client and the server's side of its connection, with a correct path in between."""
    with listener() as server:
        path = paths(target=f"127.0.0.1:{port_of(server)}")
        with connect(path.port) as client, accept(server) as served:
            yield client, served, path


def closed(path: BrokenPath) -> dict[str, object]:
    """The details of the event that says how the only connection has ended."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = [event.details for event in path.events if event.kind == "closed"]
        if found:
            return found[0]
        time.sleep(0.002)
    raise AssertionError(path.events)


def filled(sock: socket.socket) -> int:
    """Send until nothing is taken for a while; return how many bytes were."""
    sock.settimeout(0.1)
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(262144))
    except TimeoutError:
        sock.settimeout(10)
        return sent


def test_the_client_half_closes_first(ends: Ends) -> None:
    client, server, path = ends
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(server) == (b"question", "eof")
    server.sendall(b"answer")
    server.close()
    assert read_all(client) == (b"answer", "eof")
    assert closed(path) == {
        "how": "both sides have closed",
        "client_sent": 8,
        "to_server": 8,
        "server_sent": 6,
        "to_client": 6,
        "lasted": closed(path)["lasted"],
    }


def test_the_server_half_closes_first(ends: Ends) -> None:
    client, server, path = ends
    server.sendall(b"hello")
    server.shutdown(socket.SHUT_WR)
    assert read_all(client) == (b"hello", "eof")
    client.sendall(b"later")
    time.sleep(0.01)
    client.sendall(b"still")
    client.close()
    assert read_all(server) == (b"laterstill", "eof")
    assert closed(path)["how"] == "both sides have closed"


def test_a_large_question_behind_an_early_answer(ends: Ends) -> None:
    """The server has ended; what it has not read yet is not lost."""
    client, server, _ = ends
    server.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b""
    sent = filled(client)
    client.shutdown(socket.SHUT_WR)
    received, end = read_all(server)
    assert (len(received), end) == (sent, "eof")


def test_a_reset_of_the_client(ends: Ends) -> None:
    client, server, path = ends
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    reset(client)
    assert read_all(server) == (b"", "reset")
    assert closed(path)["how"] == "reset by the client"


def test_a_reset_while_the_server_is_not_reached_yet(paths: BrokenPaths) -> None:
    with listener() as server:
        path = paths(target=f"127.0.0.1:{port_of(server)}")
        for _ in range(50):
            reset(connect(path.port))
        # A client that is gone before it is accepted may never reach the server.
        for _ in range(50):
            server.settimeout(0.1)
            try:
                served = accept(server)
            except TimeoutError:
                break
            with served:
                assert read_all(served) == (b"", "reset")


def test_a_reset_of_the_server(ends: Ends) -> None:
    client, server, path = ends
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    reset(server)
    assert read_all(client) == (b"", "reset")
    assert closed(path)["how"] == "reset by the server"


def test_a_reset_after_fin(ends: Ends) -> None:
    client, server, path = ends
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    reset(client)
    assert closed(path)["how"] == "reset by the client"
    # After FIN, only writing shows a reset (tcp_reset in the kernel: CLOSE_WAIT, EPIPE).
    with pytest.raises(BrokenPipeError):
        server.sendall(b"x")


def test_what_came_before_a_reset_is_passed_on(ends: Ends) -> None:
    client, server, _ = ends
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    client.sendall(b"last words")
    reset(client)
    assert server.recv(100) == b"last words"
    assert read_all(server) == (b"", "reset")


def test_backpressure(ends: Ends) -> None:
    """A side that does not read makes the other wait; nothing is lost then."""
    for one, other in (ends[:2], ends[1::-1]):
        sent = filled(one)
        # The kernels' buffers on the way, and the relay's.
        assert sent < 40_000_000
        one.shutdown(socket.SHUT_WR)
        received, end = read_all(other)
        assert (len(received), end) == (sent, "eof")


def test_a_reset_of_a_client_that_is_not_being_read(ends: Ends) -> None:
    client, server, _ = ends
    filled(client)
    reset(client)
    assert read_all(server)[1] == "reset"


def test_a_server_that_cannot_be_reached(paths: BrokenPaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = port_of(unused)
    path = paths(target=f"127.0.0.1:{port}")
    assert converse(path.port, b"x", fin=False) == (b"", "reset")
    (failed,) = (event for event in path.events if event.kind == "failed")
    assert failed.as_text() == (
        f"connection 1: cannot connect to 127.0.0.1:{port}: Connection refused"
    )


def test_the_next_address_is_tried(paths: BrokenPaths, echo_port: int) -> None:
    """localhost is ::1 too, where nothing listens."""
    path = paths(target=f"localhost:{echo_port}")
    assert converse(path.port, b"x") == (b"x", "eof")


def test_a_unix_target(paths: BrokenPaths, unix_path: str) -> None:
    path = paths(target=f"unix:{unix_path}")
    assert converse(path.port, b"x" * 100_000) == (b"x" * 100_000, "eof")


def test_a_unix_target_whose_queue_is_full(paths: BrokenPaths, tmp_path: File) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen(0)
        path = paths(target=f"unix:{tmp_path / 's'}")
        clients = [connect(path.port) for _ in range(5)]
        for number, client in enumerate(clients):
            client.sendall(bytes([number]))
        accepted = [server.accept()[0] for _ in clients]
        assert sorted(sock.recv(1) for sock in accepted) == [bytes([n]) for n in range(5)]
        for sock in (*clients, *accepted):
            sock.close()


def test_an_ipv6_target(paths: BrokenPaths) -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6")
    with serving(echo, server):
        path = paths(target=f"[::1]:{port_of(server)}")
        assert converse(path.port, b"x") == (b"x", "eof")


def test_errors_of_a_path(paths: BrokenPaths) -> None:
    with pytest.raises(FaultError, match="did you mean latency"):
        paths("latenzy=3ms")
    with pytest.raises(TargetError, match="passes TLS on"):
        paths(target="tls:localhost:1")


def test_a_connection_that_ends_in_an_error_of_the_relay_is_told() -> None:
    def broken(place: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Path(broken) as path:  # type: ignore[arg-type]
        connect(path.port).close()


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("back:iac-swallowed", b"\rb\r"),
        ("back:flip-at=1", b"\r\xfeb\r"),
        ("back:eot-is-eof", b"\r\xffb\r"),
        ("back:last-byte-held", b"\r\xffb"),
        ("back:latency=5ms", b"\r\xffb\r"),
        ("cr-to-lf", b"\r\xffb\r"),
    ],
)
def test_a_fault_of_what_comes_back(paths: BrokenPaths, fault: str, answer: bytes) -> None:
    with listener() as server:
        path = paths(fault, target=f"127.0.0.1:{port_of(server)}")
        with connect(path.port) as client, accept(server) as served:
            client.sendall(b"\xff")
            client.shutdown(socket.SHUT_WR)
            assert read_all(served) == (b"\xff", "eof")
            served.sendall(b"\r\xffb\r")
            served.shutdown(socket.SHUT_WR)
            assert read_all(client) == (answer, "eof")


def test_what_comes_back_hangs_or_ends_early(paths: BrokenPaths) -> None:
    assert converse(paths("back:stall-at=3").port, b"abcdef", timeout=0.1)[1] == "open"
    assert converse(paths("back:eot-is-eof").port, b"ab\x04cd") == (b"ab", "eof")
    assert converse(paths("back:etx-resets").port, b"ab\x03cd") == (b"", "reset")
    path = paths("back:flip-at=0", "flip-at=0")
    assert converse(path.port, b"ab") == (b"ab", "eof")
    assert path.acted() == [
        "connection 1: flip-at=0: replaced 1 byte at 0: 61 with 60",
        "connection 1: back:flip-at=0: replaced 1 byte at 0: 60 with 61",
    ]


def test_a_trailer_for_the_server(paths: BrokenPaths) -> None:
    assert converse(paths("back:trailer=2e").port, b"ab") == (b"ab.", "eof")


def fuzzed(target: EchoTarget, examples: int) -> None:
    @settings(deadline=None, max_examples=examples, database=None)
    @given(sessions())
    def right(session: Session) -> None:
        target.check(session)

    right()


def test_every_conversation_is_right(paths: BrokenPaths) -> None:
    fuzzed(EchoTarget(Target.parse(str(paths()))), 20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        (),
        ("latency=2ms",),
        ("slice=700",),
        ("jitter=2ms", "latency=1ms"),
        ("bandwidth=16M", "delay-one-in=5,1ms"),
        # One that undoes another.
        ("iac-doubled", "iac-iac-halved"),
    ],
    ids=str,
)
def test_every_conversation_is_right_with_every_delay(
    faults: tuple[str, ...], paths: BrokenPaths
) -> None:
    fuzzed(EchoTarget(Target.parse(str(paths(*faults)))), 200)


@given(data=st.binary(max_size=50), more=st.binary(max_size=50))
@settings(deadline=None, max_examples=20)
def test_two_faults_do_what_one_after_the_other_does(data: bytes, more: bytes) -> None:
    def of(*faults: str) -> bytes:
        with Path(*map(named, faults)) as path, connect(path.port) as client:
            client.sendall(data + more)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)[0]

    one = (data + more).replace(b"\xff", b"").replace(b"\r", b"\n")
    assert of("iac-swallowed", "cr-to-lf") == of("cr-to-lf", "iac-swallowed") == one
