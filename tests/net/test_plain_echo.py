"""The short way of small messages, which only a plain echo that nothing watches takes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoproto.core.connection import GATE, RATE, Connection
from echoproto.core.factory import EchoFactory
from echoproto.core.protocol import Echo
from echoproto.net.plain_echoes import MIN_READ
from tests.net.ends import Ends, ends_of


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ends_of(EchoFactory()) as both:
        yield both


@pytest.mark.parametrize("size", [1, 100, MIN_READ - 1])
def test_a_plain_echo_takes_it_and_is_counted(ends: Ends, size: int) -> None:
    assert ends.exchange(b"x" * size) == b"x" * size
    assert ends.calls == 0
    assert ends.connection.bytes_echoed == size


@pytest.mark.parametrize("size", [MIN_READ, MIN_READ + 1])
def test_more_goes_the_ordinary_way(ends: Ends, size: int) -> None:
    ends.client.sendall(b"x" * size)
    ends.turn()
    assert ends.calls == 1
    ends.turn()
    assert ends.back == b"x" * size
    assert ends.connection.bytes_echoed == size


def upper(connection: Connection) -> None:
    ordinary = connection.dataReceived
    connection.dataReceived = lambda data: ordinary(data.upper())  # type: ignore[method-assign]


def through_another_transport(connection: Connection) -> None:
    class Upper:
        def __init__(self, below: Any) -> None:
            self.write = lambda data: below.write(data.upper())

    connection.transport = Upper(connection.transport)


def with_another_protocol(connection: Connection) -> None:
    class Upper(Echo):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data.upper())

    other = Upper()
    other.transport = connection.transport
    connection.transport.protocol = other


def of_another_connection(connection: Connection) -> None:
    other = EchoFactory().buildProtocol(None)
    other.transport = connection.transport
    upper(other)
    connection.dataReceived = other.dataReceived  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "interpose", [upper, through_another_transport, with_another_protocol, of_another_connection]
)
def test_whatever_comes_between_sees_the_bytes_at_once(
    ends: Ends, interpose: Callable[[Connection], None]
) -> None:
    assert ends.exchange(b"abc") == b"abc"
    interpose(ends.connection)
    assert ends.exchange(b"abc") == b"ABC"
    assert ends.calls == 1


class Upper(Echo):
    """Overrides what is returned."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data.upper())


class Greets(Echo):
    """Overrides something else."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"hello")


def test_a_protocol_that_overrides_it_never_takes_it() -> None:
    with ends_of(EchoFactory(protocol=Upper)) as ends:
        assert ends.exchange(b"abc") == b"ABC"
        assert ends.calls == 1


def test_a_protocol_that_overrides_something_else_takes_it() -> None:
    with ends_of(EchoFactory(protocol=Greets)) as ends:
        assert ends.exchange(b"abc") == b"helloabc"
        assert ends.calls == 0


def test_a_protocol_that_is_no_connection_does_not_take_it() -> None:
    class Plain(EchoFactory):
        def buildProtocol(self, addr: Any) -> Any:
            return Echo()

    with ends_of(Plain()) as ends:
        assert ends.exchange(b"abc") == b"abc"
        assert ends.calls == 1


def test_a_logged_chunk_is_seen_and_a_logged_connection_is_not_slower() -> None:
    with ends_of(EchoFactory(log="chunks")) as ends:
        assert [ends.exchange(b"abc") for _ in range(2)] == [b"abc"] * 2
        assert ends.calls == 2
    with ends_of(EchoFactory(log="connections")) as ends:
        assert [ends.exchange(b"abc") for _ in range(3)] == [b"abc"] * 3
        # The first byte is logged.
        assert ends.calls == 1


def test_what_arrives_after_finish_is_discarded(ends: Ends) -> None:
    assert ends.exchange(b"abc") == b"abc"
    ends.connection.finish()
    assert ends.exchange(b"late") == b""
    assert (ends.connection.bytes_echoed, ends.connection.bytes_discarded) == (3, 4)


@pytest.mark.parametrize("taken", [0, 1, 99])
def test_what_the_kernel_does_not_take_is_queued_and_reading_pauses(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    write = os.write

    def partly(fd: int, data: bytes) -> int:
        if not taken:
            raise BlockingIOError
        return write(fd, data[:taken])

    monkeypatch.setattr(os, "write", partly)
    ends.exchange(b"x" * 100)
    monkeypatch.undo()
    assert ends.transport not in ends.reactor.getReaders()
    assert ends.connection.bytes_echoed == 100
    # What is sent next must not overtake it.
    ends.client.sendall(b"next")
    ends.turn()
    ends.turn()
    assert ends.back == b"x" * 100 + b"next"
    assert ends.calls == 0


def test_a_closed_connection_does_not_refer_to_itself(ends: Ends) -> None:
    assert ends.exchange(b"abc") == b"abc"
    connection = ends.connection
    assert connection.plain_echo is connection.dataReceived
    ends.client.shutdown(socket.SHUT_WR)
    ends.turn()
    assert not ends.transport.connected
    # Otherwise it would wait for the garbage collector.
    assert connection.plain_echo is None
    assert "dataReceived" not in vars(connection)


STEPS = st.one_of(
    st.integers(1, 3 * MIN_READ).map(lambda size: ("send", size)),
    st.sampled_from(["turn", "watch", "unwatch", "pause", "resume"]).map(lambda name: (name, 0)),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=30))
def test_every_byte_comes_back_and_is_counted_whichever_ways_it_goes(
    steps: list[tuple[str, int]],
) -> None:
    with ends_of(EchoFactory()) as ends:
        connection, sent, plain = ends.connection, b"", ends.connection.dataReceived
        seen: list[bytes] = []

        def watched(data: bytes) -> None:
            seen.append(data)
            plain(data)

        for number, (step, size) in enumerate(steps):
            if step == "send":
                chunk = bytes([number]) * size
                sent += chunk
                ends.client.sendall(chunk)
            elif step == "pause":
                connection.pause_reading(RATE if number % 2 else GATE)
            elif step == "resume":
                connection.resume_reading(RATE)
                connection.resume_reading(GATE)
            elif step == "turn":
                ends.turn()
            else:
                connection.dataReceived = watched if step == "watch" else plain  # type: ignore[method-assign]
        connection.resume_reading(RATE | GATE)
        ends.client.shutdown(socket.SHUT_WR)
        while ends.transport.connected:
            ends.turn()
        ends.turn()
        assert ends.back == sent
        assert connection.bytes_echoed == len(sent)
        assert sum(map(len, seen)) <= len(sent)
