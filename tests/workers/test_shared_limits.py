"""Limits that hold for several workers together, however their messages cross."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from echoproto.workers.channel import Channel
from echoproto.workers.shared_limits import LimitCoordinator, WorkerLimits
from tests.fakes import CLIENT, FakeQueuePort, turn
from tests.transports import TCPLikeTransport


class Worker:
    """A worker, and the two pipes between it and the parent."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        coordinator: LimitCoordinator,
        log: str = "listening",
    ) -> None:
        self.name = name
        self.to_parent: deque[bytes] = deque()
        self.to_worker: deque[bytes] = deque()
        self._from_parent = Channel(self.to_parent.append)
        self._from_worker = Channel(self.to_worker.append)
        coordinator.connect(name, self._from_worker)
        self.factory = EchoFactory(limits=WorkerLimits(limits, self._from_parent), log=log)
        self.port = FakeQueuePort(self.factory)
        self.guard(self.port)

    def guard(self, port: FakeQueuePort) -> None:
        slots: Any = self.factory.slots
        if slots is not None:
            slots.guard(port)

    def parent_hears(self) -> bool:
        """Let the parent handle one message."""
        if self.to_parent:
            self._from_worker.receive(self.to_parent.popleft())
            return True
        return False

    def hears(self) -> bool:
        """Handle one message of the parent's."""
        if self.to_worker:
            self._from_parent.receive(self.to_worker.popleft())
            return True
        return False

    def one_leaves(self) -> None:
        if self.port.made:
            self.port.made.popleft().connectionLost(Failure(ConnectionDone()))


class Cluster:
    """A parent and its workers."""

    def __init__(self, count: int, log: str = "listening", **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.coordinator = LimitCoordinator(self.limits)
        self._log = log
        self.workers = {name: self.start(name) for name in "abc"[:count]}

    def start(self, name: str) -> Worker:
        return Worker(name, self.limits, self.coordinator, self._log)

    def kill(self, name: str) -> int:
        """Replace a worker; return how many clients waited in its queue."""
        worker = self.workers[name]
        # What it has said is heard before its end is.
        while worker.parent_hears():
            pass
        self.coordinator.forget(name)
        self.workers[name] = self.start(name)
        return worker.port.queued

    @property
    def live(self) -> int:
        return sum(worker.factory.live for worker in self.workers.values())

    def settle(self) -> None:
        """Let all messages arrive, and all ports be read."""
        moved = True
        while moved:
            moved = False
            for worker in self.workers.values():
                turn([worker.port])
                moved |= worker.parent_hears() or worker.hears()


EVENTS = st.tuples(
    st.sampled_from(["come", "leave", "read", "parent", "worker", "kill"]),
    st.integers(0, 2),
    st.integers(1, 6),
)


@given(st.integers(1, 4), st.integers(1, 3), st.lists(EVENTS, max_size=60))
def test_slots_are_exact_however_the_messages_cross(
    most: int, count: int, events: list[tuple[str, int, int]]
) -> None:
    cluster = Cluster(count, max_connections=most)
    for event, which, number in events:
        name = "abc"[which % count]
        worker = cluster.workers[name]
        if event == "come":
            worker.port.queued += number
        elif event == "leave":
            worker.one_leaves()
        elif event == "read":
            turn([worker.port])
        elif event == "parent":
            worker.parent_hears()
        elif event == "worker":
            worker.hears()
        else:
            # The queue is the parent's too: the next one finds it as it was.
            waiting = cluster.kill(name)
            cluster.workers[name].port.queued = waiting
        assert cluster.live <= most
    cluster.settle()
    waiting = sum(worker.port.queued for worker in cluster.workers.values())
    assert cluster.live == most or not waiting
    # All come in at last, and nothing was refused.
    for _ in range(1000):
        if not (cluster.live or sum(worker.port.queued for worker in cluster.workers.values())):
            break
        for worker in cluster.workers.values():
            worker.one_leaves()
        cluster.settle()
        assert cluster.live <= most
    assert cluster.live == 0
    assert not any(
        worker.port.queued or worker.factory.stats.refused for worker in cluster.workers.values()
    )


def test_a_worker_has_no_slot_in_stock() -> None:
    cluster = Cluster(2, max_connections=1)
    a, b = cluster.workers.values()
    a.port.queued = 1
    cluster.settle()
    a.one_leaves()
    b.port.queued = 1
    cluster.settle()
    assert (a.factory.live, b.factory.live) == (0, 1)


def test_the_ports_of_a_worker_take_turns() -> None:
    cluster = Cluster(1, max_connections=1)
    (worker,) = cluster.workers.values()
    other = FakeQueuePort(worker.factory)
    worker.guard(other)
    ports = [worker.port, other]
    for port in ports:
        port.queued = 10
    for _ in range(8):
        turn(ports)
        while worker.parent_hears() or worker.hears():
            turn(ports)
        (live,) = worker.factory.connections
        live.connectionLost(Failure(ConnectionDone()))
    assert {port.queued for port in ports} == {6}


def enter(worker: Worker, host: str = CLIENT.host) -> Connection:
    connection = worker.factory.buildProtocol(IPv4Address("TCP", host, 7))
    connection.makeConnection(TCPLikeTransport())
    return connection


def leave(connection: Connection) -> None:
    connection.connectionLost(Failure(ConnectionDone()))


def test_a_source_is_counted_over_all_workers() -> None:
    cluster = Cluster(2, max_per_source=2)
    a, b = cluster.workers.values()
    connections = [enter(each) for each in (a, b, a, b)] + [enter(b, "192.0.2.2")]
    cluster.settle()
    assert [each.refused for each in connections] == [None, None, "source", "source", None]
    leave(connections[0])
    again, over = enter(b), enter(b)
    cluster.settle()
    assert (again.refused, over.refused) == (None, "source")


def test_what_a_dead_worker_had_is_free() -> None:
    cluster = Cluster(2, max_per_source=1)
    enter(cluster.workers["a"])
    cluster.settle()
    cluster.kill("a")
    again = enter(cluster.workers["b"])
    cluster.settle()
    assert again.refused is None


def test_the_table_of_sources_is_bounded_by_the_connections() -> None:
    cluster = Cluster(2, max_per_source=2)
    for number in range(500):
        source = f"198.51.{number // 250}.{number % 250}"
        come = [enter(worker, source) for worker in cluster.workers.values() for _ in range(2)]
        cluster.settle()
        assert [each.refused for each in come].count("source") == 2
        # One table of the parent's own, and one for what each worker has.
        assert cluster.coordinator.entries <= 3
        for each in come:
            leave(each)
        cluster.settle()
    assert cluster.coordinator.entries == 0


def test_nothing_is_lost_while_the_answer_is_awaited() -> None:
    cluster = Cluster(1, max_per_source=1)
    (worker,) = cluster.workers.values()
    connection = enter(worker)
    transport = connection.transport
    assert transport.producerState == "paused"
    connection.dataReceived(b"some ")
    connection.dataReceived(b"data")
    assert transport.value() == b""
    cluster.settle()
    assert transport.value() == b"some data"
    assert transport.producerState == "producing"
    connection.dataReceived(b"!")
    assert transport.value() == b"some data!"


def test_half_close_waits_for_the_answer_too() -> None:
    cluster = Cluster(1, max_per_source=1)
    (worker,) = cluster.workers.values()
    connection = enter(worker)
    connection.dataReceived(b"data")
    connection.readConnectionLost()
    assert "loseConnection" not in connection.transport.calls
    cluster.settle()
    assert connection.transport.value() == b"data"
    assert "loseConnection" in connection.transport.calls


def test_a_client_that_is_gone_before_the_answer_takes_no_slot() -> None:
    cluster = Cluster(1, max_per_source=1)
    (worker,) = cluster.workers.values()
    leave(enter(worker))
    cluster.settle()
    again = enter(worker)
    cluster.settle()
    assert again.refused is None
    assert worker.factory.live == 1


def test_a_drain_that_comes_before_the_answer() -> None:
    cluster = Cluster(1, max_per_source=1)
    (worker,) = cluster.workers.values()
    connection = enter(worker)
    connection.dataReceived(b"data")
    connection.finish()
    cluster.settle()
    assert connection.bytes_discarded == 4
    leave(connection)
    cluster.settle()
    again = enter(worker)
    cluster.settle()
    assert again.refused is None


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["come", "leave", "hear", "kill"])))
)
def test_sources_are_exact_however_the_messages_cross(events: list[tuple[str, str]]) -> None:
    cluster = Cluster(2, max_per_source=2)
    inside: dict[str, list[Connection]] = {"a": [], "b": []}

    def heard() -> int:
        return sum(each._admitted for name in "ab" for each in inside[name])

    for name, event in events:
        worker = cluster.workers[name]
        if event == "come":
            inside[name].append(enter(worker))
        elif event == "leave" and inside[name]:
            leave(inside[name].pop(0))
        elif event == "hear":
            if not worker.parent_hears():
                worker.hears()
        elif event == "kill":
            cluster.kill(name)
            inside[name] = []
        assert heard() <= 2
    cluster.settle()
    for name in "ab":
        for each in inside[name]:
            leave(each)
    cluster.settle()
    first, second, third = (enter(cluster.workers["a"]) for _ in range(3))
    cluster.settle()
    assert [each.refused for each in (first, second, third)] == [None, None, "source"]


@pytest.mark.parametrize("log", ["connections", "chunks"])
def test_what_is_logged_waits_for_the_answer(log: str) -> None:
    cluster = Cluster(1, log, max_per_source=1)
    (worker,) = cluster.workers.values()
    connection = enter(worker)
    connection.dataReceived(b"data")
    assert not connection.logged
    cluster.settle()
    assert connection.logged
