"""The other end of a connection, against servers that behave and that do not."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto import EchoError, EchoService, EchoTimeout, TCPEndpoint, echo
from echoproto.client import _Speaker
from echoproto.core.protocol import Echo
from tests.fakes import UnreachableEndpoint
from tests.reactors import run
from tests.transports import TCPLikeTransport, TLSLikeTransport

MIB = 1 << 20


def ask(
    payload: bytes,
    server: type[Protocol] = Echo,
    talk: Callable[[Any, Any, bytes], Awaitable[bytes]] | None = None,
    reactor: Any = None,
) -> bytes:
    """Hold one connection with a server on loopback."""

    made: list[Any] = []

    def make() -> Protocol:
        made.append(server())
        return made[-1]  # type: ignore[no-any-return]

    async def main(reactor: Any) -> bytes:
        port: Any = await TCPEndpoint(reactor, 0).listen(Factory.forProtocol(make))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        try:
            if talk is not None:
                return await talk(reactor, endpoint, payload)
            return await echo(endpoint, payload, timeout=60, reactor=reactor)
        finally:
            await port.stopListening()
            for each in made:
                each.transport.abortConnection()

    return run(main, reactor)


def test_its_interfaces() -> None:
    verifyObject(IHalfCloseableProtocol, _Speaker(b""))
    verifyObject(IHandshakeListener, _Speaker(b""))
    verifyObject(IPushProducer, _Speaker(b""))


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5 * MIB])
def test_all_comes_back(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    assert ask(payload) == payload


def test_without_a_timeout() -> None:
    async def talk(reactor: Any, endpoint: Any, payload: bytes) -> bytes:
        return await echo(endpoint, payload)

    assert ask(b"data", talk=talk) == b"data"


def test_over_a_unix_socket(tmp_path: Any) -> None:
    async def main(reactor: Any) -> bytes:
        path = str(tmp_path / "socket")
        service = EchoService(UNIXServerEndpoint(reactor, path), reactor=reactor)
        service.startService()
        try:
            return await echo(UNIXClientEndpoint(reactor, path), b"x" * MIB)
        finally:
            await service.stopService()

    assert run(main) == b"x" * MIB


def test_100_mb_come_back() -> None:
    payload = random.Random(100).randbytes(100_000_000)
    back = ask(payload, reactor=EPollReactor())
    assert len(back) == len(payload)
    assert hashlib.sha256(back).digest() == hashlib.sha256(payload).digest()


class Truncating(Echo):
    """Returns no more than ten bytes, then closes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data[:10])
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Resetting(Echo):
    """Breaks off after ten bytes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data[:10])
        self.transport.abortConnection()


class Silent(Echo):
    """Takes all, gives nothing, and never hangs up."""

    def dataReceived(self, data: bytes) -> None:
        """Keeps it to itself."""

    def readConnectionLost(self) -> None:
        """Stays."""


class Chatty(Echo):
    """Returns more than it got."""

    def readConnectionLost(self) -> None:
        self.transport.write(b" and more")
        super().readConnectionLost()


@pytest.mark.parametrize("size", [100, 20 * MIB])
def test_an_answer_that_is_cut_short(size: int) -> None:
    with pytest.raises(EchoError, match=rf"of {size} bytes came back: ") as caught:
        ask(bytes(size), server=Truncating)
    assert not isinstance(caught.value, EchoTimeout)
    assert len(caught.value.received) <= 10


def test_a_reset() -> None:
    with pytest.raises(EchoError, match=r"\d+ of 5242880 bytes came back: Connection .*lost"):
        ask(bytes(5 * MIB), server=Resetting)


def test_a_server_that_answers_more() -> None:
    assert ask(b"data", server=Chatty) == b"data and more"


@pytest.mark.parametrize("size", [4, 20 * MIB])
def test_a_timeout(size: int) -> None:
    async def talk(reactor: Any, endpoint: Any, payload: bytes) -> bytes:
        return await echo(endpoint, payload, timeout=0.2, reactor=reactor)

    with pytest.raises(EchoTimeout, match=f"^0 of {size} bytes came back: no end within 0.2 s$"):
        ask(bytes(size), server=Silent, talk=talk)
    assert issubclass(EchoTimeout, TimeoutError)


def test_a_timeout_while_it_connects() -> None:
    clock = Clock()
    talk = Deferred.fromCoroutine(echo(UnreachableEndpoint(), b"data", timeout=5, reactor=clock))
    clock.advance(5)
    failure: list[Failure] = []
    talk.addErrback(failure.append)
    assert str(failure[0].value) == "0 of 4 bytes came back: no end within 5 s"


def test_the_global_reactor_counts_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("twisted.internet.reactor", clock, raising=False)
    talk = Deferred.fromCoroutine(echo(UnreachableEndpoint(), b"data", timeout=3))
    assert [call.getTime() for call in clock.getDelayedCalls()] == [3]
    clock.advance(3)
    talk.addErrback(lambda failure: failure.trap(EchoTimeout))


def test_no_listener() -> None:
    async def main(reactor: Any) -> bytes:
        port: Any = await TCPEndpoint(reactor, 0).listen(Factory.forProtocol(Echo))
        number = port.getHost().port
        await port.stopListening()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
        return await echo(endpoint, b"data", timeout=60, reactor=reactor)

    with pytest.raises(EchoError, match="cannot connect: Connection was refused") as caught:
        run(main)
    assert isinstance(caught.value.__cause__, Refused)
    assert caught.value.received == b""


@pytest.mark.parametrize("kind", [EchoError, EchoTimeout])
def test_an_error_can_be_pickled(kind: type[EchoError]) -> None:
    error = pickle.loads(pickle.dumps(kind("3 of 4 bytes came back: reset", b"dat")))
    assert type(error) is kind
    assert (str(error), error.received) == ("3 of 4 bytes came back: reset", b"dat")


def test_it_can_be_called_off() -> None:
    lost: list[Failure] = []
    came: Deferred[None] = Deferred()

    class Watching(Protocol):
        def dataReceived(self, data: bytes) -> None:
            if not came.called:
                came.callback(None)

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            lost.append(reason)
            gone.callback(None)

    gone: Deferred[None] = Deferred()

    async def talk(reactor: Any, endpoint: Any, payload: bytes) -> bytes:
        talking = Deferred.fromCoroutine(echo(endpoint, payload))
        await came
        talking.cancel()
        try:
            return await talking
        finally:
            await gone

    with pytest.raises(CancelledError):
        ask(bytes(20 * MIB), server=Watching, talk=talk)
    # The connection is aborted, not talked to its end.
    assert [each.check(ConnectionDone) for each in lost] == [None]


def speaking(payload: bytes, transport: Any) -> tuple[_Speaker, list[Any]]:
    speaker = _Speaker(payload)
    results: list[Any] = []
    speaker.over.addBoth(results.append)
    speaker.makeConnection(transport)
    return speaker, results


def test_it_sends_no_more_than_the_transport_takes() -> None:
    class Full(TCPLikeTransport):
        """Its buffer is full after each write."""

        def write(self, data: bytes) -> None:
            super().write(data)
            if self.producer is not None:
                self.producer.pauseProducing()

    payload = random.Random(3).randbytes(200_000)
    transport = Full()
    speaker, _ = speaking(payload, transport)
    for times in (1, 2, 3):
        assert transport.value() == payload[: times * 65536]
        assert "loseWriteConnection" not in transport.calls
        speaker.resumeProducing()
    assert transport.value() == payload
    assert transport.calls == ["unregisterProducer", "loseWriteConnection"]


def test_without_half_close_it_ends_when_all_has_come_back() -> None:
    transport = TLSLikeTransport()
    speaker, results = speaking(b"data", transport)
    assert transport.value() == b"data"
    speaker.dataReceived(b"da")
    assert "loseConnection" not in transport.calls
    speaker.dataReceived(b"ta")
    assert "loseConnection" in transport.calls
    assert "loseWriteConnection" not in transport.calls
    speaker.connectionLost(connectionDone)
    assert results == [b"data"]


def test_over_tls_nothing_to_say_ends_after_the_handshake() -> None:
    transport = TLSLikeTransport()
    speaker, results = speaking(b"", transport)
    # A TLS session that is closed amid its handshake ends uncleanly.
    assert "loseConnection" not in transport.calls
    speaker.handshakeCompleted()
    assert "loseConnection" in transport.calls
    speaker.connectionLost(connectionDone)
    assert results == [b""]


def test_over_tls_the_handshake_ends_nothing_else() -> None:
    transport = TLSLikeTransport()
    speaker, _ = speaking(b"data", transport)
    speaker.handshakeCompleted()
    assert "loseConnection" not in transport.calls


def test_without_half_close_nothing_to_say_ends_at_once() -> None:
    transport = StringTransport()
    speaker, results = speaking(b"", transport)
    assert transport.disconnecting
    speaker.connectionLost(connectionDone)
    assert results == [b""]


def test_a_transport_that_wants_no_more() -> None:
    transport = TCPLikeTransport()
    speaker, results = speaking(b"data", transport)
    speaker.stopProducing()
    speaker.writeConnectionLost()
    speaker.connectionLost(connectionDone)
    assert str(results[0].value).startswith("0 of 4 bytes came back: ")
