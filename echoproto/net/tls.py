"""Half-close for the connections of a port that carries TLS.

Nothing here imports what TLS needs (the extra ``tls``) unless a port carries it: TCP is
served without. :mod:`echoproto.net.tls_layer` says what half-close over TLS is, and how
it works.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.interfaces import IListeningPort


def tls_factory(port: IListeningPort) -> Any:
    """Return the factory that adds TLS to the connections of a port.

    :param port: a result of an endpoint's ``listen``.
    :returns: a ``TLSMemoryBIOFactory``, or ``None`` if the port carries no TLS. It is
        found below other factories too, if they wrap it in Twisted's way
        (``WrappingFactory``).
    """
    # A port that carries TLS has imported this module.
    tls: Any = sys.modules.get("twisted.protocols.tls")
    if tls is None:
        return None
    factory = getattr(port, "factory", None)
    while factory is not None and not isinstance(factory, tls.TLSMemoryBIOFactory):
        factory = getattr(factory, "wrappedFactory", None)
    return factory


def let_half_close(port: IListeningPort) -> None:
    """Add half-close to the TLS layers of all connections that a port will accept.

    It works for every endpoint that adds TLS in Twisted's way: ``ssl:``, ``tls:``,
    ``SSL4ServerEndpoint``, ``wrapServerTLS``. :class:`echoproto.EchoService` does it for
    its own ports.

    :param port: a result of an endpoint's ``listen``. One without TLS, and one whose TLS
        layer is not Twisted's own, is left unchanged.
    """
    factory = tls_factory(port)
    if factory is None:
        return
    from twisted.protocols.tls import BufferingTLSTransport

    from echoproto.net.tls_layer import HalfCloseTLS

    # The exact class: a derived one may rely on what this replaces.
    if factory.protocol is BufferingTLSTransport:
        factory.protocol = HalfCloseTLS
