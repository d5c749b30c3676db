"""Clients that never read, never stay, or are too many."""

from __future__ import annotations

import resource
import select
import socket
import struct
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.system.conftest import Report, Serve, in_both_lanes
from tests.system.server import PATIENCE, Server, eventually, say

pytestmark = in_both_lanes

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the server's memory from /proc"
)
KIB = 1024


def push(clients: list[socket.socket], chunk: bytes, seconds: float) -> int:
    """Send all the time to clients that never read; return the bytes sent."""
    for client in clients:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _, writable, _ = select.select([], clients, [], 0.05)
        for client in writable:
            try:
                sent += client.send(chunk)
            except BlockingIOError:
                continue
    return sent


@needs_proc
@pytest.mark.parametrize("size", [256 * KIB, 1000, 2], ids=["bulk", "small", "tiny"])
def test_clients_that_never_read_cost_little(serve: Serve, size: int) -> None:
    server = serve()
    with server.connect() as first:
        assert say(first, b"warm" * 50_000) == b"warm" * 50_000
    before = server.rss()
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        sent = push(clients, bytes(size), seconds=2.0) / len(clients)
        grown = (server.rss() - before) / len(clients)
    assert grown <= 256 * KIB
    if size > 2:  # two bytes at a time, not so much can be sent in the time
        assert sent > 512 * KIB
    with server.connect() as client:
        assert say(client, b"still here") == b"still here"


# Bytes of memory for a client that pushes two bytes at a time and never reads.
# The stock lane keeps each two as an object of its own until they are 48 KiB:
# 24,576 objects of 57 bytes, 1.4 MB. The fast lane stops
# reading at the first that the kernel does not take.
TINY = {"fast": 256 * KIB, "stock": 2048 * KIB}


@pytest.mark.slow
@needs_proc
def test_tiny_chunks_cost_more_in_the_stock_lane(serve: Serve, lane: str) -> None:
    server = serve()
    with server.connect() as first:
        assert say(first, b"warm" * 50_000) == b"warm" * 50_000
    before = server.rss()
    with server.connect() as client:
        push([client], b"xx", seconds=12.0)
        assert server.rss() - before <= TINY[lane]


@needs_proc
def test_connections_reset_at_once_leave_nothing(serve: Serve) -> None:
    server = serve()
    reset = struct.pack("ii", 1, 0)

    def open_and_reset(times: int) -> None:
        for _ in range(times):
            with server.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    descriptors = server.ready().descriptors()
    open_and_reset(2000)
    server.ready()
    rss = server.rss()
    open_and_reset(8000)
    # Those before it in the accept queue have had their turn too.
    server.ready()
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
        # Those are in that the descriptors suffice for; in the stock lane the others are closed.
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
        # Nobody who is in has noticed.
        for client in answered:
            client.sendall(b"more")
            assert client.recv(4) == b"more"
        if lane == "fast":
            assert not ended
            assert server.log.count("cannot accept (") == 1
            # Who waits is served when others leave.
            for client in answered:
                client.close()
            left = time.monotonic()
            for client in clients[:30]:
                assert client.recv(4) == b"data"
            report("30 who waited served after", f"{time.monotonic() - left:.3f} s")
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
