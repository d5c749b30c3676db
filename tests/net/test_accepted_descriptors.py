"""Connections in the lane that have no socket object until one is needed."""

from __future__ import annotations

import gc
import os
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.error import ConnectionAborted

from echoproto.core.factory import EchoFactory
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.transports import TCPTransport
from tests.logs import logged
from tests.net.serving import Recorders, Serving, returns, serving
from tests.reactors import run

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


@asynccontextmanager
async def inheriting(reactor: Any, factory: Any) -> AsyncIterator[Serving]:
    """Serve on a port whose connections inherit TCP_NODELAY, the first one of which is known."""
    async with serving(reactor, factory) as served:
        served.port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await served.connected()
        yield served


def has_socket(transport: TCPTransport) -> bool:
    return transport._socket is not None


@pytest.mark.parametrize("inherited", [False, True])
def test_it_takes_the_inherited_option_to_accept_without_a_socket(inherited: bool) -> None:
    async def main(reactor: Any) -> list[bool]:
        made: list[bool] = []
        async with serving(reactor, Recorders(data=returns)) as served:
            served.port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, inherited)
            for _ in range(3):
                client, recorder = await served.connected()
                client.sendall(b"x")
                assert await served.receive(client, 1) == b"x"
                made.append(has_socket(recorder.transport))
                assert not os.get_blocking(recorder.transport.fileno())
                assert not os.get_inheritable(recorder.transport.fileno())
                assert recorder.transport.getTcpNoDelay() is inherited
        return made

    # The first one tells.
    assert run(main) == [True, not inherited, not inherited]


def test_a_transport_set_later_gets_sockets() -> None:
    """A function in its place expects what ``tcp.Server`` does."""

    async def main(reactor: Any) -> None:
        got: list[Any] = []

        def transport(sock: Any, *more: Any) -> tcp.Server:
            got.append(sock)
            return TCPTransport(sock, *more)

        async with inheriting(reactor, Recorders(data=returns)) as served:
            served.port.transport = transport
            await served.connected()
        assert [type(each) for each in got] == [socket.socket]

    run(main)


ASKS: dict[str, Callable[[Any], Any]] = {
    "its handle": lambda transport: transport.getHandle().getpeername() == transport.client,
    "its address": lambda transport: transport.getHost().port == transport.server.getHost().port,
    "keep-alives": lambda transport: transport.setTcpKeepAlive(True) is None,
    "delays": lambda transport: transport.setTcpNoDelay(False) or not transport.getTcpNoDelay(),
    "no delays again": lambda transport: (
        transport.setTcpNoDelay(False),
        transport.setTcpNoDelay(True),
        transport.getTcpNoDelay(),
    )[-1],
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=list(ASKS))
def test_the_socket_is_made_when_it_is_asked_for(ask: Callable[[Any], Any]) -> None:
    async def main(reactor: Any) -> bytes:
        async with inheriting(reactor, Recorders(data=returns)) as served:
            client, recorder = await served.connected()
            transport = recorder.transport
            transport.setTcpNoDelay(True)
            assert not has_socket(transport)
            assert ask(transport)
            assert has_socket(transport)
            assert transport.socket is transport.getHandle()
            assert transport.socket.gettimeout() == 0
            number = transport.fileno()
            client.sendall(b"x")
            assert await served.receive(client, 1) == b"x"
            transport.loseConnection()
            end = await served.receive(client)
            # The kernel has the number again.
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(number)
            return end

    assert run(main) == b""


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("end", ["loseConnection", "abortConnection", "the client's FIN"])
def test_its_end(asked: bool, end: str) -> None:
    async def main(reactor: Any) -> Any:
        async with inheriting(reactor, Recorders()) as served:
            client, recorder = await served.connected()
            transport = recorder.transport
            number = transport.fileno()
            if asked:
                transport.getHandle()
            if end == "the client's FIN":
                client.shutdown(socket.SHUT_WR)
            else:
                getattr(transport, end)()
            await served.until(lambda: recorder.events[-1] == "lost")
            assert transport.fileno() == -1
            assert not hasattr(transport, "socket")
            assert not hasattr(transport, "protocol")
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(number)
            if end == "abortConnection":
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            else:
                assert client.recv(1) == b""
            transport.connectionLost(None)
            return recorder

    recorder = run(main)
    assert recorder.events == ["made", "lost"]
    assert (recorder.reason is ConnectionAborted) is (end == "abortConnection")


@pytest.mark.parametrize("answer", [None, ZeroDivisionError("on purpose")])
def test_a_client_that_gets_no_protocol_costs_no_descriptor(answer: Exception | None) -> None:
    async def main(reactor: Any) -> None:
        async with inheriting(reactor, Recorders()) as served:
            before = os.listdir("/proc/self/fd")

            def build(addr: Any) -> None:
                if answer is not None:
                    raise answer

            served.factory.buildProtocol = build
            client = served.connect()
            assert await served.receive(client) == b""
            client.close()
            assert os.listdir("/proc/self/fd") == before

    with logged("") as log:
        run(main)
    assert log.text.count("ZeroDivisionError: on purpose") == (answer is not None)


def test_a_descriptor_that_was_closed_elsewhere_hides_no_end() -> None:
    async def main(reactor: Any) -> Any:
        async with inheriting(reactor, Recorders()) as served:
            _, recorder = await served.connected()
            recorder.transport.stopReading()
            os.close(recorder.transport.fileno())
            recorder.transport.abortConnection()
            await served.until(lambda: recorder.events[-1] == "lost")
            return recorder.events

    assert run(main) == ["made", "lost"]


class Known(EchoFactory):
    """Knows the connections that it has made."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor=reactor)
        self.made: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        connection: Any = super().buildProtocol(addr)
        connection.events = []
        self.made.append(connection)
        return connection


@pytest.mark.parametrize("inherited", [False, True])
def test_an_echo_waits_for_no_acknowledgement(inherited: bool) -> None:
    """Nagle's algorithm is off, for the first connection and for those that inherit that."""

    async def main(reactor: Any) -> list[bool]:
        async with serving(reactor, Known(reactor)) as served:
            served.port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, inherited)
            connections = [(await served.connected())[1] for _ in range(3)]
            return [bool(each.transport.getTcpNoDelay()) for each in connections]

    assert run(main) == [True] * 3


@pytest.mark.parametrize("end", ["FIN", "abort", "finish"])
def test_a_closed_connection_waits_for_no_garbage_collector(end: str) -> None:
    async def main(reactor: Any) -> None:
        async with inheriting(reactor, Known(reactor)) as served:
            client, connection = await served.connected()
            client.sendall(b"x")
            assert await served.receive(client, 1) == b"x"
            parts = [weakref.ref(connection), weakref.ref(connection.transport)]
            if end == "FIN":
                client.shutdown(socket.SHUT_WR)
            elif end == "abort":
                connection.abort()
            else:
                connection.finish()
                client.shutdown(socket.SHUT_WR)
            del connection
            served.factory.made.clear()
            await served.until(lambda: served.factory.live == 1)
            await served.until(lambda: [part() for part in parts] == [None, None])
            for each in served.factory.connections:
                each.abort()

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()
