"""Connection slots, with fake ports and with real ones."""

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
from echoproto.limits.limits import Limits
from echoproto.limits.slots import ConnectionSlots, SlotsExtension
from tests.fakes import FakeQueuePort, turn
from tests.reactors import run


def slots_of(factory: EchoFactory) -> Any:
    return factory.slots


def guard(factory: EchoFactory, port: FakeQueuePort) -> None:
    slots_of(factory).guard(port)


@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 8)), max_size=30),
)
def test_the_limit_is_never_exceeded_and_every_free_slot_is_used(
    most: int, count: int, events: list[tuple[int, int]]
) -> None:
    factory = EchoFactory(limits=Limits(max_connections=most))
    ports = [FakeQueuePort(factory) for _ in range(count)]
    for port in ports:
        guard(factory, port)
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
    assert not factory.stats.refused


def test_ports_take_turns() -> None:
    factory = EchoFactory(limits=Limits(max_connections=1))
    ports = [FakeQueuePort(factory) for _ in range(3)]
    for port in ports:
        guard(factory, port)
        port.queued = 10
    turn(ports)
    for _ in range(9):
        (live,) = factory.connections
        live.connectionLost(Failure(ConnectionDone()))
        turn(ports)
    assert {port.queued for port in ports} <= {6, 7}


def test_without_a_limit_there_are_no_slots() -> None:
    assert EchoFactory(limits=Limits()).slots is None


def test_all_slots_are_filled_at_once_each_port_in_turn() -> None:
    live = 0
    slots = ConnectionSlots(3, lambda: live + factory.live)
    factory = EchoFactory()
    ports: list[Any] = [FakeQueuePort(factory) for _ in range(3)]
    for port in ports:
        slots.guard(port)
        port.queued = 2
    live = 3
    turn(ports)
    assert len(slots.waiting_ports) == 3
    assert not any(port.reading for port in ports)
    live = 0
    slots.fill()
    assert [port.queued for port in ports] == [0, 1, 2]
    # The last one had no turn, and goes on waiting.
    assert [port.reading for port in ports] == [True, True, False]
    assert len(slots.waiting_ports) == 1


@pytest.mark.parametrize("ours", [True, False])
def test_the_extension(ours: bool) -> None:
    """Clients are parked only if the socket ends with the port."""
    factory = EchoFactory()
    slots = ConnectionSlots(1, lambda: 1)
    extension = SlotsExtension(slots)
    port: Any = ParkingPort(factory)
    extension.starting(None)
    extension.port_opened(port, 50 if ours else None)
    extension.started()
    extension.port_closing(port)
    port.doRead()
    assert slots.waiting == ours
    assert port.reading is ours
    extension.port_closed(port)
    port.doRead()
    assert slots.waiting == 1 + ours
    extension.stopped()
    assert slots.drop_waiting() == 1 + ours
    assert slots.waiting == 0
    assert [sock.fileno() for sock in port.accepted] == [-1] * (1 + ours)


class ParkingPort(FakeQueuePort):
    """A port at which a client always waits."""

    def __init__(self, factory: EchoFactory) -> None:
        super().__init__(factory)
        self.socket = self
        self.accepted: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        self.accepted.append(socket.socket())
        return self.accepted[-1], ("192.0.2.1", 7)


@pytest.mark.parametrize("fast_lane", [True, False])
def test_a_drain_serves_the_clients_that_wait(fast_lane: bool) -> None:
    async def main(reactor: Any) -> None:
        factory = EchoFactory(reactor=reactor, limits=Limits(max_connections=2))
        endpoint = TCPEndpoint(reactor, 0)
        service = EchoService(endpoint, factory, reactor=reactor, fast_lane=fast_lane)
        service.startService()
        where = ("127.0.0.1", service.ports[0].getHost().port)  # type: ignore[attr-defined]
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(where)) for _ in range(5)]
            for client in clients:
                client.sendall(b"data")
                client.setblocking(False)
            await until(reactor, lambda: factory.live == 2)
            over = service.stopService()
            await until(reactor, lambda: slots_of(factory).waiting == 3)
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
        assert (factory.stats.accepted, factory.live, slots_of(factory).waiting) == (5, 0, 0)

    run(main)


@pytest.mark.parametrize("fast_lane", [True, False])
def test_parked_connections_are_closed_at_the_end_of_a_drain(fast_lane: bool) -> None:
    async def main(reactor: Any) -> None:
        factory = EchoFactory(reactor=reactor, limits=Limits(max_connections=1))
        service = EchoService(
            TCPEndpoint(reactor, 0),
            factory,
            drain_timeout=0.1,
            reactor=reactor,
            fast_lane=fast_lane,
        )
        service.startService()
        where = ("127.0.0.1", service.ports[0].getHost().port)  # type: ignore[attr-defined]
        with ExitStack() as stack:
            first, other = (stack.enter_context(socket.create_connection(where)) for _ in range(2))
            await until(reactor, lambda: factory.live == 1)
            over = service.stopService()
            await until(reactor, lambda: slots_of(factory).waiting == 1)
            other.setblocking(False)
            await until(reactor, lambda: slots_of(factory).waiting == 0)
            other.settimeout(10)
            assert other.recv(1) == b""
            first.close()
            await over
        assert factory.stats.accepted == 1

    run(main)


async def until(reactor: Any, condition: Any) -> None:
    while not condition():
        await deferLater(reactor, 0.001)
