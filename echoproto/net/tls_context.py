"""What new TLS connections are made with, and how it is replaced while they are served.

It needs the extra ``tls``. A Twisted context factory makes its OpenSSL context for the
first client, and fails then. Here the contexts are made before a port is opened, so that
what OpenSSL refuses is refused at the start, and a reload either replaces them all or
leaves them as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    trustRootFromCertificates,
)
from zope.interface import implementer

from echoproto.net.certificates import Identity, by_name
from echoproto.net.pem import read_certificates, read_file
from echoproto.net.tls_settings import MinVersion, TLSFileError, TLSSettings

# Called with the TLS layer of a client whose certificate was not accepted, and the reason.
Refused = Callable[[Any, str], None]

_DH_PARAMETERS = "a file with Diffie-Hellman parameters (openssl dhparam -out FILE 2048)"
_STRONG_KEY = "a key and a certificate that OpenSSL allows, as RSA with 2048 bits or ECDSA"

_VERSIONS: dict[str, Any] = {
    MinVersion.TLS_1_2: TLSVersion.TLSv1_2,
    MinVersion.TLS_1_3: TLSVersion.TLSv1_3,
}

# What the server sends to a client whose certificate it does not accept (RFC 8446,
# section 6.2). TLS 1.2 has no alert of its own for a missing certificate.
_ALERTS = {
    40: "no client certificate, or no cipher in common",
    42: "invalid client certificate",
    43: "unsupported client certificate",
    44: "revoked client certificate",
    45: "expired client certificate",
    46: "unusable client certificate",
    48: "client certificate of an unknown CA",
    116: "no client certificate",
}


@dataclass(frozen=True)
class Source:
    """Where the material of a listener comes from.

    :ivar identities: reads the certificates; the first is for clients that ask for no name.
    :ivar settings: what clients need.
    :ivar method: a method of OpenSSL, as ``sslmethod`` of an ``ssl:`` string names it.
    :ivar dh_parameters: a PEM file, for the DHE ciphers of TLS 1.2.
    """

    identities: Callable[[], list[Identity]]
    settings: TLSSettings
    method: int | None = None
    dh_parameters: str | None = None


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the server's end of TLS connections.

    :ivar identities: the certificates in use.
    """

    def __init__(self, source: Source, refused: Refused) -> None:
        """Load what is needed.

        :param source: where it comes from.
        :param refused: called for a client whose certificate was not accepted.
        :raises TLSFileError: if one of the files cannot be used.
        """
        self._source = source
        self._refused = refused
        self.reload()

    def reload(self) -> None:
        """Load everything again, for new connections.

        :raises TLSFileError: if one of the files cannot be used; then nothing changes.
        """
        identities = self._source.identities()
        self._context = _Contexts(self._source, self._refused).make(identities)
        self.identities = identities

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        """Make a connection; see ``IOpenSSLServerConnectionCreator``."""
        connection = SSL.Connection(self._context, None)
        # Older versions of Twisted do not.
        connection.set_app_data(protocol)
        return connection


class _Contexts:
    """Makes the OpenSSL contexts of one load, which have all but the certificate in common."""

    def __init__(self, source: Source, refused: Refused) -> None:
        self._client_ca = source.settings.client_ca
        self._dh_parameters = source.dh_parameters
        self._refused = refused
        self._options: dict[str, Any] = {}
        if source.method is not None:
            self._options["method"] = source.method
        elif source.settings.min_version is not None:
            self._options["raiseMinimumTo"] = _VERSIONS[source.settings.min_version]
        if self._client_ca is not None:
            self._options["trustRoot"] = _trust_root(self._client_ca)

    def make(self, identities: Iterable[Identity]) -> SSL.Context:
        """Make a context for each certificate; return the one for clients without a name."""
        contexts = {each: self._context(each) for each in identities}
        named = {name: contexts[each] for name, each in by_name(contexts).items()}
        first = next(iter(contexts))
        # A newer certificate may have replaced it.
        default = named.get(first.names[0], contexts[first]) if first.names else contexts[first]

        def select(connection: SSL.Connection) -> None:
            found = _for_name(named, connection.get_servername())
            if found is not None:
                connection.set_context(found)

        default.set_tlsext_servername_callback(select)
        return default

    def _context(self, identity: Identity) -> SSL.Context:
        try:
            # Twisted passes these on to pyOpenSSL, which takes objects of cryptography
            # from 24.3 on, and warns of its own.
            options = CertificateOptions(
                privateKey=identity.key,
                certificate=identity.certificate,  # type: ignore[arg-type]
                extraCertChain=list(identity.chain),  # type: ignore[arg-type]
                **self._options,
            )
            context = options.getContext()
        except SSL.Error as error:
            reason = f"OpenSSL refuses it, its key or its chain ({_reason(error)})"
            raise TLSFileError(identity.path, reason, _STRONG_KEY) from None
        # In place of Twisted's, which ends the handshake of a client that offers
        # protocols if it has none in common. A server may ignore the offer (RFC 7301).
        context.set_alpn_select_callback(lambda *_: SSL.NO_OVERLAPPING_PROTOCOLS)
        self._load_dh_parameters(context)
        if self._client_ca is not None:
            context.load_client_ca(os.fsencode(self._client_ca))
            context.set_info_callback(self._watch_alerts)
        return context

    def _load_dh_parameters(self, context: SSL.Context) -> None:
        path = self._dh_parameters
        if path is None:
            return
        if b"-----BEGIN DH PARAMETERS-----" not in read_file(path, _DH_PARAMETERS):
            raise TLSFileError(path, "contains no Diffie-Hellman parameters", _DH_PARAMETERS)
        try:
            context.load_tmp_dh(os.fsencode(path))
        except SSL.Error as error:
            raise TLSFileError(
                path, f"OpenSSL refuses it ({_reason(error)})", _DH_PARAMETERS
            ) from None

    def _watch_alerts(self, connection: SSL.Connection, where: int, what: int) -> None:
        """Report a client that is refused for its certificate; see SSL_CTX_set_info_callback(3)."""
        reason = _ALERTS.get(what & 0xFF)
        if where == SSL.SSL_CB_WRITE_ALERT and reason is not None:
            self._refused(connection.get_app_data(), reason)


def _trust_root(path: str) -> Any:
    return trustRootFromCertificates(
        [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in read_certificates(path)]
    )


def _for_name(named: dict[str, SSL.Context], name: bytes | None) -> SSL.Context | None:
    """Return the context for a name that a client asks for, or for its wildcard (RFC 6125)."""
    if name is None:
        return None
    asked = name.decode("ascii", "replace").lower()
    return named.get(asked) or named.get("*." + asked.partition(".")[2])


def _reason(error: SSL.Error) -> str:
    """Return what OpenSSL says in the words of its error queue."""
    queue = error.args[0] if error.args else []
    return ", ".join(dict.fromkeys(entry[-1] for entry in queue)) or "no reason given"
