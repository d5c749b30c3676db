"""Clients of UNIX sockets with names and messages that Twisted does not expect, in both lanes."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import unix
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IFileDescriptorReceiver, IStreamServerEndpoint
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from echoproto.core.factory import EchoFactory
from echoproto.core.protocol import Echo
from echoproto.net import passed_descriptors
from echoproto.net.ports import adopt
from echoproto.net.unix_ports import UNIXPort
from echoproto.service import EchoService
from tests.descriptors import open_descriptors
from tests.logs import logged
from tests.reactors import run

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
in_both_lanes = pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])


@implementer(IStreamServerEndpoint)
class Endpoint:
    """Listens with one kind of port."""

    def __init__(self, kind: str, reactor: Any) -> None:
        self._kind = kind
        self._reactor = reactor

    def listen(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        factory = protocolFactory
        port: Any
        if self._kind == "inherited":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind("socket")
                sock.listen()
                port = adopt(self._reactor, os.dup(sock.fileno()), factory)
        else:
            if self._kind == "own":
                port = UNIXPort("socket", factory, 5, 0o666, self._reactor, True)
            else:
                port = unix.Port(b"socket", factory, 5, 0o666, self._reactor)
            port.startListening()
        return succeed(port)


def exchange(data: bytes, *passed: int, name: str | None = None, times: int = 1) -> bytes:
    """Send data, a byte at a time if descriptors go with it; return what comes back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        if name is not None:
            client.bind(name)
        client.connect("socket")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))]
        for _ in range(times):
            client.sendmsg([data], rights if passed else [])
        client.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := client.recv(1 << 16):
            received += chunk
        return received


def serve(
    fast: bool, kind: str, talk: Callable[[], None], factory: EchoFactory | None = None
) -> None:
    """Serve while clients talk, which takes a thread of its own."""

    async def main(reactor: Any) -> None:
        endpoint = Endpoint(kind, reactor)
        service = EchoService(endpoint, factory, reactor=reactor, fast_lane=fast)
        service.startService()
        try:
            await deferToThreadPool(reactor, reactor.getThreadPool(), talk)
        finally:
            await service.stopService()

    run(main)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@in_both_lanes
@pytest.mark.parametrize("kind", ["own", "inherited", "twisted"])
def test_a_client_may_have_any_name(fast: bool, kind: str) -> None:
    """Twisted takes one of four characters for an address of IPv6, and drops the port."""

    def talk() -> None:
        for name in ("abc", "abcd", "\0bcd", "abcde", None):
            assert exchange(b"data", name=name) == b"data"

    with logged("") as log:
        serve(fast, kind, talk)
    assert "Traceback" not in log.text


@in_both_lanes
@pytest.mark.parametrize("kind", ["own", "inherited", "twisted"])
def test_descriptors_are_closed_and_counted(fast: bool, kind: str) -> None:
    counted = passed_descriptors.total()
    open_now: list[int] = []

    def talk() -> None:
        assert exchange(b"x") == b"x"
        with open(os.devnull) as some:
            open_now.append(open_descriptors())
            assert exchange(b"x", some.fileno(), times=100) == b"x" * 100
            # The most that one message may have is 253 (SCM_MAX_FD of the kernel).
            assert exchange(b"data", *[some.fileno()] * 253) == b"data"
            open_now.append(open_descriptors())

    with logged("") as log:
        serve(fast, kind, talk)
    assert passed_descriptors.total() - counted == 101
    # The server may not have closed a client's connection yet; 353 were passed.
    assert open_now[1] - open_now[0] < 10
    assert "descriptor" not in log.text


@in_both_lanes
def test_a_protocol_that_wants_descriptors_has_them(fast: bool) -> None:
    received: list[int] = []

    @implementer(IFileDescriptorReceiver)
    class Receiver(Echo):
        def fileDescriptorReceived(self, descriptor: int) -> None:
            received.append(descriptor)
            os.close(descriptor)

    def talk() -> None:
        with open(os.devnull) as some:
            assert exchange(b"x", some.fileno(), some.fileno()) == b"x"

    serve(fast, "own", talk, EchoFactory(protocol=Receiver))
    assert len(received) == 2
