"""SIGTERM and SIGINT: what has come is returned, and the process ends in time."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.system.conftest import Serve, in_every_way
from tests.system.server import fill, receive_all, say

pytestmark = in_every_way

MIB = 1 << 20
# What a busy machine may add to a time, in seconds.
SLACK = 5.0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_connections_in_flight_come_back_whole(serve: Serve, signum: int) -> None:
    server = serve("--drain-timeout", "20").ready()
    payloads = [bytes([n]) * MIB for n in range(100)]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in payloads]
        sent = [fill(client, payload) for client, payload in zip(clients, payloads, strict=True)]
        server.signal(signum)
        server.wait_for("draining: 100 connections")
        with pytest.raises(ConnectionRefusedError):
            server.connect().close()
        with ThreadPoolExecutor(len(clients)) as pool:
            rests = [payload[done:] for payload, done in zip(payloads, sent, strict=True)]
            backs = list(pool.map(say, clients, rests))
        assert [len(back) for back in backs] == [MIB] * 100
        assert backs == payloads
        assert server.wait() in (-signum, 128 + signum)
    server.wait_for("drained")


def test_clients_that_never_finish_are_closed_at_the_deadline(serve: Serve) -> None:
    server = serve("--drain-timeout", "1")
    with server.connect() as idle, server.connect() as stuck:
        idle.sendall(b"data")
        assert idle.recv(4) == b"data"
        fill(stuck)
        began = time.monotonic()
        server.signal()
        # At the deadline each one is flushed and gets our FIN.
        assert idle.recv(1) == b""
        assert 1 <= time.monotonic() - began < 1 + SLACK
        assert server.wait() == -signal.SIGTERM
        # What is left a second later is aborted.
        assert 2 <= time.monotonic() - began < 2 + SLACK
    server.wait_for("aborting 2 connections")


def test_what_was_received_is_flushed_at_the_deadline(serve: Serve) -> None:
    server = serve("--drain-timeout", "0.5")
    with server.connect() as client:
        client.sendall(b"x" * 50_000)
        assert client.recv(1)
        server.signal()
        server.wait_for("drain deadline: closing 1 connection")
        client.sendall(b"too late")
        assert len(receive_all(client)) == 49_999
    assert server.wait() == -signal.SIGTERM
    server.wait_for("8 bytes arrived after the deadline and were not returned")


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_it_short(serve: Serve, first: int, second: int) -> None:
    server = serve("--drain-timeout", "60")
    with server.connect() as client:
        client.sendall(b"data")
        assert client.recv(4) == b"data"
        server.signal(first)
        server.wait_for("draining: 1 connection")
        server.signal(second)
        assert server.wait(timeout=10) == -first
    assert "ReactorNotRunning" not in server.log
    assert "Traceback" not in server.log


def test_a_deadline_of_0_cuts_at_once(serve: Serve) -> None:
    server = serve("--drain-timeout", "0")
    with server.connect() as client:
        client.sendall(b"data")
        assert client.recv(4) == b"data"
        began = time.monotonic()
        server.signal()
        assert server.wait() == -signal.SIGTERM
        assert time.monotonic() - began < SLACK


def test_clients_that_wait_to_be_accepted_are_served(serve: Serve) -> None:
    server = serve("--drain-timeout", "20").ready()
    with ExitStack() as stack:
        server.signal(signal.SIGSTOP)
        clients = [stack.enter_context(server.connect()) for _ in range(50)]
        for client in clients:
            client.sendall(b"data")
            client.shutdown(socket.SHUT_WR)
        # Both are pending when it wakes up, and Python sees the signal first.
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        assert [receive_all(client) for client in clients] == [b"data"] * 50
    assert server.wait() == -signal.SIGTERM
