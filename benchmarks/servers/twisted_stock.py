"""Twisted's own Echo as its examples run it, on the epoll reactor."""

from typing import cast

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import protocol, reactor  # noqa: E402
from twisted.internet.address import IPv4Address  # noqa: E402
from twisted.internet.interfaces import ITCPTransport  # noqa: E402
from twisted.protocols import wire  # noqa: E402


class Echo(wire.Echo):
    """The stock protocol, with TCP_NODELAY as all peers have it."""

    def connectionMade(self) -> None:
        cast(ITCPTransport, self.transport).setTcpNoDelay(True)


factory = protocol.ServerFactory()
factory.protocol = Echo
factory.noisy = False
port = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
print(f"listening on 127.0.0.1:{cast(IPv4Address, port.getHost()).port}", flush=True)
reactor.run()
