"""Who waits for a place, with ports that are played, and with real ones."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from echoproto import EchoService, TCPEndpoint
from echoproto.core.factory import EchoFactory
from echoproto.limits.per_source import Limits
from tests.fakes import FakeQueuePort, turn
from tests.reactors import run


@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 8)), max_size=30),
)
def test_there_are_never_more_and_nobody_waits_in_vain(
    most: int, count: int, events: list[tuple[int, int]]
) -> None:
    factory = EchoFactory(limits=Limits(max_connections=most))
    ports = [FakeQueuePort(factory) for _ in range(count)]
    for port in ports:
        factory.places.guard(port)  # type: ignore[arg-type]
    for which, number in events:
        port = ports[which % count]
        if number > 0:
            port.queued += number
        for _ in range(-number):
            if port.made:
                port.made.popleft().connectionLost(Failure(ConnectionDone()))
                assert factory.live <= most
        turn(ports)
        assert factory.live <= most
        assert factory.live == most or not any(each.queued for each in ports)
    assert not factory.refused


def test_ports_take_turns() -> None:
    factory = EchoFactory(limits=Limits(max_connections=1))
    ports = [FakeQueuePort(factory) for _ in range(3)]
    for port in ports:
        factory.places.guard(port)  # type: ignore[arg-type]
        port.queued = 10
    turn(ports)
    for _ in range(9):
        (live,) = factory.connections
        live.connectionLost(Failure(ConnectionDone()))
        turn(ports)
    assert {port.queued for port in ports} <= {6, 7}


def test_without_a_limit_a_port_is_left_alone() -> None:
    factory = EchoFactory()
    port = FakeQueuePort(factory)
    factory.places.guard(port)  # type: ignore[arg-type]
    assert "doRead" not in vars(port)


@pytest.mark.parametrize("fast_lane", [True, False])
def test_a_drain_hears_those_who_wait(fast_lane: bool) -> None:
    async def main(reactor: Any) -> None:
        factory = EchoFactory(clock=reactor, limits=Limits(max_connections=2))
        endpoint = TCPEndpoint(reactor, 0)
        service = EchoService(endpoint, factory, 10.0, reactor, fast_lane)
        service.startService()
        where = ("127.0.0.1", service.ports[0].getHost().port)  # type: ignore[attr-defined]
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(where)) for _ in range(5)]
            for client in clients:
                client.sendall(b"data")
                client.setblocking(False)
            await until(reactor, lambda: factory.live == 2)
            over = service.stopService()
            await until(reactor, lambda: factory.places.waiting == 3)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(where)
            answered = 0
            while answered < 5:
                for client in clients:
                    try:
                        assert client.recv(9) == b"data"
                    except BlockingIOError:
                        continue
                    client.close()
                    clients.remove(client)
                    answered += 1
                    assert factory.live <= 2
                    break
                await deferLater(reactor, 0)
            await over
        assert (factory.accepted, factory.live, factory.places.waiting) == (5, 0, 0)

    run(main)


@pytest.mark.parametrize("fast_lane", [True, False])
def test_those_who_wait_in_vain_are_closed(fast_lane: bool) -> None:
    async def main(reactor: Any) -> None:
        factory = EchoFactory(clock=reactor, limits=Limits(max_connections=1))
        service = EchoService(TCPEndpoint(reactor, 0), factory, 0.1, reactor, fast_lane)
        service.startService()
        where = ("127.0.0.1", service.ports[0].getHost().port)  # type: ignore[attr-defined]
        with ExitStack() as stack:
            first, other = (stack.enter_context(socket.create_connection(where)) for _ in range(2))
            await until(reactor, lambda: factory.live == 1)
            over = service.stopService()
            await until(reactor, lambda: factory.places.waiting == 1)
            other.setblocking(False)
            await until(reactor, lambda: factory.places.waiting == 0)
            other.settimeout(10)
            assert other.recv(1) == b""
            first.close()
            await over
        assert factory.accepted == 1

    run(main)


async def until(reactor: Any, condition: Any) -> None:
    while not condition():
        await deferLater(reactor, 0.001)
