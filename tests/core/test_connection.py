"""One connection of a factory: its gates, its pauses, its ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.core.connection import BACKPRESSURE, GATE, RATE, Connection, Gate
from echoproto.core.factory import EchoFactory
from echoproto.core.protocol import Echo
from tests.logs import logged
from tests.transports import TCPLikeTransport, TLSLikeTransport, UNIXLikeTransport

TRANSPORTS = [StringTransport, TCPLikeTransport, TLSLikeTransport, UNIXLikeTransport]
CLIENT = IPv4Address("TCP", "192.0.2.1", 4242)


def connected(transport: StringTransport, factory: EchoFactory | None = None) -> Connection:
    connection = (factory or EchoFactory()).buildProtocol(CLIENT)
    connection.makeConnection(transport)
    return connection


class AnyConnection(RuleBasedStateMachine):
    """Input, pauses, resumes and ends in any order that a transport allows."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = TCPLikeTransport()
        self.connection = connected(self.transport)
        self.in_time = self.late = b""
        self.finished = self.input_ended = False

    @precondition(lambda self: not self.input_ended)
    @rule(chunk=st.binary(min_size=1))
    def receive(self, chunk: bytes) -> None:
        self.connection.dataReceived(chunk)
        if self.finished:
            self.late += chunk
        else:
            self.in_time += chunk

    @precondition(lambda self: self.transport.producer is not None)
    @rule()
    def the_buffer_is_full(self) -> None:
        self.connection.pauseProducing()

    @precondition(lambda self: self.transport.producer is not None)
    @rule()
    def the_buffer_is_empty(self) -> None:
        self.connection.resumeProducing()

    @precondition(lambda self: not self.input_ended)
    @rule()
    def the_client_sends_fin(self) -> None:
        self.connection.readConnectionLost()
        self.input_ended = True

    @rule()
    def finish(self) -> None:
        self.connection.finish()
        if not self.input_ended:
            assert self.transport.producerState == "producing"
        self.finished = True

    @invariant()
    def all_that_came_in_time_went_back(self) -> None:
        assert self.transport.value() == self.in_time
        assert self.connection.bytes_echoed == len(self.in_time)
        assert self.connection.bytes_discarded == len(self.late)

    @invariant()
    def it_closes_when_and_only_when_input_has_ended(self) -> None:
        assert self.transport.disconnecting == self.input_ended
        assert "abortConnection" not in self.transport.calls

    @invariant()
    def a_closing_transport_waits_for_no_producer(self) -> None:
        if self.input_ended or self.finished:
            assert self.transport.producer is None

    def teardown(self) -> None:
        self.connection.connectionLost(Failure(ConnectionDone()))


TestAnyConnection = AnyConnection.TestCase


def test_it_is_the_producer_of_its_transport() -> None:
    transport = TCPLikeTransport()
    connection = connected(transport)
    verifyObject(IPushProducer, connection)
    assert transport.producer is connection
    assert transport.streaming is True
    connection.stopProducing()


def test_finish_with_half_close_waits_for_the_other_side() -> None:
    transport = TCPLikeTransport()
    connection = connected(transport)
    connection.dataReceived(b"in time")
    connection.pauseProducing()
    connection.finish()
    connection.finish()
    assert transport.calls == ["unregisterProducer", "resumeProducing", "loseWriteConnection"]
    connection.writeConnectionLost()
    connection.dataReceived(b"too late")
    assert (connection.bytes_echoed, connection.bytes_discarded) == (7, 8)
    assert not transport.disconnecting
    connection.readConnectionLost()
    assert transport.disconnecting
    assert transport.value() == b"in time"


@pytest.mark.parametrize("make", [TLSLikeTransport, StringTransport])
def test_finish_without_half_close_closes(make: type[StringTransport]) -> None:
    transport = make()
    connection = connected(transport)
    connection.dataReceived(b"in time")
    connection.finish()
    assert transport.producer is None
    assert transport.disconnecting
    assert not transport.disconnected
    # TLS goes on reading until the other side's close_notify.
    connection.dataReceived(b"too late")
    assert (connection.bytes_echoed, connection.bytes_discarded) == (7, 8)
    assert transport.value() == b"in time"


@pytest.mark.parametrize("make", TRANSPORTS)
def test_finish_goes_on_reading(make: type[StringTransport]) -> None:
    transport = make()
    connection = connected(transport)
    connection.pauseProducing()
    connection.finish()
    # Over TLS the other side's close_notify would never be read.
    assert transport.producerState == "producing"


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([BACKPRESSURE, GATE, RATE])) | st.none(),
        max_size=20,
    )
)
def test_reading_goes_on_when_no_reason_against_it_is_left(
    events: list[tuple[bool, int] | None],
) -> None:
    transport = TCPLikeTransport()
    connection = connected(transport)
    reasons: set[int] = set()
    ended = False
    for event in events:
        resumed = transport.calls.count("resumeProducing")
        if event is None:
            if not ended:
                connection.readConnectionLost()
            ended = True
            continue
        pause, reason = event
        if pause:
            reasons.add(reason)
            connection.pause_reading(reason)
        else:
            reasons.discard(reason)
            connection.resume_reading(reason)
        if not ended:
            assert (transport.producerState == "producing") == (not reasons)
            assert connection.throttled == (RATE in reasons)
        else:
            assert transport.calls.count("resumeProducing") == resumed


class FakeGate:
    """Stands before a connection until the test decides, and notes what it is told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.told: list[str] = []

    def received(self) -> None:
        self.told.append(f"received {len(self.connection.early)}")

    def input_ended(self) -> None:
        self.told.append("input_ended")

    def close(self) -> None:
        self.told.append("close")


class GatedFactory(EchoFactory):
    """One with gates of the test's."""

    def __init__(self, *makers: Callable[[Connection], Gate | None], **named: Any) -> None:
        super().__init__(**named)
        self.gates = makers


def gated(transport: StringTransport, **named: Any) -> tuple[Connection, FakeGate]:
    gates: list[FakeGate] = []

    def make(connection: Connection) -> FakeGate:
        gates.append(FakeGate(connection))
        return gates[-1]

    connection = connected(transport, GatedFactory(make, **named))
    return connection, gates[0]


@given(early=st.lists(st.binary(min_size=1)), late=st.lists(st.binary(min_size=1)))
def test_what_arrives_before_admission_is_returned_in_order(
    early: list[bytes], late: list[bytes]
) -> None:
    transport = TCPLikeTransport()
    connection, gate = gated(transport)
    for chunk in early:
        connection.dataReceived(chunk)
    assert transport.value() == b""
    assert len(gate.told) == len(early)
    connection.admit()
    for chunk in late:
        connection.dataReceived(chunk)
    assert transport.value() == b"".join(early + late)
    assert connection.bytes_echoed == len(transport.value())


def test_a_gate_may_take_what_is_meant_for_it() -> None:
    transport = TCPLikeTransport()
    connection, _ = gated(transport)
    connection.dataReceived(b"header data")
    del connection.early[:7]
    connection.admit()
    assert transport.value() == b"data"


def test_gates_stand_one_behind_the_other() -> None:
    transport = TCPLikeTransport()
    order: list[str] = []

    def first(connection: Connection) -> FakeGate:
        order.append("first")
        return FakeGate(connection)

    def second(connection: Connection) -> None:
        order.append("second")

    def third(connection: Connection) -> FakeGate:
        order.append("third")
        return FakeGate(connection)

    connection = connected(transport, GatedFactory(first, second, third))
    connection.dataReceived(b"a")
    assert order == ["first"]
    connection.admit()
    assert order == ["first", "second", "third"]
    connection.dataReceived(b"b")
    assert not connection._admitted
    connection.admit()
    assert connection._admitted
    assert transport.value() == b"ab"


def test_the_protocol_learns_of_an_admitted_connection_only() -> None:
    events: list[str] = []

    class Noting(Echo):
        def connectionMade(self) -> None:
            super().connectionMade()
            events.append("made")

        def connectionLost(self, reason: Any = None) -> None:
            events.append("lost")

    connection, gate = gated(TCPLikeTransport(), protocol=Noting)
    connection.connectionLost(Failure(ConnectionDone()))
    assert (events, gate.told) == ([], ["close"])
    connection, gate = gated(TCPLikeTransport(), protocol=Noting)
    connection.admit()
    connection.connectionLost(Failure(ConnectionDone()))
    assert (events, gate.told) == (["made", "lost"], [])


def test_the_end_of_input_waits_for_admission() -> None:
    transport = TCPLikeTransport()
    connection, gate = gated(transport)
    connection.dataReceived(b"data")
    connection.readConnectionLost()
    assert gate.told == ["received 4", "input_ended"]
    assert not transport.disconnecting
    connection.admit()
    assert transport.value() == b"data"
    assert transport.disconnecting


def test_a_drain_before_admission() -> None:
    transport = TCPLikeTransport()
    connection, gate = gated(transport)
    connection.dataReceived(b"early")
    connection.finish()
    connection.dataReceived(b" late")
    assert gate.told == ["received 5", "close"]
    assert (connection.bytes_echoed, connection.bytes_discarded) == (0, 10)
    assert "loseWriteConnection" in transport.calls
    connection.readConnectionLost()
    assert transport.disconnecting
    assert transport.value() == b""


@pytest.mark.parametrize(
    ("make", "call"), [(TCPLikeTransport, "loseConnection"), (TLSLikeTransport, "abortConnection")]
)
def test_a_refusal(make: type[TCPLikeTransport], call: str) -> None:
    def refuse(connection: Connection) -> None:
        connection.refuse("source", "it has too many", "192.0.2.1")

    transport = make()
    factory = GatedFactory(refuse)
    with logged() as log:
        connection = connected(transport, factory)
    assert transport.producerState == "paused"
    assert ("abortConnection" in transport.calls) == (call == "abortConnection")
    assert call in transport.calls
    assert connection.refused == "source"
    assert factory.stats.refused == {"source": 1}
    assert log.lines == ["refused 192.0.2.1:4242: it has too many"]
    factory.flush()
    # It is closing already.
    connection.finish()
    connection.readConnectionLost()
    assert "loseWriteConnection" not in transport.calls
    connection.connectionLost(Failure(ConnectionDone()))
    assert (factory.live, factory.stats.failed, factory.stats.silent) == (0, 0, 0)


def test_a_refusal_by_a_gate_that_waited() -> None:
    transport = TCPLikeTransport()
    connection, gate = gated(transport)
    connection.dataReceived(b"data")
    connection.refuse("proxy", "no header")
    assert gate.told == ["received 4", "close"]
    assert transport.value() == b""
    connection.factory.flush()  # type: ignore[attr-defined]


@pytest.mark.parametrize("unreturned", [0, 5])
def test_the_server_ends_it(unreturned: int) -> None:
    factory = EchoFactory()
    transport = TCPLikeTransport()
    connection = connected(transport, factory)
    with logged() as log:
        connection.end("idle", unreturned)
    assert ("abortConnection" in transport.calls) == bool(unreturned)
    assert "loseConnection" in transport.calls
    assert factory.stats.ended == {"idle": 1}
    assert factory.stats.bytes_unreturned == unreturned
    assert log.lines == (
        [
            "aborted idle connection from 192.0.2.1:4242: 5 bytes not returned because the client "
            "does not read (5 in total)"
        ]
        if unreturned
        else []
    )
    factory.flush()
    connection.connectionLost(Failure(ConnectionLost()))
    assert factory.stats.failed == 0


def test_what_waits_at_a_gate_is_not_returned_either() -> None:
    transport = TCPLikeTransport()
    connection, _ = gated(transport)
    connection.dataReceived(b"early")
    connection.end("idle")
    assert "abortConnection" in transport.calls
    factory: Any = connection.factory
    assert factory.stats.bytes_unreturned == 5
    factory.flush()


def test_releases_happen_once() -> None:
    released: list[int] = []
    connection = connected(TCPLikeTransport())
    for number in range(2):
        connection.on_close(lambda number=number: released.append(number))  # type: ignore[misc]
    connection.drop()
    connection.connectionLost(Failure(ConnectionDone()))
    assert released == [0, 1]


def test_a_dropped_connection_is_not_counted_twice() -> None:
    factory = EchoFactory()
    connection = connected(TCPLikeTransport(), factory)
    connection.dataReceived(b"data")
    connection.drop()
    dropped = factory.stats
    assert (dropped.dropped, dropped.bytes_echoed, factory.live) == (1, 4, 0)
    connection.connectionLost(Failure(ConnectionLost()))
    assert factory.stats == dropped


def test_a_reason_of_none_is_borne() -> None:
    factory = EchoFactory()
    connection = connected(TCPLikeTransport(), factory)
    connection.connectionLost(None)
    assert (factory.live, factory.stats.failed) == (0, 1)


class BrokenError(Exception):
    """What a protocol of the user's raises."""


def raising(name: str) -> type[Echo]:
    """Return a protocol one method of which raises."""

    def method(self: Echo, *arguments: Any) -> None:
        raise BrokenError(name)

    return type("Raising", (Echo,), {name: method})


def test_a_protocol_that_raises_when_it_is_connected_is_aborted() -> None:
    factory = EchoFactory(protocol=raising("connectionMade"))
    transport = TCPLikeTransport()
    with logged() as log:
        connection = connected(transport, factory)
    assert "abortConnection" in transport.calls
    assert "BrokenError" in log.text
    connection.connectionLost(Failure(ConnectionLost()))
    assert (factory.live, factory.stats.accepted, factory.stats.failed) == (0, 1, 1)


@pytest.mark.parametrize("name", ["connectionMade", "dataReceived", "readConnectionLost"])
def test_a_protocol_that_raises_at_its_admission_is_aborted(name: str) -> None:
    transport = TCPLikeTransport()
    connection, _ = gated(transport, protocol=raising(name))
    connection.dataReceived(b"early")
    connection.readConnectionLost()
    with logged() as log:
        connection.admit()
    assert "abortConnection" in transport.calls
    assert "BrokenError" in log.text


def test_book_keeping_comes_before_a_protocol_that_raises_at_its_end() -> None:
    factory = EchoFactory(protocol=raising("connectionLost"))
    connection = connected(TCPLikeTransport(), factory)
    released: list[str] = []
    connection.on_close(lambda: released.append("slot"))
    connection.dataReceived(b"data")
    with pytest.raises(BrokenError):
        connection.connectionLost(Failure(ConnectionDone()))
    assert (factory.live, factory.stats.bytes_echoed, released) == (0, 4, ["slot"])


def test_a_protocol_may_close_its_transport_while_it_is_paused() -> None:
    transport = TCPLikeTransport()
    connection = connected(transport)
    connection.pauseProducing()
    transport.loseConnection()
    # The transport has sent what it had, and would wait for its producer for ever.
    connection.resumeProducing()
    assert transport.producer is None
