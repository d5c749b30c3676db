"""The load generator finds every kind of wrong answer, and measures what it says."""

import contextlib
import json
import random
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.build import certificate, compiled, tls_missing
from benchmarks.load import FaultError, Timing, load
from benchmarks.works import Work

pytestmark = pytest.mark.usefixtures("cc")

# A peer that does not stall is waited for, however busy the machine is.
BRIEF = Timing(seconds=0.1, warmup=0.0, stall=20.0)
IMPATIENT = Timing(seconds=0.1, warmup=0.0, stall=0.3)

WORKS = (
    Work("pingpong", "", "pingpong", 5, 1000),
    Work("large", "", "pingpong", 2, 500_000),
    Work("neighbours", "", "pingpong", 5, 100, idle=30),
    Work("stream", "", "stream", 2, 200_000),
    Work("short stream", "", "stream", 2, 100),
    Work("open", "", "open", 5, 1000),
    Work("accept", "", "accept", 5, 64),
)

#: What a peer does with a piece of input, given how many bytes of that connection came before.
Answer = Callable[[socket.socket, bytes, int], None]


def plain(connection: socket.socket) -> socket.socket:
    return connection


def secure(connection: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate())
    return context.wrap_socket(connection, server_side=True)


@contextlib.contextmanager
def peer(answer: Answer, wrap: Callable[[socket.socket], socket.socket] = plain) -> Iterator[int]:
    """Serve a free port with `answer`, a thread for each connection; the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    threads: list[threading.Thread] = []
    open_connections: list[socket.socket] = []

    def talk(connection: socket.socket) -> None:
        seen = 0
        with contextlib.suppress(OSError), wrap(connection) as connection:
            while data := connection.recv(65536):
                answer(connection, data, seen)
                seen += len(data)
            if isinstance(connection, ssl.SSLSocket) and answer is not truncating:
                connection.unwrap()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_connections.append(connection)
                threads.append(threading.Thread(target=talk, args=(connection,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for connection in open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def right(connection: socket.socket, data: bytes, seen: int) -> None:
    connection.sendall(data)


def drive(
    port: int, work: Work, timing: Timing = BRIEF, rate: float | None = None
) -> dict[str, Any]:
    """Let the load generator do `work` from beginning to end; what it counted."""
    with load(
        work, port, timing, None, rate or (500.0 if work.mode == "open" else None)
    ) as running:
        for step in ("warm", "idle", "done"):
            running.wait_for(step)
            running.go_on()
        return running.result()


def truncating(connection: socket.socket, data: bytes, seen: int) -> None:
    """Closes without a close_notify of its own."""
    connection.sendall(data)


@pytest.fixture
def tls(cc: None) -> None:
    if why := tls_missing():
        pytest.skip(why)
    certificate()


@pytest.mark.slow  # another program is compiled
@pytest.mark.usefixtures("tls")
@pytest.mark.parametrize("work", [WORKS[0], WORKS[3], WORKS[6]], ids=lambda work: work.name)
def test_a_right_peer_with_tls_is_no_fault(work: Work) -> None:
    with peer(right, secure) as port:
        result = drive(port, replace(work, tls=True))
    assert result["echoes"] >= work.connections
    assert result["bytes"] == result["echoes"] * work.size


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_a_right_peer_is_no_fault(work: Work) -> None:
    with peer(right) as port:
        result = drive(port, work)
    assert result["echoes"] >= work.connections
    assert result["bytes"] == result["echoes"] * work.size
    assert result["latency_ns"]["count"] == result["echoes"]
    assert 0.09 < result["seconds"] < 5


def changed(connection: socket.socket, data: bytes, seen: int) -> None:
    """Turns one bit, but not in the first bytes."""
    wrong = bytearray(data)
    if seen <= 70 < seen + len(data) and len(data) + seen > 71:
        wrong[70 - seen] ^= 0x20
    connection.sendall(wrong)


def dropped(connection: socket.socket, data: bytes, seen: int) -> None:
    """Loses the byte at 70; what follows moves up."""
    if seen <= 70 < seen + len(data):
        data = data[: 70 - seen] + data[71 - seen :]
    connection.sendall(data)


def doubled(connection: socket.socket, data: bytes, seen: int) -> None:
    connection.sendall(data if seen < 64 else data + data[-1:])


def swapped(connection: socket.socket, data: bytes, seen: int) -> None:
    half = len(data) // 2
    connection.sendall(data if seen < 64 else data[half:] + data[:half])


def closing(connection: socket.socket, data: bytes, seen: int) -> None:
    """Answers half, then closes in good order."""
    connection.sendall(data if seen < 64 else data[: len(data) // 2])
    if seen >= 64:
        connection.shutdown(socket.SHUT_RDWR)


def resetting(connection: socket.socket, data: bytes, seen: int) -> None:
    if seen < 64:
        connection.sendall(data)
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    raise ConnectionResetError


def silent(connection: socket.socket, data: bytes, seen: int) -> None:
    if seen < 64:
        connection.sendall(data)


FAULTS = (
    (changed, "byte 70 came back as 0x", BRIEF),
    (dropped, "byte 70 came back as 0x|stalled for", IMPATIENT),
    (doubled, "more came back than was sent|came back as 0x", BRIEF),
    (swapped, "came back as 0x", BRIEF),
    (closing, "closed by the peer after|Broken pipe|Connection reset by peer", BRIEF),
    (resetting, "Connection reset by peer|Broken pipe", BRIEF),
    (silent, "stalled for 0.3 s with", IMPATIENT),
)


@pytest.mark.parametrize("work", WORKS[:6], ids=lambda work: work.name)
@pytest.mark.parametrize(
    ("answer", "words", "timing"), FAULTS, ids=lambda item: getattr(item, "__name__", "")
)
def test_a_faulty_peer_is_found(work: Work, answer: Answer, words: str, timing: Timing) -> None:
    with peer(answer) as port, pytest.raises(FaultError, match=words):
        drive(port, work, timing)


@pytest.mark.slow  # another program is compiled
@pytest.mark.usefixtures("tls")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (changed, "byte 70 came back as 0x"),
        (truncating, "TLS: unexpected eof"),
    ],
)
def test_a_faulty_peer_with_tls_is_found(answer: Answer, words: str) -> None:
    with peer(answer, secure) as port, pytest.raises(FaultError, match=words):
        drive(port, replace(WORKS[0], tls=True))


@pytest.mark.slow  # another program is compiled
@pytest.mark.usefixtures("tls")
def test_a_peer_without_tls_is_found() -> None:
    with peer(right) as port, pytest.raises(FaultError, match="TLS: "):
        drive(port, replace(WORKS[0], tls=True))


def test_bytes_of_another_connection_are_found() -> None:
    first: list[bytes] = []

    def mixed(connection: socket.socket, data: bytes, seen: int) -> None:
        first.append(data)
        connection.sendall(first[0][: len(data)].ljust(len(data)))

    with peer(mixed) as port, pytest.raises(FaultError, match="byte 0 came back as 0x"):
        drive(port, WORKS[0])


def test_a_peer_that_does_not_close_is_found() -> None:
    hold = threading.Event()

    def holding(connection: socket.socket, data: bytes, seen: int) -> None:
        connection.sendall(data)
        hold.wait()

    with peer(holding) as port:
        try:
            with pytest.raises(FaultError, match="not closed by the peer"):
                drive(port, WORKS[-1], Timing(seconds=0.1, warmup=0.0, stall=2.0))
        finally:
            hold.set()


def test_no_listener() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(FaultError, match="Connection refused"):
            drive(unused.getsockname()[1], WORKS[0])


def freezing(seconds: float) -> Answer:
    """Return a peer that stands still once, a while after its first bytes."""
    began: list[float] = []
    frozen = threading.Event()

    def answer(connection: socket.socket, data: bytes, seen: int) -> None:
        began.append(time.monotonic())
        if time.monotonic() - began[0] > 0.1 and not frozen.is_set():
            frozen.set()
            time.sleep(seconds)
        connection.sendall(data)

    return answer


def test_the_open_loop_counts_every_message_that_a_stall_delays() -> None:
    timing = Timing(seconds=1.0, warmup=0.0, stall=2.0)
    one = Work("one", "", "open", 1, 100)
    with peer(freezing(0.5)) as port:
        latency = drive(port, one, timing, rate=200.0)["latency_ns"]
    assert latency["count"] == 200
    # A hundred messages were due in the half second, the last of them hardly late: with those due
    # before and after, a tenth of all waited for longer than 0.4 s.
    assert latency["p90"] > 0.3e9
    assert latency["max"] > 0.49e9
    with peer(freezing(0.5)) as port:
        closed = drive(port, Work("one", "", "pingpong", 1, 100), timing)["latency_ns"]
    # Whereas the closed loop, which waits with the peer, sees a single slow message.
    assert closed["max"] > 0.49e9
    assert closed["p99"] < 0.1e9


def test_the_open_loop_sends_all_that_was_due_after_a_stall_of_its_own() -> None:
    timing = Timing(seconds=0.5, warmup=0.0, stall=20.0)
    half = threading.Event()

    def answer(connection: socket.socket, data: bytes, seen: int) -> None:
        connection.sendall(data)
        if seen > 4000:
            half.set()

    one = Work("one", "", "open", 1, 100)
    with peer(answer) as port, load(one, port, timing, None, 200.0) as running:
        for step in ("warm", "idle"):
            running.wait_for(step)
            running.go_on()
        assert half.wait(20)
        running._process.send_signal(signal.SIGSTOP)
        time.sleep(timing.seconds)  # the run is over then, whenever it began
        running._process.send_signal(signal.SIGCONT)
        running.wait_for("done")
        running.go_on()
        latency = running.result()["latency_ns"]
    assert latency["count"] == 100


def test_an_overloaded_peer_is_said_to_be() -> None:
    def slow(connection: socket.socket, data: bytes, seen: int) -> None:
        for piece in range(0, len(data), 10):
            time.sleep(0.01)
            connection.sendall(data[piece : piece + 10])

    with peer(slow) as port, pytest.raises(FaultError, match="overloaded"):
        drive(port, Work("one", "", "open", 1, 1000), IMPATIENT, rate=100.0)


def quantiles(values: list[int]) -> dict[str, int]:
    result = subprocess.run(
        [compiled("load.c"), "histogram"],
        input=" ".join(map(str, values)),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, int] = json.loads(result.stdout)["quantiles"]
    return found


def check_quantiles(values: list[int]) -> None:
    found = quantiles(values)
    ordered = sorted(values)
    assert found["count"] == len(values)
    assert (found["min"], found["max"]) == (ordered[0], ordered[-1])
    for name, permille in (("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)):
        exact = ordered[-(-len(ordered) * permille // 1000) - 1]
        assert exact <= found[name] <= exact + exact // 256, name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**62) | st.integers(0, 2000), min_size=1))
def test_histogram_against_a_sorted_list(values: list[int]) -> None:
    check_quantiles(values)


def test_histogram_of_many_values() -> None:
    draw = random.Random(862)
    check_quantiles([int(draw.lognormvariate(10, 2)) for _ in range(20_000)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pingpong"], "usage: load"),
        (["--port", "1"], "usage: load"),
        (["--port", "1", "sing"], "usage: load"),
        (["--port", "x", "pingpong"], "--port x: a number of at least 1 is needed"),
        (["--port", "1", "--size", "0", "pingpong"], "--size 0: a number of at least 1"),
    ],
)
def test_bad_usage(words: list[str], said: str) -> None:
    result = subprocess.run([compiled("load.c"), *words], capture_output=True, text=True)
    assert result.returncode == 2
    assert said in result.stderr
