"""What there is to tell of a server."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress

from echoproto.status.kernel import ListenDrops
from echoproto.status.snapshot import Listener, read_listeners
from tests.fakes import FakePort
from tests.status.played import REPORT, snapshot


def test_the_page_gets_the_ten_busiest_sources() -> None:
    many = {f"192.0.2.{n}": 1 + n % 12 for n in range(24)}
    told = json.loads(
        json.dumps(
            snapshot(total=replace(REPORT, sources=many), drops=ListenDrops(1, 2, 3)).as_json()
        )
    )
    sources = told["total"]["sources"]
    assert len(sources) == 10
    assert sources[:3] == [["192.0.2.11", 12], ["192.0.2.23", 12], ["192.0.2.10", 11]]
    assert told["drops"] == {"overflows": 1, "drops": 2, "cookies": 3}
    assert len(told["duration_bounds"]) + 1 == len(told["total"]["durations"])
    assert "sources" not in told["processes"][0]["report"]
    assert (told["listening"], told["draining"], told["not_ready"]) == (True, False, None)
    assert "health" not in told


def test_sockets_that_share_an_address_are_numbered() -> None:
    ports: Any = [
        FakePort(address=IPv4Address("TCP", "192.0.2.1", 7)),
        FakePort(address=UNIXAddress(b"/run/echo.sock")),
        FakePort(address=IPv4Address("TCP", "192.0.2.1", 7)),
    ]
    assert read_listeners(ports) == (
        Listener("192.0.2.1:7", 1, None, None),
        Listener("unix:/run/echo.sock", 1, None, None),
        Listener("192.0.2.1:7", 2, None, None),
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_the_accept_queue_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=3) as listener:
        address = IPv4Address("TCP", *listener.getsockname())
        with socket.create_connection(listener.getsockname()):
            (found,) = read_listeners([FakePort(address=address, sock=listener)])
    assert (found.queued, found.limit) == (1, 3)
