"""What a reactor is asked to bind, with and without Twisted's ``makeBinding``."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp

# Twisted has it from 26.10 on.
HAS_BINDINGS = hasattr(tcp, "makeBinding")


def binding(interface: str, port: int, reuse_address: bool = True, reuse_port: bool = False) -> Any:
    """Return what a reactor's ``listenTCP`` is given as the port."""
    if not HAS_BINDINGS:
        assert reuse_address
        assert not reuse_port
        return port
    return tcp.makeBinding(interface, port, reuseAddress=reuse_address, reusePort=reuse_port)
