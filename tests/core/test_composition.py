"""A protocol of the user's has everything that the echo has, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto import Echo, EchoFactory, Limits, ProxyHeaders
from echoproto.core.composition import connection_class
from echoproto.core.connection import Connection
from echoproto.core.group import ConnectionGroup
from tests.logs import logged
from tests.transports import TCPLikeTransport

CLIENT = IPv4Address("TCP", "127.0.0.1", 4242)


class Shout(Echo):
    """Return what arrives in upper case."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data.upper())


class ShoutFactory(EchoFactory):
    """With the protocol where Twisted's documentation puts it first."""

    protocol = Shout


WAYS: dict[str, Callable[..., EchoFactory]] = {
    "argument": lambda **named: EchoFactory(protocol=Shout, **named),
    "attribute of a subclass": lambda **named: ShoutFactory(**named),
    "forProtocol": lambda **named: EchoFactory.forProtocol(Shout, **named),
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def make(request: pytest.FixtureRequest) -> Callable[..., EchoFactory]:
    made: Callable[..., EchoFactory] = request.param
    return made


def connected(factory: EchoFactory) -> tuple[Connection, TCPLikeTransport]:
    connection = factory.buildProtocol(CLIENT)
    transport = TCPLikeTransport()
    connection.makeConnection(transport)
    return connection, transport


Make = Callable[..., EchoFactory]


def test_it_answers_and_is_counted(make: Make) -> None:
    factory = make()
    connection, transport = connected(factory)
    assert isinstance(connection, Shout)
    assert transport.no_delay
    connection.dataReceived(b"data")
    assert transport.value() == b"DATA"
    connection.readConnectionLost()
    assert transport.calls == ["unregisterProducer", "loseConnection"]
    connection.connectionLost(Failure(ConnectionDone()))
    assert (factory.stats.accepted, factory.live, factory.stats.bytes_echoed) == (1, 0, 4)


@pytest.mark.parametrize("log", ["listening", "connections", "chunks"])
def test_logs(make: Make, log: str) -> None:
    with logged() as lines:
        connection, transport = connected(make(log=log))
        connection.dataReceived(b"data")
        connection.dataReceived(b"more")
        connection.readConnectionLost()
        connection.connectionLost(Failure(ConnectionDone()))
    assert transport.value() == b"DATAMORE"
    kinds = [line.split()[0] for line in lines.lines]
    assert (
        kinds
        == {
            "listening": [],
            "connections": ["opened", "closed"],
            "chunks": ["opened", "chunk", "chunk", "end", "closed"],
        }[log]
    )


def test_backpressure(make: Make) -> None:
    connection, transport = connected(make())
    assert transport.producer is connection
    transport.producer.pauseProducing()
    assert transport.producerState == "paused"
    transport.producer.resumeProducing()
    assert transport.producerState == "producing"


def test_a_drain(make: Make) -> None:
    connection, transport = connected(make())
    connection.dataReceived(b"in time")
    connection.finish()
    connection.dataReceived(b"late")
    assert transport.value() == b"IN TIME"
    assert (connection.bytes_echoed, connection.bytes_discarded) == (7, 4)
    assert "loseWriteConnection" in transport.calls


def test_connection_slots(make: Make) -> None:
    factory = make(limits=Limits(max_connections=1), reactor=Clock())
    first, _ = connected(factory)
    second, _ = connected(factory)
    assert (first.refused, second.refused) == (None, "slots")
    factory.flush()


def test_connections_of_a_source(make: Make) -> None:
    factory = make(limits=Limits(max_per_source=1), reactor=Clock())
    first, transport = connected(factory)
    second, _ = connected(factory)
    assert (first.refused, second.refused) == (None, "source")
    first.dataReceived(b"data")
    assert transport.value() == b"DATA"
    first.connectionLost(Failure(ConnectionDone()))
    assert connected(factory)[0].refused is None
    factory.flush()


def test_a_rate(make: Make) -> None:
    clock = Clock()
    connection, transport = connected(make(limits=Limits(max_bytes_per_second=100), reactor=clock))
    connection.dataReceived(b"x" * 50)
    assert transport.value() == b"X" * 50
    assert transport.producerState == "paused"
    assert connection.throttled
    clock.advance(1)
    assert transport.producerState == "producing"


def test_a_proxy_header(make: Make) -> None:
    factory = make(proxy_headers=ProxyHeaders("required"), reactor=Clock())
    connection, transport = connected(factory)
    connection.dataReceived(b"PROXY TCP4 192.0.2.7 192.0.2.8 5000 7\r\nda")
    connection.dataReceived(b"ta")
    assert transport.value() == b"DATA"
    assert connection.client == IPv4Address("TCP", "192.0.2.7", 5000)
    assert connection.via == CLIENT


def test_an_idle_timeout(make: Make) -> None:
    clock = Clock()
    factory = make(limits=Limits(idle_timeout=16), reactor=clock)
    _, transport = connected(factory)
    clock.pump([1] * 21)
    assert "loseConnection" in transport.calls
    assert factory.stats.ended == {"idle": 1}


def test_it_is_lost_with_its_reason(make: Make) -> None:
    factory = make(log="connections")
    connection, _ = connected(factory)
    connection.dataReceived(b"data")
    with logged() as lines:
        connection.connectionLost(Failure(ConnectionLost()))
    assert "4 bytes" in lines.lines[0]
    assert factory.stats.failed == 1


def test_without_the_inherited_method_there_is_backpressure() -> None:
    class Greeting(Echo):
        def connectionMade(self) -> None:
            self.transport.write(b"hello ")

    connection, transport = connected(EchoFactory(protocol=Greeting))
    connection.dataReceived(b"data")
    assert transport.value() == b"hello data"
    assert transport.producer is connection


def test_the_class_is_made_once() -> None:
    assert connection_class(Shout) is connection_class(Shout)
    assert issubclass(connection_class(Shout), Shout)
    assert connection_class(Echo).__mro__[1] is Connection

    class Own(Connection):
        """One that knows what it is part of."""

    assert connection_class(Own) is Own


class Needing(Echo):
    def __init__(self, what: str) -> None:
        self.what = what


class Taking(Echo):
    refused = "by myself"


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (object, "allowed: a subclass of echoproto.Echo"),
        (Shout(), "allowed: a subclass of echoproto.Echo"),
        (lambda: Shout(), "allowed: a subclass of echoproto.Echo"),
        ("Shout", "allowed: a subclass of echoproto.Echo"),
        (None, "allowed: a subclass of echoproto.Echo"),
        (Needing, r"cannot be made without arguments \(missing a required argument: 'what'\)"),
        (Taking, "Taking.refused: a connection has this name for itself; allowed: any other name"),
    ],
)
def test_what_cannot_be_composed(protocol: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        connection_class(protocol)
    with pytest.raises(TypeError, match=message):
        EchoFactory.forProtocol(protocol)
    with pytest.raises(TypeError, match=message):
        type("F", (EchoFactory,), {"protocol": protocol})
    if protocol is not None:
        with pytest.raises(TypeError, match=message):
            EchoFactory(protocol=protocol)


def test_no_name_that_a_connection_sets_can_be_taken() -> None:
    def gate(connection: Connection) -> None:
        """Admit it."""

    factory = EchoFactory(log="connections")
    factory.gates = (gate,)
    connection, _ = connected(factory)
    names = set(vars(connection)) - set(dir(Echo))
    assert {"ending", "input_ended", "_paused_by"} <= names
    connection.dataReceived(b"x")
    connection.readConnectionLost()
    connection.finish()
    connection.connectionLost(Failure(ConnectionDone()))
    names |= set(vars(connection)) - set(dir(Echo)) | {"early"}
    for name in names:
        with pytest.raises(TypeError, match=f"Taking.{name}: a connection has this name"):
            connection_class(type("Taking", (Echo,), {name: "by myself"}))


def test_a_build_protocol_that_returns_something_else() -> None:
    class Wrong(EchoFactory):
        def buildProtocol(self, addr: Any) -> Any:
            return Shout()

    with pytest.raises(TypeError, match=r"Wrong.buildProtocol returned .*; allowed: what EchoFact"):
        ConnectionGroup(Wrong()).buildProtocol(CLIENT)


def test_a_build_protocol_may_refuse_or_add() -> None:
    class Own(EchoFactory):
        def buildProtocol(self, addr: Any) -> Any:
            connection: Any = super().buildProtocol(addr)
            connection.mark = 5
            return connection if addr else None

    group = ConnectionGroup(Own())
    assert group.buildProtocol(None) is None
    assert group.buildProtocol(CLIENT).mark == 5
