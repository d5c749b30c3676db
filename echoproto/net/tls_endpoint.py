"""The listeners of ``ssl:`` and ``tls:`` strings.

They take what Twisted's own take (``twisted.internet.endpoints``), whose loading of the
files cannot be seen or repeated. Nothing of TLS, which is an extra, is imported unless
there is such a listener.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from echoproto.base.address import format_address, source
from echoproto.base.rate_limited_log import RateLimitedLog
from echoproto.net.endpoint_strings import EndpointString
from echoproto.net.tls_settings import TLSSettings

if TYPE_CHECKING:
    from echoproto.net.tls_context import ServerTLS

_log = Logger(namespace="echoproto")

FORMS = {
    "ssl": "ssl:PORT:privateKey=FILE:certKey=FILE[:extraCertChain=FILE][:dhParameters=FILE]"
    "[:interface=ADDRESS][:backlog=N]",
    "tls": "tls:DIRECTORY:port=PORT[:interface=ADDRESS][:backlog=N], with PEM files in it",
}


@dataclass(frozen=True)
class _Listener:
    """What a string says.

    :ivar find: reads its certificates.
    """

    port: int
    interface: str
    backlog: int
    find: Callable[[], Any]
    method: int | None = None
    dh_parameters: str | None = None


@implementer(IStreamServerEndpoint)
class TLSEndpoint:
    """A listener that adds TLS to its connections, with certificates that can be replaced.

    :ivar material: the certificates.
    """

    def __init__(
        self,
        reactor: Any,
        described: EndpointString,
        settings: TLSSettings,
        material: ServerTLS | None = None,
    ) -> None:
        """Load the certificates; nothing is opened yet.

        :param reactor: to listen with, an ``IReactorSSL`` and ``IReactorTime``.
        :param described: the parts of the string.
        :param settings: what clients need.
        :param material: what another endpoint has loaded, to share it.
        :raises TypeError: if an argument of the string is missing or unknown.
        :raises ValueError: if one is wrong.
        :raises echoproto.net.tls_settings.TLSFileError: if a file cannot be used.
        """
        # It imports what TLS needs.
        from echoproto.net.tls_context import ServerTLS, Source

        parse = _ssl if described.kind == "ssl" else _tls
        self._listener = listener = parse(*described.unnamed, **described.named)
        if listener.method is not None and settings.min_version is not None:
            raise ValueError("sslmethod excludes --tls-min-version")
        self._reactor = reactor
        self._refusals = RateLimitedLog(_log, lambda: reactor)
        files = Source(listener.find, settings, listener.method, listener.dh_parameters)
        self.material = material or ServerTLS(files, self._refused)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen; see ``IStreamServerEndpoint``."""
        listener = self._listener
        return maybeDeferred(
            self._reactor.listenSSL,
            listener.port,
            protocolFactory,
            self.material,
            listener.backlog,
            listener.interface,
        )

    def reload(self) -> str:
        """Load the certificates again, for new connections.

        :returns: the certificates in words.
        :raises echoproto.net.tls_settings.TLSFileError: if a file cannot be used; then
            nothing changes.
        """
        self.material.reload()
        return "; ".join(str(each) for each in self.material.identities)

    def flush(self) -> None:
        """Log now which refused clients would be summed up later."""
        self._refusals.flush()

    def _refused(self, layer: Any, reason: str) -> None:
        peer = layer.transport.getPeer()
        self._refusals.warn(
            "client certificate",
            "refused {client}: {reason} (--tls-client-ca)",
            source=source(peer),
            client=format_address(peer),
            reason=reason,
        )


def _ssl(
    port: str,
    privateKey: str = "server.pem",  # noqa: N803
    certKey: str | None = None,  # noqa: N803
    sslmethod: str | None = None,
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str | None = None,  # noqa: N803
    dhParameters: str | None = None,  # noqa: N803
) -> _Listener:
    from echoproto.net.certificates import identity_in_files

    return _Listener(
        int(port),
        interface,
        int(backlog),
        lambda: [identity_in_files(privateKey, certKey or privateKey, extraCertChain)],
        None if sslmethod is None else _method(sslmethod),
        dhParameters,
    )


def _tls(path: str, port: str = "443", backlog: str = "50", interface: str = "::") -> _Listener:
    from echoproto.net.certificates import identities_in_directory

    return _Listener(int(port), interface, int(backlog), lambda: identities_in_directory(path))


def _method(name: str) -> int:
    from OpenSSL import SSL

    method = getattr(SSL, name, None) if name.endswith("_METHOD") else None
    if not isinstance(method, int):
        raise ValueError(f"no such sslmethod: {name}")
    return method
