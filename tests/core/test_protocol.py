"""The plain echo, without a factory, on transports that the test plays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.testing import StringTransport
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
