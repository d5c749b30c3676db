"""Listeners of ``ssl:`` and ``tls:`` strings, and new certificates for them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("OpenSSL", reason="needs the extra tls")

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from echoproto.net.extensions import Certificates
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.net.tls_settings import TLSSettings
from tests.logs import logged
from tests.tls import Issued, TLSClient


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    directory = tmp_path / "pems"
    directory.mkdir()
    return Issued(serial=1).write(directory / "a.pem")


def strings(pem: Path) -> list[str]:
    return [f"ssl:7:privateKey={pem}", f"tls:{pem.parent}:port=7"]


def refusal(reactor: Any, description: str, **tls: Any) -> ListenError:
    with pytest.raises(ListenError) as caught:
        StringEndpoint(reactor, description, tls=TLSSettings(**tls))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("arguments", "interface", "backlog"),
    [
        ("ssl:7:privateKey={0}", "0.0.0.0", 9),
        ("SSL:7:{0}:{0}:TLS_METHOD:127.0.0.1:5", "127.0.0.1", 5),
        ("ssl:port=7:privateKey={0}:interface=127.0.0.1:backlog=50", "127.0.0.1", 50),
        ("tls:{1}:7", "::", 9),
        ("tls:{1}:7:5:127.0.0.1", "127.0.0.1", 5),
        ("TLS:path={1}:port=7:interface=127.0.0.1", "127.0.0.1", 9),
    ],
)
@pytest.mark.filterwarnings("ignore:Passing method to twisted:DeprecationWarning")
def test_what_a_string_opens(
    reactor: MemoryReactorClock, pem: Path, arguments: str, interface: str, backlog: int
) -> None:
    description = arguments.format(pem, pem.parent)
    endpoint = StringEndpoint(reactor, description, backlog=9)
    assert endpoint.wrapper is None
    endpoint.listen(ServerFactory())
    ((_, factory, *asked),) = reactor.tcpServers
    assert asked == [backlog, interface]
    assert isinstance(factory, TLSMemoryBIOFactory)
    kind, _, rest = description.partition(":")
    assert endpoint.wrapper == f"{kind.lower()}:{rest}"


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("ssl", "without port"),
        ("ssl:x:privateKey={0}", "not a number: 'x'"),
        ("ssl:7:privateKey={0}:color=red", "no such argument: color"),
        ("ssl:7:1:2:3:4:5:6:7:8", "too many arguments"),
        ("ssl:7:privateKey={0}:sslmethod=SSLv99_METHOD", "no such sslmethod: SSLv99_METHOD"),
        ("ssl:7:privateKey={0}:sslmethod=Context", "no such sslmethod: Context"),
        ("ssl:7:privateKey={0}\\", "ends in a backslash"),
        ("ssl:7:privateKey={0}/none", "{0}/none: Not a directory"),
        ("ssl:7", "server.pem: No such file or directory"),
        ("tls", "without path"),
        ("tls:{1}/none", "{1}/none: No such file or directory"),
        ("tls:{1}:backlog=x", "not a number: 'x'"),
    ],
)
def test_what_is_wrong_with_a_string(
    reactor: MemoryReactorClock, pem: Path, description: str, reason: str
) -> None:
    error = refusal(reactor, description.format(pem, pem.parent))
    assert error.reason.startswith(reason.format(pem, pem.parent))
    assert error.option is None


def test_a_method_excludes_a_minimum_version(reactor: MemoryReactorClock, pem: Path) -> None:
    description = f"ssl:7:privateKey={pem}:sslmethod=TLS_METHOD"
    assert "--tls-min-version" in refusal(reactor, description, min_version="1.3").reason


def test_a_refusal_names_the_option_that_it_is_about(
    reactor: MemoryReactorClock, pem: Path
) -> None:
    for description in strings(pem):
        error = refusal(reactor, description, client_ca="none.pem")
        assert (error.option, error.description) == ("tls-client-ca", "none.pem")
        assert error.reason == "No such file or directory"


def test_a_reload_is_logged_with_what_is_in_use_now(reactor: MemoryReactorClock, pem: Path) -> None:
    endpoints = [StringEndpoint(reactor, each) for each in ("tcp:7", *strings(pem))]
    certificates = Certificates(endpoints)
    Issued(serial=0xABC).write(pem)
    with logged() as log:
        assert certificates.reload() == [1, 2]
    assert len(log.lines) == 2
    for line, description in zip(log.lines, strings(pem), strict=True):
        assert line.startswith(f"reloaded {description}: {pem} (localhost, serial abc, expires 20")
    with logged() as log:
        assert certificates.reload(only=[2]) == [2]
        assert certificates.check() == [1, 2]
    assert len(log.lines) == 1


def test_an_endpoint_for_another_socket_shares_what_is_loaded(
    reactor: MemoryReactorClock, pem: Path
) -> None:
    for description in strings(pem):
        first = StringEndpoint(reactor, description)
        pem.write_text("junk")
        # A file that cannot be used by now does not concern it.
        second = StringEndpoint(reactor, description, material=first.material)
        Issued(serial=0xABC).write(pem)
        first.reload()
        (identity,) = second.material.identities
        assert identity.certificate.serial_number == 0xABC
    assert StringEndpoint(reactor, "tcp:7").material is None


def test_a_reload_that_is_refused_is_one_line(reactor: MemoryReactorClock, pem: Path) -> None:
    other = Issued(["other"]).write(pem.parent.parent / "other.pem")
    certificates = Certificates(
        [StringEndpoint(reactor, f"ssl:7:privateKey={each}") for each in (pem, other)]
    )
    pem.write_text("junk")
    with logged() as log:
        # The other is not kept from its own.
        assert certificates.check() == [1]
    (line,) = log.lines
    assert line.startswith(f"cannot reload ssl:7:privateKey={pem}: {pem}: contains nothing")
    assert line.endswith("; the old one stays in use")


def shake_hands(factory: Any) -> None:
    """Let a client without a certificate say all that it can."""
    layer = factory.buildProtocol(None)
    transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 7))
    layer.makeConnection(transport)
    client = TLSClient()

    def send_and_receive() -> None:
        client.handshake()
        layer.dataReceived(client.to_send())
        client.receive(transport.value())
        transport.clear()

    send_and_receive()
    with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
        send_and_receive()
    layer.connectionLost(Failure(ConnectionDone()))


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
def test_clients_that_are_refused_are_summed_up(reactor: MemoryReactorClock, pem: Path) -> None:
    for description in strings(pem):
        endpoint = StringEndpoint(reactor, description, tls=TLSSettings(client_ca=str(pem)))
        endpoint.listen(ServerFactory.forProtocol(Protocol))
        factory = reactor.tcpServers.pop()[1]
        with logged() as log:
            for _ in range(3):
                shake_hands(factory)
            endpoint.flush()
        assert log.lines == [
            "refused 192.0.2.1:7: no client certificate (--tls-client-ca)",
            "refused 192.0.2.1:7: no client certificate (--tls-client-ca) "
            "(and 1 more in the last second; in total 2 from 192.0.2.1)",
        ]
        assert reactor.getDelayedCalls() == []
