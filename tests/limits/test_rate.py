"""A connection that is read no faster than its limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from tests.transports import TCPLikeTransport

CLIENT = IPv4Address("TCP", "192.0.2.1", 7)


class Path:
    """A throttled connection, and a client that always has something to send."""

    def __init__(self, rate: int, log: str = "listening") -> None:
        self.clock = Clock()
        factory = EchoFactory(log=log, reactor=self.clock, limits=Limits(max_bytes_per_second=rate))
        self.connection: Any = factory.buildProtocol(CLIENT)
        self.transport = TCPLikeTransport()
        self.transport.bufferSize = 65536  # type: ignore[attr-defined]
        self.transport.peerAddr = CLIENT
        self.connection.makeConnection(self.transport)

    @property
    def reading(self) -> bool:
        return self.transport.producerState == "producing"

    def read(self) -> int:
        """Read as much at once as the transport may; return how much."""
        size: int = self.transport.bufferSize  # type: ignore[attr-defined]
        if not self.reading:
            return 0
        self.connection.dataReceived(bytes(size))
        return size


def test_its_interface() -> None:
    verifyObject(IPushProducer, Path(1).connection)


@given(st.integers(1, 10**9), st.lists(st.floats(0, 0.5), min_size=5, max_size=100))
def test_it_keeps_to_the_limit_over_any_two_seconds(rate: int, steps: list[float]) -> None:
    path = Path(rate)
    reads: list[tuple[float, int]] = []
    for step in steps:
        for _ in range(50):
            if not (size := path.read()):
                break
            reads.append((path.clock.seconds(), size))
        path.clock.advance(step)
    most = 2 * rate + 2 * max(1, rate / 10)
    for began, _ in reads:
        assert sum(size for when, size in reads if began <= when <= began + 2) <= most + 1


@pytest.mark.parametrize("rate", [1, 7, 1000, 10**6])
def test_it_reaches_the_limit(rate: int) -> None:
    path = Path(rate)
    read = 0
    for _ in range(2000):
        while size := path.read():
            read += size
        path.clock.advance(0.01)
    assert rate * 20 * 0.99 <= read <= rate * 20 + 2 * max(1, rate / 10)


def test_the_first_read_is_small() -> None:
    assert Path(1000).read() == 100


def test_a_full_buffer_and_an_empty_purse_both_have_to_be_over() -> None:
    path = Path(1000)
    path.read()
    assert not path.reading
    path.connection.pauseProducing()
    path.clock.advance(10)
    assert not path.reading
    path.connection.resumeProducing()
    assert path.reading
    path.read()
    path.connection.pauseProducing()
    path.connection.resumeProducing()
    assert not path.reading
    path.clock.advance(0.2)
    assert path.reading


@pytest.mark.parametrize("log", ["connections", "chunks"])
def test_it_goes_with_every_detail_of_the_log(log: str) -> None:
    path = Path(1000, log)
    path.read()
    assert not path.reading
    assert path.connection.bytes_echoed == 100


def test_while_it_waits_it_is_not_idle() -> None:
    path = Path(1000)
    assert not path.connection.throttled
    path.read()
    assert path.connection.throttled


def test_the_end_of_input_ends_the_wait() -> None:
    path = Path(1000)
    path.read()
    path.connection.readConnectionLost()
    assert "loseConnection" in path.transport.calls
    assert not path.clock.getDelayedCalls()


def test_a_drain_does_not_wait_for_it() -> None:
    path = Path(1000)
    path.read()
    path.connection.finish()
    assert path.reading
    path.connection.dataReceived(bytes(1000))
    assert path.reading
    assert path.connection.bytes_discarded == 1000
    assert path.transport.value() == bytes(100)
    assert not path.clock.getDelayedCalls()


def test_nothing_is_left_of_one_that_is_lost() -> None:
    path = Path(1000)
    path.read()
    path.connection.connectionLost(Failure(ConnectionDone()))
    assert not path.clock.getDelayedCalls()
