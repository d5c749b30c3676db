"""One connection on transports that are played by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.core.protocol import Echo, has_half_close
from tests.transports import TCPLikeTransport, TLSLikeTransport, UNIXLikeTransport

TRANSPORTS = [StringTransport, TCPLikeTransport, TLSLikeTransport, UNIXLikeTransport]


def connected(transport: StringTransport) -> Echo:
    connection = Echo()
    connection.makeConnection(transport)
    return connection


def test_its_interfaces() -> None:
    verifyObject(IProtocol, Echo())
    verifyObject(IHalfCloseableProtocol, Echo())


@pytest.mark.parametrize("make", TRANSPORTS)
@given(chunks=st.lists(st.binary()))
def test_any_payload_in_any_chunking_comes_back(
    make: type[StringTransport], chunks: list[bytes]
) -> None:
    transport = make()
    connection = connected(transport)
    for chunk in chunks:
        connection.dataReceived(chunk)
    assert transport.value() == b"".join(chunks)
    assert connection.bytes_echoed == len(transport.value())
    assert not transport.disconnecting


class AnyConnection(RuleBasedStateMachine):
    """Input, pauses, resumes and ends in any order that a transport allows."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = TCPLikeTransport()
        self.connection = connected(self.transport)
        self.said = self.discarded = b""
        self.finished = self.input_ended = False

    @precondition(lambda self: not self.input_ended)
    @rule(chunk=st.binary(min_size=1))
    def receive(self, chunk: bytes) -> None:
        self.connection.dataReceived(chunk)
        if self.finished:
            self.discarded += chunk
        else:
            self.said += chunk

    @precondition(lambda self: self.transport.producer is not None)
    @rule()
    def the_buffer_is_full(self) -> None:
        self.transport.pauseProducing()

    @precondition(lambda self: self.transport.producer is not None)
    @rule()
    def the_buffer_is_empty(self) -> None:
        self.transport.resumeProducing()

    @precondition(lambda self: not self.input_ended)
    @rule()
    def the_other_side_has_said_all(self) -> None:
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
        assert self.transport.value() == self.said
        assert self.connection.bytes_echoed == len(self.said)
        assert self.connection.bytes_discarded == len(self.discarded)

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


def test_the_transport_is_its_own_producer() -> None:
    transport = TCPLikeTransport()
    connected(transport)
    assert transport.producer is transport
    assert transport.streaming is True


def test_half_close_flushes_then_closes() -> None:
    transport = TCPLikeTransport()
    connection = connected(transport)
    connection.dataReceived(b"data")
    connection.readConnectionLost()
    # A transport with a producer would never close.
    assert transport.calls == ["unregisterProducer", "loseConnection"]
    assert transport.value() == b"data"


def test_finish_with_half_close_waits_for_the_other_side() -> None:
    transport = TCPLikeTransport()
    connection = connected(transport)
    connection.dataReceived(b"in time")
    transport.pauseProducing()
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
    transport.pauseProducing()
    connection.finish()
    # Over TLS the other side's close_notify would never be read.
    assert transport.producerState == "producing"


def test_nagle_is_off_where_there_is_nagle() -> None:
    for make, expected in ((TCPLikeTransport, True), (TLSLikeTransport, True)):
        transport = make()
        connected(transport)
        assert transport.no_delay is expected
    connected(UNIXLikeTransport())
    connected(StringTransport())


@pytest.mark.parametrize(
    ("make", "expected"), list(zip(TRANSPORTS, [False, True, False, True], strict=True))
)
def test_which_transports_have_half_close(make: type[StringTransport], expected: bool) -> None:
    assert has_half_close(make()) is expected
