"""What the lane's TCP transport does when the client of an echo has closed its sending side."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from echoproto.core.factory import EchoFactory
from echoproto.core.protocol import Echo
from tests.logs import logged
from tests.net.ends import Ends, ends_of


class Ending(Echo):
    """An echo that records how it ends.

    :ivar reasons: why it was lost; several if that was reported more than once.
    """

    def __init__(self) -> None:
        self.reasons: list[type] = []

    def readConnectionLost(self) -> None:
        self.at_the_end()
        assert not self.reasons, "the end is reported while the end of input is"

    def at_the_end(self) -> None:
        super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(type(reason.value))


class WritesMore(Ending):
    def at_the_end(self) -> None:
        self.transport.write(b"more")
        super().at_the_end()


class WritesALot(Ending):
    def at_the_end(self) -> None:
        self.transport.write(bytes(1 << 22))
        super().at_the_end()


class WritesAfterwards(Ending):
    def at_the_end(self) -> None:
        super().at_the_end()
        self.transport.write(b"more")


class ClosesTwice(Ending):
    def at_the_end(self) -> None:
        super().at_the_end()
        self.transport.loseConnection()


class ClosesWithAProducer(Ending):
    """As with any transport of Twisted's, one that is registered afterwards is not waited for."""

    def at_the_end(self) -> None:
        super().at_the_end()
        self.transport.registerProducer(self._producer(), True)


class ClosesTheOtherSideOnly(Ending):
    def at_the_end(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()


class Stays(Ending):
    def at_the_end(self) -> None:
        """Go on without input."""


class Aborts(Ending):
    def at_the_end(self) -> None:
        self.transport.abortConnection()


class Fails(Ending):
    def at_the_end(self) -> None:
        raise RuntimeError("at the end")


def received(ends: Ends) -> tuple[int, bool]:
    """Receive until nothing more is sent.

    :returns: how many bytes came back, and whether the end did.
    """
    count = 0
    for _ in range(1000):
        if ends.transport.connected:
            ends.serve()
        ends.reactor.advance(0)
        try:
            while data := ends.client.recv(1 << 20):
                count += len(data)
        except BlockingIOError:
            if not ends.transport.connected or not ends.reactor.getWriters():
                return count, False
        except ConnectionResetError:
            return count, True
        else:
            return count, True
    raise AssertionError("it goes on sending")


@pytest.mark.parametrize(
    ("protocol", "more", "reason"),
    [
        (Ending, 0, ConnectionDone),
        (WritesMore, 4, ConnectionDone),
        (WritesALot, 1 << 22, ConnectionDone),
        (WritesAfterwards, 4, ConnectionDone),
        (ClosesTwice, 0, ConnectionDone),
        (ClosesWithAProducer, 0, ConnectionDone),
        (Aborts, 0, ConnectionAborted),
        (Fails, 0, RuntimeError),
    ],
)
def test_it_closes_once_and_after_all_is_sent(
    protocol: type[Ending], more: int, reason: type
) -> None:
    with ends_of(EchoFactory(protocol=protocol)) as ends, logged("") as log:
        connection: Any = ends.connection
        assert ends.exchange(b"abc") == b"abc"
        ends.client.shutdown(socket.SHUT_WR)
        assert received(ends) == (more, True)
        assert connection.reasons == [reason]
        assert not ends.transport.connected
        assert not ends.reactor.getReaders()
        assert not ends.reactor.getWriters()
    assert ("at the end" in log.text) == (protocol is Fails)


def half_closed(connection: Any) -> None:
    connection.transport.loseConnection()


@pytest.mark.parametrize(
    ("protocol", "ended", "close"),
    [
        (Stays, False, Echo.close),
        (ClosesTheOtherSideOnly, True, half_closed),
    ],
)
def test_it_stays_open_while_its_protocol_wants_it_and_reads_no_more(
    protocol: type[Ending], ended: bool, close: Callable[[Any], None]
) -> None:
    with ends_of(EchoFactory(protocol=protocol)) as ends:
        connection: Any = ends.connection
        ends.client.shutdown(socket.SHUT_WR)
        assert received(ends) == (0, ended)
        assert connection.reasons == []
        assert ends.transport not in ends.reactor.getReaders()
        close(connection)
        assert received(ends) == (0, True)
        assert connection.reasons == [ConnectionDone]
