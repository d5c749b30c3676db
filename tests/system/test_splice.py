"""A server that splices every byte of a plain echo, and what clients do to it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from echoproto.probe import EchoMachine, EchoTarget, Target
from tests.system.server import PATIENCE, Server, eventually, receive_all, running, twistd_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "splice"), reason="needs splice(2)"),
]

MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[Server]:
    with running(twistd_in("spliced", "--log", "connections", "--drain-timeout", "20")) as started:
        yield started


def spliced(server: Server) -> tuple[int, int]:
    """End a server; return how many bytes it spliced, and how many of them it had to queue."""
    server.signal()
    server.wait()
    found = re.search(r"spliced (\d+), rest (\d+)", server.log)
    assert found, server.log
    return int(found[1]), int(found[2])


def test_any_steps_in_any_order(server: Server) -> None:
    echo = EchoTarget(Target.parse(f"127.0.0.1:{server.port}"))
    steps = settings(
        database=None, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck)
    )
    make: Any = lambda: EchoMachine(echo)  # noqa: E731  # annotated as a class, but any will do
    run_state_machine_as_test(make, settings=steps)
    assert spliced(server)[0] > 1000


def converse(server: Server, number: int) -> int:
    """Send and receive in an order of chance, then FIN or reset; return how much came back."""
    chance = random.Random(number)
    # Some send more than fits into the path before they receive anything.
    reads = number % 8 != 3
    payload = chance.randbytes(chance.randrange(2 * MIB) if reads else 12 * MIB)
    back, sent = b"", 0
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << chance.randrange(15, 20))
        client.settimeout(0)
        while sent < len(payload):
            try:
                sent += client.send(payload[sent : sent + chance.randrange(1, MIB)])
            except BlockingIOError:
                reads = True
                time.sleep(0.001)
            for _ in range(chance.randrange(4) if reads else 0):
                try:
                    back += client.recv(chance.randrange(1, MIB))
                except BlockingIOError:
                    break
        if number % 8 == 7:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert payload.startswith(back)
            return -1
        client.shutdown(socket.SHUT_WR)
        client.settimeout(PATIENCE)
        back += receive_all(client)
    assert back == payload
    return len(back)


def test_clients_of_every_kind_at_once(server: Server) -> None:
    """Each gets its own bytes, and the log tells how many."""
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda number: converse(server, number), range(32)))
    assert eventually(lambda: len(re.findall(r"closed 127", server.log)) == 32)
    logged = [int(n) for n in re.findall(r"closed \S+: (\d+) bytes in \S+ s$", server.log, re.M)]
    assert sorted(logged) == sorted(count for count in counts if count >= 0)
    total, rest = spliced(server)
    # What arrives before the first byte is logged goes the ordinary way.
    assert 0.9 * sum(logged) < total
    assert 0 < rest < total


def test_a_client_that_does_not_read_is_aborted_and_its_bytes_are_counted() -> None:
    with running(twistd_in("spliced", "--idle-timeout", "1")) as server, server.connect() as client:
        sent = 0
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                sent += client.send(bytes(1 << 16))
        aborted = server.wait_for(r"aborted idle connection from \S+: (\d+) bytes not returned")
        client.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        assert 0 < int(aborted[1]) <= sent
        assert spliced(server)[1] > 0
