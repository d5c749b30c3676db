"""A thousand connections at once, and memory."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from tests.probe.relay.test_command import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONNECTIONS = 1000


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """As many descriptors as the clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 200:
        pytest.skip("needs more descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    status = File(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def clients(place: str) -> list[socket.socket]:
    host, _, port = place.rpartition(":")
    return [socket.create_connection((host, int(port)), timeout=30) for _ in range(CONNECTIONS)]


def test_a_thousand_connections_lose_nothing() -> None:
    payload = bytes(range(256)) * 400
    with running("127.0.0.1:0", "--fault", "slice=20k") as (process, place):
        before = memory(process.pid)
        connected = clients(place)
        began = time.monotonic()
        selector = selectors.DefaultSelector()
        received = {sock: bytearray() for sock in connected}
        unsent = dict.fromkeys(connected, 0)
        for sock in connected:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, sock)
        while received and time.monotonic() - began < 120:
            for key, events in selector.select(1):
                sock = key.data
                if events & selectors.EVENT_WRITE:
                    unsent[sock] += sock.send(payload[unsent[sock] :])
                    if unsent[sock] == len(payload):
                        sock.shutdown(socket.SHUT_WR)
                        selector.modify(sock, selectors.EVENT_READ, sock)
                if events & selectors.EVENT_READ:
                    data = sock.recv(65536)
                    received[sock] += data
                    if not data:
                        assert received.pop(sock) == payload
                        selector.unregister(sock)
                        sock.close()
        lasted, grown = time.monotonic() - began, memory(process.pid) - before
    assert not received
    print(f"\n{CONNECTIONS} x {len(payload)} bytes in {lasted:.1f} s; grew by {grown >> 20} MiB")


@pytest.mark.parametrize(
    ("faults", "most"),
    [
        # 64 KiB and one read: for the server, in its echo, and for the client.
        ([], 420),
        # The same, and what is held back: 256 KiB and one read in each direction.
        (["latency=60s"], 450),
        (["flood"], 300),
        (["xonxoff"], 450),
    ],
    ids=str,
)
def test_clients_that_do_not_read_need_bounded_memory(faults: list[str], most: int) -> None:
    options = [word for fault in faults for word in ("--fault", fault)]
    with running("127.0.0.1:0", *options) as (process, place):
        before = memory(process.pid)
        connected = clients(place)
        pushed, quiet = 0, 0
        while quiet < 5:
            taken = 0
            for sock in connected:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    taken += sock.send(b"\x13" + bytes(262144))
            pushed += taken
            quiet = 0 if taken else quiet + 1
            time.sleep(0.05)
        grown = memory(process.pid) - before
        for sock in connected:
            sock.close()
    print(f"\n{faults}: {pushed >> 20} MiB pushed; grew by {grown >> 20} MiB")
    assert grown < most << 20
