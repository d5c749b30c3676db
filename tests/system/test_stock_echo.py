"""Why there is a protocol of our own: what Twisted's own example does with the same bytes.

``python -m tests.system.test_stock_echo`` prints the figures that README.rst tells.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.system.server import Server, running, say, twistd
from tests.system.test_pressure import needs_proc, push

pytestmark = pytest.mark.slow

MIB = 1 << 20

STOCK = """
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
print(f"listening on 127.0.0.1:{port.getHost().port};", flush=True)
reactor.run()
"""


@contextmanager
def stock() -> Iterator[Server]:
    with running([sys.executable, "-c", STOCK]) as server:
        yield server


@contextmanager
def ours() -> Iterator[Server]:
    with running(twistd()) as server:
        yield server


def whole_at_half_close(server: Server) -> int:
    """Say 100 bytes and FIN at once, 50 times; return how often all came back."""
    whole = 0
    for _ in range(50):
        payload = os.urandom(100)
        with server.connect() as client:
            whole += say(client, payload) == payload
    return whole


def lost_of_30_mib(server: Server) -> int:
    """Say 30 MiB and FIN; return how many bytes did not come back."""
    payload = random.Random(1).randbytes(30 * MIB)
    with server.connect() as client:
        return len(payload) - len(say(client, payload))


def grown_by_a_client_that_never_reads(server: Server, most: int) -> tuple[int, int]:
    """Push without reading until the path is full, or `most` bytes are pushed.

    Return the bytes pushed and the server's growth.
    """
    before = server.ready().rss()
    with server.connect() as client:
        pushed = push([client], bytes(256 * 1024), most=most)
        return pushed, server.rss() - before


def test_what_came_before_fin() -> None:
    with ours() as server:
        assert whole_at_half_close(server) == 50
    with stock() as server:
        # It is a race, so it may be won now and then.
        assert any(whole_at_half_close(server) < 50 for _ in range(5))


def test_30_mib_before_fin() -> None:
    with ours() as server:
        assert lost_of_30_mib(server) == 0
    with stock() as server:
        # It depends on which side is faster: not every time, but soon.
        assert any(lost_of_30_mib(server) for _ in range(20))


@needs_proc
def test_a_client_that_never_reads() -> None:
    with ours() as server:
        # The first time, what is allocated once is counted too.
        grown_by_a_client_that_never_reads(server, 64 * MIB)
        pushed, grown = grown_by_a_client_that_never_reads(server, 64 * MIB)
        assert pushed < 64 * MIB
        assert grown <= MIB
    with stock() as server:
        pushed, grown = grown_by_a_client_that_never_reads(server, 64 * MIB)
        # It keeps what is pushed, but for what the kernel holds.
        assert grown > pushed / 2 > 10 * MIB


if __name__ == "__main__":
    for make in (stock, ours):
        with make() as measured:
            print(f"{make.__name__}: {whole_at_half_close(measured)} of 50 whole at half-close")
            print(f"{make.__name__}: {lost_of_30_mib(measured):,} bytes lost of 30 MiB")
            pushed, grown = grown_by_a_client_that_never_reads(measured, 400_000_000)
            print(
                f"{make.__name__}: {grown / MIB:.1f} MiB more memory for {pushed / 1e6:.0f} MB "
                "pushed by one client that never reads"
            )
