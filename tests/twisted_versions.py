"""What not every version of Twisted has that this package works with."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

# tcp.makeBinding: from 26.10 on.
HAS_BINDINGS = hasattr(tcp, "makeBinding")

# The endpoint string "tls:": from 26.4 on.
HAS_TLS_ENDPOINT = "tls" in {
    plugin.prefix for plugin in getPlugins(IStreamServerEndpointStringParser)
}


def binding(interface: str, port: int, reuse_address: bool = True, reuse_port: bool = False) -> Any:
    """Return what a reactor's ``listenTCP`` is given as the port."""
    if not HAS_BINDINGS:
        assert reuse_address
        assert not reuse_port
        return port
    return tcp.makeBinding(interface, port, reuseAddress=reuse_address, reusePort=reuse_port)
