"""The TLS layer, between a client on buffers and a fake TCP transport."""

from __future__ import annotations

import itertools
import socket
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementedBy, providedBy
from zope.interface.verify import verifyObject

from echoproto import EchoFactory
from echoproto.net.transports import TCPTransport, TLSTransport
from tests.tls import VERSIONS, End, TLSClient, make_certificate
from tests.transports import TCPLikeTransport

pytest.importorskip("OpenSSL", reason="needs Twisted[tls]")
# Twisted passes objects to pyOpenSSL that newer versions deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from twisted.internet.ssl import PrivateCertificate

    pem = make_certificate(tmp_path_factory.mktemp("tls") / "both.pem")
    return PrivateCertificate.loadPEM(pem.read_bytes()).options()


class Session:
    """A client and a server; a test passes the bytes between them."""

    def __init__(
        self,
        options: Any,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        factory: Any = None,
        shaken: bool = True,
        transport: Any = None,
    ) -> None:
        from twisted.protocols.tls import TLSMemoryBIOFactory

        from echoproto.net.tls_layer import HalfCloseTLS

        self.factory: Any = factory or EchoFactory(log="chunks")
        layers = TLSMemoryBIOFactory(options, False, self.factory, MemoryReactorClock())
        layers.protocol = HalfCloseTLS
        self.transport = transport or TCPLikeTransport()
        self.layer: Any = layers.buildProtocol(None)
        self.layer.makeConnection(self.transport)
        self.client = TLSClient(version)
        if shaken:
            self._shake_hands()

    def _shake_hands(self) -> None:
        for _ in range(4):
            done = self.client.handshake()
            self.to_server(self.client.to_send())
            if done:
                return
            self.to_client()
        raise AssertionError("no end of the handshake")

    def to_server(self, wire: bytes) -> None:
        if wire:
            self.layer.dataReceived(wire)

    def to_client(self) -> None:
        wire = self.transport.value()
        self.transport.clear()
        if wire:
            self.client.receive(wire)

    def fin(self) -> None:
        """Pass on the client's FIN, as a TCP transport does."""
        IHalfCloseableProtocol(self.layer).readConnectionLost()

    def close(self, reason: type[Exception] = ConnectionDone) -> None:
        """Close the TCP transport after it has flushed."""
        assert self.transport.producer is None, "it would never close"
        assert self.transport.disconnecting
        self.to_client()
        self.client.receive(b"")
        self.layer.connectionLost(Failure(reason()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 1, 100, 32768, 50_000])
def test_what_comes_with_close_notify_comes_back(
    options: Any, version: ssl.TLSVersion, size: int
) -> None:
    session = Session(options, version)
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    session.client.say(payload)
    session.client.close_notify()
    session.to_server(session.client.to_send())
    session.close()
    assert session.client.back == payload
    assert session.client.end is End.CLOSE_NOTIFY
    assert (session.factory.stats.failed, session.factory.live) == (0, 0)
    assert session.factory.stats.bytes_echoed == size


@given(
    chunks=st.lists(st.binary(max_size=40_000), max_size=5),
    cuts=st.lists(st.integers(0, 100_000), max_size=5),
    close_notify=st.booleans(),
    version=st.sampled_from(VERSIONS),
)
def test_any_payload_in_any_chunking_comes_back(
    options: Any,
    chunks: list[bytes],
    cuts: list[int],
    close_notify: bool,
    version: ssl.TLSVersion,
) -> None:
    session = Session(options, version)
    for chunk in chunks:
        session.client.say(chunk)
    if close_notify:
        session.client.close_notify()
    wire = session.client.to_send()
    places = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    for start, end in itertools.pairwise(places):
        session.to_server(wire[start:end])
    if not close_notify:
        session.fin()
    session.close()
    assert session.client.back == b"".join(chunks)
    assert session.client.end is End.CLOSE_NOTIFY


class Bytes(Protocol):
    """Writes each byte separately."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        for byte in data:
            self.transport.write(bytes([byte]))  # type: ignore[union-attr]
        if data.endswith(b"fail"):
            raise RuntimeError("a protocol failed")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_records_of_a_read_are_handled_in_one_piece(
    options: Any, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twisted does not promise the names of the methods that do this.
    factory = Factory.forProtocol(Bytes)
    session = Session(options, version, factory)
    session.to_client()
    written: list[bytes] = []
    monkeypatch.setattr(session.transport, "write", written.append)
    protocol = session.layer.wrappedProtocol
    for record in (b"several", b"records", b"fail"):
        session.client.say(record)
    with pytest.raises(RuntimeError):
        session.to_server(session.client.to_send())
    assert protocol.received == [b"severalrecordsfail"]
    session.client.say(b"all the same")
    session.to_server(session.client.to_send())
    # Each of these is larger than one record, or than what is read of OpenSSL at once.
    session.layer.write(bytes(100_000))
    session.layer.writeSequence([b"x"] * 300)
    assert len(written) == 4
    session.client.receive(b"".join(written))
    assert session.client.back == (
        b"severalrecordsfail" + b"all the same" + bytes(100_000) + b"x" * 300
    )


def test_its_interfaces(options: Any) -> None:
    verifyObject(IHalfCloseableProtocol, Session(options).layer)


def test_it_provides_what_the_lanes_transport_does(options: Any) -> None:
    near, far = socket.socketpair()
    reactor: Any = MemoryReactorClock()
    port: Any = None
    with near, far:
        reactor.add_connection = lambda fd, transport: reactor.addReader(transport)
        transport = TLSTransport(near, Protocol(), ("127.0.0.1", 7), port, 0, reactor)
        layer = Session(options, shaken=False, transport=transport).layer
    interfaces = list(implementedBy(TCPTransport).flattened())
    assert {ITCPTransport, IConsumer, ISystemHandle} <= set(interfaces)
    for interface in interfaces:
        assert interface.providedBy(transport)
        assert interface.providedBy(layer)
    # The layer declares each of these by itself, at 2 us.
    assert len(list(providedBy(transport))) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_without_close_notify_all_data_is_returned_and_the_end_is_an_error(
    options: Any, version: ssl.TLSVersion
) -> None:
    session = Session(options, version)
    session.client.say(b"cut?")
    session.to_server(session.client.to_send())
    session.fin()
    session.close()
    assert session.client.back == b"cut?"
    assert session.client.end is End.CLOSE_NOTIFY
    assert session.factory.stats.failed == 1


class EventProtocol(Protocol):
    """Records its events."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.reason: Any = None

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        self.events.append("end of input")

    def writeConnectionLost(self) -> None:
        self.events.append("end of output")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.events.append("over")
        self.reason = reason.value


def recorded(options: Any, half_close: bool = True, **more: Any) -> tuple[EventProtocol, Session]:
    from zope.interface import directlyProvides

    class Made(Factory):
        def buildProtocol(self, addr: object) -> EventProtocol:
            if half_close:
                directlyProvides(protocol, IHalfCloseableProtocol)
            return protocol

    protocol = EventProtocol()
    return protocol, Session(options, factory=Made(), **more)


def test_the_protocol_learns_of_the_end_once(options: Any) -> None:
    protocol, session = recorded(options)
    session.client.close_notify()
    session.to_server(session.client.to_send())
    session.fin()
    session.layer.writeConnectionLost()
    session.close()
    assert protocol.events == ["end of input", "over"]
    assert type(protocol.reason) is ConnectionDone


@pytest.mark.parametrize("how", ["close_notify", "fin"])
def test_a_protocol_without_half_close_is_closed_all_the_same(options: Any, how: str) -> None:
    protocol, session = recorded(options, half_close=False)
    session.layer.write(b"answer")
    session.transport.pauseProducing()
    if how == "fin":
        session.fin()
    else:
        session.client.close_notify()
        session.to_server(session.client.to_send())
    session.close()
    assert protocol.events == ["over"]
    assert session.client.back == b"answer"


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01"])
def test_an_end_before_the_handshake_is_not_the_end_of_input(options: Any, hello: bytes) -> None:
    protocol, session = recorded(options, shaken=False)
    session.to_server(hello)
    session.fin()
    assert "abortConnection" not in session.transport.calls
    session.close()
    assert protocol.events == ["over"]


@pytest.mark.parametrize("shaken", [False, True])
def test_input_that_is_not_tls_closes_the_connection(options: Any, shaken: bool) -> None:
    protocol, session = recorded(options, shaken=shaken)
    # A producer that is paused would keep the transport from closing.
    session.transport.pauseProducing()
    session.layer.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
    # OpenSSL sends an alert only after a handshake.
    assert bool(session.transport.value()) is shaken
    assert session.transport.producer is None
    assert session.transport.disconnecting
    session.layer.connectionLost(Failure(ConnectionDone()))
    assert protocol.events[-1] == "over"
    assert not isinstance(protocol.reason, ConnectionDone)


def test_a_reset(options: Any) -> None:
    protocol, session = recorded(options)
    session.layer.connectionLost(Failure(ConnectionLost()))
    assert protocol.events == ["over"]
    assert type(protocol.reason) is ConnectionLost


def test_input_after_an_abort_is_ignored(options: Any) -> None:
    protocol, session = recorded(options)
    session.layer.abortConnection()
    session.layer.connectionLost(Failure(ConnectionLost()))
    assert protocol.events == ["over"]


def test_after_finish_the_other_sides_close_notify_ends_it(options: Any) -> None:
    session = Session(options)
    (connection,) = session.factory.connections
    session.client.say(b"in time")
    session.to_server(session.client.to_send())
    connection.finish()
    assert not session.transport.disconnecting
    session.client.say(b"too late")
    session.client.close_notify()
    session.to_server(session.client.to_send())
    session.close()
    assert session.client.back == b"in time"
    assert session.client.end is End.CLOSE_NOTIFY
    assert session.factory.stats.bytes_discarded == 8
    assert session.factory.stats.failed == 0
