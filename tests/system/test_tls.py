"""Connections over TLS with Twisted's own client, which has no half-close."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from echoproto import EchoService, echo
from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from tests.reactors import run
from tests.tls import TLSClient, make_certificate

pytest.importorskip("OpenSSL", reason="needs Twisted[tls]")
# Twisted hands pyOpenSSL what newer versions of that no longer want.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

MIB = 1 << 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A key and a certificate for localhost, in one PEM."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "both.pem").read_bytes()


def serving(
    reactor: Any, pem: bytes, patch: pytest.MonkeyPatch, limits: Limits | None = None
) -> tuple[EchoService, IStreamClientEndpoint]:
    """A service over TLS, and where to find it."""
    from twisted.internet import ssl

    # Twisted's TLS takes its time from the global reactor.
    patch.setattr("twisted.internet.reactor", reactor, raising=False)
    options = ssl.PrivateCertificate.loadPEM(pem).options()
    service = EchoService(
        SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1"),
        EchoFactory(reactor=reactor, limits=limits),
        drain_timeout=0.2,
        reactor=reactor,
    )
    service.startService()
    address: Any = service.ports[0].getHost()
    trusted = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(pem)])
    return service, wrapClientTLS(
        ssl.optionsForClientTLS("localhost", trustRoot=trusted),
        TCP4ClientEndpoint(reactor, "127.0.0.1", address.port),
    )


@pytest.mark.parametrize("size", [0, 1, 65537, 5 * MIB])
def test_all_comes_back(certificate: bytes, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    payload = random.Random(size).randbytes(size)

    async def main(reactor: Any) -> bytes:
        service, endpoint = serving(reactor, certificate, monkeypatch)
        try:
            return await echo(endpoint, payload, timeout=60, reactor=reactor)
        finally:
            await service.stopService()

    assert run(main) == payload


def test_a_drain_flushes_and_closes_cleanly(
    certificate: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client(Protocol):
        """Says something, and stays."""

        back = b""

        def __init__(self) -> None:
            self.over: Deferred[Failure] = Deferred()

        def connectionMade(self) -> None:
            self.transport.write(b"x" * MIB)  # type: ignore[union-attr]

        def dataReceived(self, data: bytes) -> None:
            self.back += data

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            # A callback that is given a Failure becomes an errback.
            self.over.callback([reason])  # type: ignore[arg-type]

    async def main(reactor: Any) -> tuple[bytes, Any, int]:
        service, endpoint = serving(reactor, certificate, monkeypatch)
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        while service.factory.stats.bytes_echoed < MIB:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        await service.stopService()
        (reason,) = await client.over
        return client.back, reason.type, service.factory.stats.failed

    back, reason, failed = run(main)
    assert back == b"x" * MIB
    assert reason is connectionDone.type
    assert failed == 0


def test_a_limit_of_the_rate_loses_nothing(
    certificate: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = random.Random(0).randbytes(200_000)

    async def main(reactor: Any) -> tuple[bytes, float]:
        limits = Limits(max_bytes_per_second=200_000, idle_timeout=10)
        service, endpoint = serving(reactor, certificate, monkeypatch, limits)
        began = reactor.seconds()
        back = await echo(endpoint, payload, reactor=reactor)
        took = reactor.seconds() - began
        await service.stopService()
        return back, took

    back, took = run(main)
    assert back == payload
    # What may be read at once is a tenth of a second's worth, and then a record.
    assert took > 0.7


def test_idle_ones_end_before_during_and_after_the_handshake(
    certificate: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = TLSClient()
    tls.handshake()
    hello = tls.to_send()

    class Silent(Protocol):
        first = b""

        def connectionMade(self) -> None:
            self.lost: Deferred[None] = Deferred()
            self.transport.write(self.first)  # type: ignore[union-attr]

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            self.lost.callback(None)

    async def main(reactor: Any) -> Any:
        limits = Limits(idle_timeout=0.3)
        service, endpoint = serving(reactor, certificate, monkeypatch, limits)
        port: Any = service.ports[0].getHost()
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port.port)
        for where, first in (
            (plain, b""),
            (plain, hello[:100]),
            (plain, hello),
            (endpoint, b""),
        ):
            Silent.first = first
            silent = await where.connect(Factory.forProtocol(Silent))
            await silent.lost  # type: ignore[attr-defined]
        await service.stopService()
        return service.factory.stats.ended

    assert run(main) == {"idle": 4}


def test_a_source_that_has_enough_is_closed_at_once(
    certificate: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(reactor: Any) -> Any:
        limits = Limits(max_per_source=1)
        service, endpoint = serving(reactor, certificate, monkeypatch, limits)
        port: Any = service.ports[0].getHost()
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port.port)
        first = await plain.connect(Factory.forProtocol(Protocol))
        with pytest.raises(Exception, match=r"lost|closed|reset"):
            await echo(endpoint, b"data", reactor=reactor)
        first.transport.abortConnection()  # type: ignore[attr-defined]
        await service.connections.when_empty()
        assert await echo(endpoint, b"data", reactor=reactor) == b"data"
        await service.stopService()
        return service.factory.stats.refused

    assert run(main) == {"source": 1}
