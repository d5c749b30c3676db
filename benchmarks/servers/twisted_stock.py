"""Twisted's own Echo as its examples run it, on the epoll reactor.

usage: twisted_stock.py [FILE]

FILE has a private key and a certificate, for TLS.
"""

import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import protocol, reactor  # noqa: E402
from twisted.internet.address import IPv4Address  # noqa: E402
from twisted.internet.interfaces import IReactorSSL, ITCPTransport  # noqa: E402
from twisted.protocols import wire  # noqa: E402


class Echo(wire.Echo):
    """The stock protocol, with TCP_NODELAY as all peers have it."""

    def connectionMade(self) -> None:
        cast(ITCPTransport, self.transport).setTcpNoDelay(True)


factory = protocol.ServerFactory()
factory.protocol = Echo
factory.noisy = False
if sys.argv[1:]:
    from twisted.internet.ssl import PrivateCertificate

    # Any: it takes a name for each part of a certificate.
    loaded: Any = PrivateCertificate.loadPEM(Path(sys.argv[1]).read_bytes())
    options = loaded.options()
    port = cast(IReactorSSL, reactor).listenSSL(
        0, factory, options, backlog=4096, interface="127.0.0.1"
    )
else:
    port = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
print(f"listening on 127.0.0.1:{cast(IPv4Address, port.getHost()).port}", flush=True)
reactor.run()
