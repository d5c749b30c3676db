"""Clients that never read, never stay, or are too many."""

from __future__ import annotations

import resource
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.system.conftest import Report, Serve, in_both_lanes
from tests.system.server import PATIENCE, Server, eventually, running, say, twistd

pytestmark = in_both_lanes

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the server's memory from /proc"
)
KIB = 1024
# The published bounds (docs/limits.rst), in bytes: for the program, and for a connection.
PROGRAM = 128 * 1024 * KIB
CONNECTION = 256 * KIB


# Seconds without progress after which a path is full: a server that is only late goes on sooner.
FULL = 0.5


def push(
    clients: list[socket.socket], chunk: bytes, seconds: float = PATIENCE, most: int = 1 << 40
) -> int:
    """Send from clients that never read, until nothing more is taken; return the bytes sent.

    :param seconds: stop after this time, although more would be taken.
    :param most: stop after this many bytes.
    """
    for client in clients:
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and sent < most:
        _, writable, _ = select.select([], clients, [], FULL)
        if not writable:
            break
        for client in writable:
            try:
                sent += client.send(chunk)
            except BlockingIOError:
                continue
    return sent


def assert_stuck_clients_cost_little(
    server: Server, count: int, get_stuck: Callable[[], None], most: int = CONNECTION
) -> None:
    """Apply the same load twice, and check what the second adds to the server's memory.

    The first load also pays for what is allocated once, in steps larger than a connection's
    share: the shared read buffer, the arenas of the allocator.

    :param count: how many clients a load consists of.
    :param get_stuck: connects a client that fills its path, reads nothing, and stays.
    :param most: the bytes of memory that a client may cost.
    """
    for _ in range(count):
        get_stuck()
    before = server.rss()
    for _ in range(count):
        get_stuck()
    assert eventually(lambda: server.rss() - before <= count * most, timeout=1), (
        f"{(server.rss() - before) / count / KIB:.0f} KiB a client"
    )
    assert server.rss() <= PROGRAM + 2 * count * most


def get_stuck(client: socket.socket) -> None:
    """Send until nothing more is taken, and read nothing."""
    client.settimeout(0.1)
    end = time.monotonic() + PATIENCE
    # ssl.SSLError: a time-out, too.
    with suppress(TimeoutError, ssl.SSLError):
        while time.monotonic() < end:
            client.send(bytes(64 * KIB))
    assert time.monotonic() < end


@needs_proc
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(256 * KIB, id="bulk"),
        pytest.param(1000, id="small", marks=pytest.mark.slow),
        pytest.param(2, id="tiny", marks=pytest.mark.slow),
    ],
)
def test_clients_that_never_read_cost_little(serve: Serve, size: int) -> None:
    server = serve().ready()
    # Two bytes at a time, filling the path takes minutes.
    seconds = 1.0 if size == 2 else PATIENCE
    with ExitStack() as stack:

        def twenty_get_stuck() -> None:
            clients = [stack.enter_context(server.connect()) for _ in range(20)]
            sent = push(clients, bytes(size), seconds)
            assert size == 2 or sent / len(clients) > 512 * KIB

        assert_stuck_clients_cost_little(server, 1, twenty_get_stuck, 20 * CONNECTION)
    with server.connect() as client:
        assert say(client, b"still here") == b"still here"


# Bytes of memory for a client that pushes two bytes at a time and never reads.
# The stock lane keeps each two as an object of its own until they are 48 KiB:
# 24,576 objects of 57 bytes, 1.4 MB. The fast lane stops
# reading at the first that the kernel does not take.
TINY = {"fast": CONNECTION, "stock": 2048 * KIB}


@pytest.mark.slow
@needs_proc
def test_tiny_chunks_cost_more_in_the_stock_lane(lane: str, tmp_path: Path) -> None:
    # Of a UNIX socket, each two bytes take a buffer of the kernel's: the path is full in a second.
    path = tmp_path / "echo.sock"
    with running(twistd("--lane", lane, "--listen", f"unix:{path}", port=None)) as server:
        server.wait_for("listening on unix:")
        with ExitStack() as stack:

            def get_stuck() -> None:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(path))
                # It is not full where the server was only late.
                while select.select([], [client], [], 0)[1]:
                    push([client], b"xx")

            assert_stuck_clients_cost_little(server, 5, get_stuck, TINY[lane])


@pytest.mark.slow
@needs_proc
def test_connections_reset_at_once_leave_nothing(serve: Serve) -> None:
    server = serve()
    reset = struct.pack("ii", 1, 0)

    def open_and_reset(times: int) -> None:
        for number in range(times):
            with server.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            if number % 100 == 99:
                # All before it in the accept queue have been served. So the most that are
                # open at once is the same however slow the server is.
                server.ready()

    descriptors = server.ready().descriptors()
    open_and_reset(8000)
    rss = server.rss()
    open_and_reset(8000)
    assert eventually(lambda: server.descriptors() <= descriptors), server.descriptors()
    assert server.rss() - rss < 1 << 20
    assert "Traceback" not in server.log


@needs_proc
def test_more_clients_than_descriptors(serve: Serve, lane: str, report: Report) -> None:
    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    server = serve(preexec_fn=few_descriptors)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(120)]
        for client in clients:
            with suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(b"data")
        answered: list[socket.socket] = []
        ended: list[socket.socket] = []
        # The descriptors suffice for some clients; in the stock lane the others are closed.
        turned_away = 0 if lane == "fast" else 120 - 64
        while len(answered) < 30 or len(ended) < turned_away:
            readable, _, _ = select.select(clients, [], [], PATIENCE)
            assert readable, (len(answered), len(ended))
            for client in readable:
                clients.remove(client)
                try:
                    (answered if client.recv(4) else ended).append(client)
                except ConnectionResetError:
                    ended.append(client)
        before = server.cpu_ticks()
        time.sleep(1.0)  # a spinning server shows in the time that it takes
        assert server.cpu_ticks() - before < 10
        # Existing connections are unaffected.
        for client in answered:
            client.sendall(b"more")
            assert client.recv(4) == b"more"
        if lane == "fast":
            assert not ended
            assert server.log.count("cannot accept (") == 1
            # Waiting clients are served when others disconnect.
            for client in answered:
                client.close()
            left = time.monotonic()
            for client in clients[:30]:
                assert client.recv(4) == b"data"
            report("30 waiting clients served after", f"{time.monotonic() - left:.3f} s")
    with connected_again(server) as client:
        assert say(client, b"data") == b"data"
    assert "Traceback" not in server.log
    assert len(server.log) < 100_000


def connected_again(server: Server) -> socket.socket:
    """Connect once the server has noticed that the others are gone."""
    end = time.monotonic() + PATIENCE
    while True:
        client = server.connect()
        try:
            client.sendall(b"x")
            if client.recv(1) == b"x":
                return client
        except (ConnectionResetError, BrokenPipeError):
            pass
        client.close()
        assert time.monotonic() < end, server.log
