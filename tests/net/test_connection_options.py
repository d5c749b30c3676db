"""Keep-alives and urgent data, on real sockets."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.threads import deferToThreadPool

from echoproto import Echo, EchoFactory, EchoService, StringEndpoint, TCPEndpoint, WorkersService
from echoproto.net import connection_options
from echoproto.net.connection_options import ConnectionOptions, check_keepalive
from echoproto.net.transports import StockTransport
from tests.reactors import run

linux = pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="needs TCP_KEEPIDLE")

LISTENERS = ["tcp", "tcp6", "string", "inherited", "adopted"]


def options_of(sock: socket.socket) -> tuple[int, ...]:
    """Return SO_KEEPALIVE, SO_OOBINLINE, TCP_NODELAY, and the times and number of probes."""
    wanted = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.SOL_SOCKET, socket.SO_OOBINLINE),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    ]
    return tuple(sock.getsockopt(*each) for each in wanted)


class Noting(Echo):
    """Notes the options of its sockets, and its bytes."""

    seen: list[tuple[int, ...]] = []  # noqa: RUF012

    def connectionMade(self) -> None:
        super().connectionMade()
        self.seen.append(options_of(self.transport.socket))


def listener(kind: str, reactor: Any) -> Any:
    if kind == "tcp":
        return TCPEndpoint(reactor, 0)
    if kind == "tcp6":
        return TCPEndpoint(reactor, 0, "::1")
    if kind == "string":
        return StringEndpoint(reactor, "tcp:0:interface=127.0.0.1")
    inherited = socket.create_server(("127.0.0.1", 0))
    if kind == "adopted":
        return AdoptedStreamServerEndpoint(reactor, inherited.detach(), socket.AF_INET)
    # systemd-socket-activate cannot be asked here; this is what it ends in.
    return StringEndpoint(reactor, "tcp:0", inherited=inherited.detach())


def talk(address: Any) -> bytes:
    """Say something with urgent bytes in it; return what comes back."""
    with socket.create_connection(address[:2], 10) as client:
        for n in range(8):
            client.sendall(bytes([n]) * 49)
            client.send(b"!" if n % 2 else b"ab!", socket.MSG_OOB)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := client.recv(1 << 16):
            received += chunk
        return received


SAID = b"".join(bytes([n]) * 49 + (b"!" if n % 2 else b"ab!") for n in range(8))


@linux
@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("kind", LISTENERS)
def test_every_connection_has_them(kind: str, fast_lane: bool) -> None:
    async def main(reactor: Any) -> tuple[list[bytes], tuple[int, ...]]:
        endpoint = listener(kind, reactor)
        factory = EchoFactory(protocol=Noting, reactor=reactor)
        service = EchoService(
            endpoint, factory, reactor=reactor, fast_lane=fast_lane, keepalive=39.5
        )
        service.startService()
        port: Any = service.ports[0]
        address = port.socket.getsockname()
        pool = reactor.getThreadPool()
        try:
            said = [await deferToThreadPool(reactor, pool, talk, address) for _ in range(2)]
            return said, options_of(port.socket)
        finally:
            await service.stopService()

    Noting.seen = []
    said, of_port = run(main)
    assert said == [SAID, SAID]
    assert Noting.seen == [(1, 1, 1, 40, 10, 4)] * 2
    assert of_port == (1, 1, 1, 40, 10, 4)


@linux
@pytest.mark.parametrize("fast_lane", [True, False])
def test_a_client_that_came_before_an_inherited_socket_was_ours_has_them(fast_lane: bool) -> None:
    async def main(reactor: Any) -> bytes:
        inherited = socket.create_server(("127.0.0.1", 0))
        address = inherited.getsockname()
        early = deferToThreadPool(reactor, reactor.getThreadPool(), talk, address)
        assert select.select([inherited], [], [], 10)[0]
        inherited.setblocking(False)
        endpoint = AdoptedStreamServerEndpoint(reactor, inherited.detach(), socket.AF_INET)
        factory = EchoFactory(protocol=Noting, reactor=reactor)
        service = EchoService(endpoint, factory, reactor=reactor, fast_lane=fast_lane)
        service.startService()
        try:
            return await early
        finally:
            await service.stopService()

    Noting.seen = []
    assert run(main) == SAID
    assert Noting.seen == [(1, 1, 1, 60, 15, 4)]


@linux
@pytest.mark.parametrize("had_them", [True, False])
def test_connections_of_an_inherited_socket_that_had_them_are_not_given_them(
    had_them: bool,
) -> None:
    async def main(reactor: Any) -> bool:
        inherited = socket.create_server(("127.0.0.1", 0))
        ConnectionOptions(60 if had_them else 61).apply(inherited)
        endpoint = AdoptedStreamServerEndpoint(reactor, inherited.detach(), socket.AF_INET)
        service = EchoService(endpoint, reactor=reactor, fast_lane=False)
        service.startService()
        port: Any = service.ports[0]
        assert options_of(port.socket) == (1, 1, 1, 60, 15, 4)
        given = port.transport is not StockTransport
        await service.stopService()
        return given

    assert run(main) is not had_them


@linux
def test_a_parent_sets_them_before_a_worker_runs() -> None:
    async def main(reactor: Any) -> list[tuple[int, ...]]:
        endpoints = [TCPEndpoint(reactor, 0), StringEndpoint(reactor, "tcp:0")]
        service = WorkersService(endpoints, 2, reactor=reactor, keepalive=8)
        service.privilegedStartService()
        found = [options_of(port.socket) for port in service.ports]  # type: ignore[attr-defined]
        await service.stopService()
        return found

    assert run(main) == [(1, 1, 1, 8, 2, 4)] * 4


@linux
def test_none_leaves_what_there_is() -> None:
    for before in (0, 1):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, before)
            ConnectionOptions(0).apply(sock)
            assert options_of(sock)[:2] == (before, 1)


def test_a_platform_without_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_KEEPIDLE", "_KEEPINTVL", "_KEEPCNT"):
        monkeypatch.setattr(connection_options, name, None)
    with socket.socket() as sock:
        ConnectionOptions(9).apply(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_what_is_not_a_tcp_socket_is_left_alone() -> None:
    with ExitStack() as stack:
        unix = [stack.enter_context(each) for each in socket.socketpair()]
        ConnectionOptions(9).apply(unix[0])
        assert not unix[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        closed = socket.socket()
        closed.close()
        ConnectionOptions(9).apply(closed)
        ConnectionOptions(9).apply_to_port(object())


@pytest.mark.parametrize("seconds", [-1, 0.5, 32768, float("inf"), float("nan")])
def test_a_time_that_is_out_of_range(seconds: float) -> None:
    allowed = "allowed: 1 to 32767 seconds; 0 for never"
    with pytest.raises(ValueError, match=f"keepalive={seconds}; {allowed}"):
        check_keepalive(seconds)
    for service in (EchoService, lambda *_, **named: WorkersService([], 1, **named)):
        with pytest.raises(ValueError, match=allowed):
            service([], keepalive=seconds)
