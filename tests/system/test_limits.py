"""Limits on real connections: exact, in both lanes, with workers, and through a drain."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import Serve, in_both_lanes
from tests.system.server import PATIENCE, Server, eventually, receive_all, say
from tests.system.test_pressure import CONNECTION, PROGRAM

pytestmark = in_both_lanes

KIB = 1024
WORKERS = pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])


def start(serve: Serve, workers: int, *arguments: str) -> Server:
    """Start a server, and wait until each of its workers listens."""
    server = serve(*arguments, "--workers", str(workers))
    server.wait_for_times("listening on", workers)
    return server


@contextmanager
def clients_of(server: Server, number: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """This many clients, each of which has sent something."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(number)]
        for client in clients:
            client.sendall(first)
        yield clients


def serve_in_turn(clients: list[socket.socket], most: int) -> None:
    """Read an answer and disconnect, one client after another, until all are served."""
    waiting = set(clients)
    while waiting:
        answered, _, _ = select.select(waiting, [], [], PATIENCE)
        assert answered, f"{len(waiting)} are not served"
        # What was written before the last one left may arrive late, and nothing may
        # come of a place that is not there.
        assert len(answered) <= most
        client = answered[0]
        assert client.recv(1) == b"x"
        client.close()
        waiting.remove(client)


@WORKERS
def test_at_the_most_connections_clients_wait_and_are_served(serve: Serve, workers: int) -> None:
    server = start(serve, workers, "--max-connections", "5")
    with clients_of(server, 60, b"x") as clients:
        serve_in_turn(clients, 5)


@WORKERS
def test_the_drain_serves_waiting_clients(serve: Serve, workers: int) -> None:
    server = start(serve, workers, "--max-connections", "2", "--drain-timeout", "20")
    with clients_of(server, 20, b"x") as clients:
        ready, _, _ = select.select(clients, [], [], PATIENCE)
        assert ready
        server.signal()
        server.wait_for("draining")
        assert eventually(lambda: refused(server))
        serve_in_turn(clients, 2)
        assert server.wait() == -signal.SIGTERM
    assert "unheard" not in server.log
    assert "Traceback" not in server.log


def refused(server: Server) -> bool:
    try:
        server.connect().close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


@WORKERS
def test_a_source_has_no_more_than_it_may(serve: Serve, workers: int) -> None:
    server = start(serve, workers, "--max-per-source", "4")
    answered = []
    with clients_of(server, 40) as clients:
        for client in clients:
            try:
                client.sendall(b"x")
                if client.recv(1) == b"x":
                    answered.append(client)
            except (ConnectionResetError, BrokenPipeError):
                continue
        assert len(answered) == 4
        # Another source is another matter.
        other = socket.create_connection(
            ("127.0.0.1", server.port), PATIENCE, source_address=("127.0.0.2", 0)
        )
        with other:
            assert say(other, b"y" * 100_000) == b"y" * 100_000
        answered[0].close()
        assert eventually(lambda: is_served(server))
    server.wait_for("127.0.0.1 is at its limit of 4 connections")
    # Not a line each.
    assert len(re.findall("may have no more", server.log)) < 36


def is_served(server: Server) -> bool:
    with server.connect() as client:
        try:
            return say(client, b"again") == b"again"
        except ConnectionResetError:
            return False


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_a_killed_worker_had_is_free_again(serve: Serve) -> None:
    server = start(serve, 2, "--max-connections", "3", "--max-per-source", "3")
    with clients_of(server, 3, b"x") as clients:
        assert [client.recv(1) for client in clients] == [b"x"] * 3
        for pid in re.findall(r"worker \d started, pid (\d+)", server.log):
            os.kill(int(pid), signal.SIGKILL)
        server.wait_for_times("listening on", 4)
    with clients_of(server, 3, b"x") as clients:
        assert [client.recv(1) for client in clients] == [b"x"] * 3


@contextmanager
def stuck(server: Server) -> Iterator[socket.socket]:
    """A client that has filled the path and reads nothing."""
    with server.connect() as client:
        client.setblocking(False)
        try:
            while True:
                client.send(bytes(1 << 16))
        except BlockingIOError:
            client.settimeout(PATIENCE)
            yield client


def test_idle_connections_end(serve: Serve) -> None:
    server = serve("--idle-timeout", "1", "--log", "connections")
    with clients_of(server, 3) as (silent, talked, closing), stuck(server) as filled:
        talked.sendall(b"x")
        assert talked.recv(1) == b"x"
        began = time.monotonic()
        for client in (silent, talked, closing):
            assert client.recv(1) == b""
        # That it does not end earlier is tested in time that is played.
        assert time.monotonic() - began < 1.25 + PATIENCE / 3
        server.wait_for(r"aborted idle connection from .*: [1-9]\d* bytes not returned")
        with pytest.raises(ConnectionResetError):
            receive_all(filled)
    server.wait_for(r"closed 127.0.0.1:\d+: 1 bytes in 1\.[0-9]+ s, idle")


def test_a_limit_of_the_rate_loses_nothing(serve: Serve) -> None:
    server = serve("--max-bytes-per-second", "400000", "--idle-timeout", "10")
    payload = os.urandom(800_000)
    with server.connect() as client:
        began = time.monotonic()
        assert say(client, payload) == payload
        took = time.monotonic() - began
    # What may be read at once is a tenth of a second's worth.
    assert took >= (len(payload) - 2 * 40_000) / 400_000


def test_a_drain_flushes_a_connection_that_waits_for_its_rate(serve: Serve) -> None:
    server = serve("--max-bytes-per-second", "1000", "--drain-timeout", "0.5")
    with server.connect() as client:
        client.sendall(bytes(100_000))
        assert client.recv(1)
        server.signal()
        got = 1 + len(receive_all(client))
        client.close()
        assert server.wait() == -signal.SIGTERM
    # What had been read is returned, and what had not is told.
    late = server.wait_for(r"(\d+) bytes arrived after the deadline and were not returned")
    assert got + int(late[1]) == 100_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_two_thousand_slow_readers_stay_below_the_ceiling(
    serve: Serve, lane: str, capsys: pytest.CaptureFixture[str]
) -> None:
    number = 2000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors, and this user may have {hard}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        server = serve("--max-connections", str(number)).ready()
        base = server.rss()
        with ExitStack() as stack:
            clients = []
            for _ in range(number):
                client = stack.enter_context(socket.socket())
                # What the clients' side keeps is not what is measured.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
                client.settimeout(PATIENCE)
                client.connect(("127.0.0.1", server.port))
                client.setblocking(False)
                clients.append(client)
            most, sent = push(server, clients)
            waiting = stack.enter_context(server.connect())
            waiting.sendall(b"x")
            most = max(most, server.rss())
            ceiling = PROGRAM + number * CONNECTION
            with capsys.disabled():
                print(
                    f"\n{lane}: {base >> 20} MiB at first, {most >> 20} MiB with {number} "
                    f"slow readers ({(most - base) // number // KIB} KiB each, which pushed "
                    f"{sent >> 20} MiB); the ceiling is {ceiling >> 20} MiB"
                )
            assert most < ceiling
            assert (most - base) / number < CONNECTION
            # Each has filled its path, or nothing was tested.
            assert sent > number * 256 * KIB
        # The one that waited is served when the others are gone.
        assert waiting.fileno() == -1
        assert is_served(server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def push(server: Server, clients: list[socket.socket]) -> tuple[int, int]:
    """Push until nothing more is taken; return the peak memory, and the bytes sent."""
    chunk = bytes(64 * KIB)
    most = sent = rounds = 0
    with select.epoll() as epoll:
        by_number = {client.fileno(): client for client in clients}
        for number in by_number:
            epoll.register(number, select.EPOLLOUT)
        while events := epoll.poll(2.0):
            for number, _ in events:
                try:
                    sent += by_number[number].send(chunk)
                except BlockingIOError:
                    continue
            rounds += 1
            if rounds % 50 == 0:
                most = max(most, server.rss())
    return max(most, server.rss()), sent
