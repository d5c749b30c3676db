"""Half-close for what a port accepts over TLS.

Nothing here imports what TLS needs (the extra ``tls``) unless a port carries it:
the server serves TCP without. What half-close over TLS is, and how it is had,
see :mod:`echoproto.net.tls_layer`.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.interfaces import IListeningPort


def tls_factory(port: IListeningPort) -> Any:
    """Find the factory that adds TLS to what a port accepts.

    :param port: what an endpoint's ``listen`` gave.
    :returns: a ``TLSMemoryBIOFactory``, or None if the port carries no TLS. It may
        be wrapped in others, in Twisted's way (``WrappingFactory``).
    """
    # A port that carries TLS has imported this.
    tls: Any = sys.modules.get("twisted.protocols.tls")
    if tls is None:
        return None
    factory = getattr(port, "factory", None)
    while factory is not None and not isinstance(factory, tls.TLSMemoryBIOFactory):
        factory = getattr(factory, "wrappedFactory", None)
    return factory


def let_half_close(port: IListeningPort) -> None:
    """Teach half-close to the TLS layers of all that a port will accept.

    It works for every endpoint that adds TLS in Twisted's way: ``ssl:``, ``tls:``,
    ``SSL4ServerEndpoint``, ``wrapServerTLS``. :class:`echoproto.EchoService` does
    it for its own ports.

    :param port: what an endpoint's ``listen`` gave. One without TLS, and one
        whose TLS layer is not Twisted's own, is left as it is.
    """
    factory = tls_factory(port)
    if factory is None:
        return
    from twisted.protocols.tls import BufferingTLSTransport

    from echoproto.net.tls_layer import HalfCloseTLS

    # The very class: one that differs may have its reasons.
    if factory.protocol is BufferingTLSTransport:
        factory.protocol = HalfCloseTLS
