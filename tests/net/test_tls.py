"""Which ports carry TLS, and what is changed in them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from echoproto.net.tls import let_half_close, tls_factory


class Port:
    """What is used of a port."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory


@pytest.fixture
def tls() -> Any:
    pytest.importorskip("OpenSSL", reason="needs Twisted[tls]")
    from twisted.protocols import tls

    return tls


def over_tls(tls: Any, **attributes: Any) -> Any:
    class Creator:
        def getContext(self) -> None:
            """Not used."""

    from twisted.internet.interfaces import IOpenSSLContextFactory
    from zope.interface import directlyProvides

    creator = Creator()
    directlyProvides(creator, IOpenSSLContextFactory)
    factory = tls.TLSMemoryBIOFactory(
        creator, False, Factory.forProtocol(Protocol), MemoryReactorClock()
    )
    for name, value in attributes.items():
        setattr(factory, name, value)
    return factory


def test_a_port_without_tls_is_left_as_it_is() -> None:
    factory = Factory.forProtocol(Protocol)
    for port in (Port(factory), Port(None), object()):
        assert tls_factory(port) is None  # type: ignore[arg-type]
        let_half_close(port)  # type: ignore[arg-type]
    assert factory.protocol is Protocol


def test_a_port_with_tls(tls: Any) -> None:
    from echoproto.net.tls_layer import HalfCloseTLS

    port: Any = Port(over_tls(tls))
    assert tls_factory(port) is port.factory
    let_half_close(port)
    assert port.factory.protocol is HalfCloseTLS
    assert tls.TLSMemoryBIOFactory.protocol is tls.BufferingTLSTransport
    let_half_close(port)
    assert port.factory.protocol is HalfCloseTLS


def test_tls_below_another_layer(tls: Any) -> None:
    from twisted.protocols.policies import WrappingFactory

    from echoproto.net.tls_layer import HalfCloseTLS

    inner = over_tls(tls)
    port: Any = Port(WrappingFactory(WrappingFactory(inner)))
    assert tls_factory(port) is inner
    let_half_close(port)
    assert inner.protocol is HalfCloseTLS


def test_a_layer_that_is_not_twisteds_own_is_left_as_it_is(tls: Any) -> None:
    class Own(tls.BufferingTLSTransport):  # type: ignore[misc]
        """May rely on its own methods."""

    port: Any = Port(over_tls(tls, protocol=Own))
    assert tls_factory(port) is port.factory
    let_half_close(port)
    assert port.factory.protocol is Own


def test_without_pyopenssl_the_server_serves_tcp() -> None:
    program = """
import sys
sys.modules["OpenSSL"] = None
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.selectreactor import SelectReactor
from echoproto import EchoService
reactor = SelectReactor()
service = EchoService(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), reactor=reactor)
service.startService()
print(service.ports[0].getHost().host)
reactor.callWhenRunning(reactor.stop)
reactor.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "127.0.0.1\n"), done.stderr
