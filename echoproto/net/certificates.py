"""Certificates with their keys: found in files, and matched before anything uses them.

It needs the extra ``tls``. ``ssl:`` has one certificate, ``tls:`` a directory of them, of
which the name that a client asks for (SNI, RFC 6066) selects one.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.x509 import Certificate, DNSName, ExtensionNotFound, SubjectAlternativeName
from cryptography.x509.oid import NameOID

from echoproto.net.pem import PEMFile, public_bytes, read_certificates, read_key, read_pem
from echoproto.net.tls_settings import TLSFileError

_MATCHING = "a private key and the certificate that was issued for it"


@dataclass(frozen=True, eq=False)
class Identity:
    """A certificate that a server can use.

    :ivar path: the file with the certificate.
    :ivar certificate: the certificate.
    :ivar key: its private key.
    :ivar chain: the certificates that are sent after it, up to its root.
    """

    path: str
    certificate: Certificate
    key: Any
    chain: Sequence[Certificate] = ()

    @property
    def names(self) -> list[str]:
        """The DNS names that it is for, in lower case; some may be wildcards."""
        try:
            extension = self.certificate.extensions.get_extension_for_class(SubjectAlternativeName)
        except (ExtensionNotFound, ValueError):
            names = self._common_names()
        else:
            names = extension.value.get_values_for_type(DNSName)
        return [name.lower() for name in names]

    def __str__(self) -> str:
        """Say which certificate it is, for a log line."""
        expires = self.certificate.not_valid_after_utc
        subject = ", ".join(self.names[:3]) or self.certificate.subject.rfc4514_string()
        return (
            f"{self.path} ({subject or 'no subject'}, serial "
            f"{self.certificate.serial_number:x}, expires {expires:%Y-%m-%d %H:%M} UTC)"
        )

    def _common_names(self) -> list[str]:
        found = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [str(each.value) for each in found]


def identity_in_files(key_path: str, certificate_path: str, chain_path: str | None) -> Identity:
    """Return the certificate that an ``ssl:`` string names.

    :param key_path: the file with the private key.
    :param certificate_path: the file with the certificate; others that follow it are sent
        as its chain.
    :param chain_path: a file with more certificates of the chain.
    :raises TLSFileError: if a file cannot be used, or the key does not belong to the certificate.
    """
    key = read_key(key_path)
    certificate, *chain = read_certificates(certificate_path)
    if chain_path is not None:
        chain += read_certificates(chain_path)
    if not _belong_together(certificate, key):
        reason = f"the certificate was not issued for the private key in {key_path}"
        raise TLSFileError(certificate_path, reason, _MATCHING)
    # A file may hold the certificate twice: by itself, and with its chain.
    chain = [each for each in dict.fromkeys(chain) if each != certificate]
    return Identity(certificate_path, certificate, key, chain)


def identities_in_directory(directory: str) -> list[Identity]:
    """Return the certificates in the ``*.pem`` files below a directory.

    A certificate and its key may be in one file or in two. A certificate without a key is
    used for the chains of the others.

    :param directory: of a ``tls:`` string.
    :returns: in the order of their paths; at least one.
    :raises TLSFileError: if the directory or one of the files cannot be used, or a key has no
        certificate.
    """
    files = [read_pem(path) for path in _pem_paths(directory)]
    if not files:
        raise TLSFileError(directory, "no *.pem file in it", "a directory with PEM files")
    certificates = {
        each: file.path for file in reversed(files) for each in reversed(file.certificates)
    }
    used = _match(files, certificates)
    if not used:
        reason = "no certificate with its private key in the *.pem files"
        raise TLSFileError(directory, reason, _MATCHING)
    others = [each for each in certificates if each not in used]
    found = [
        Identity(certificates[each], each, key, _chain(each, others)) for each, key in used.items()
    ]
    return sorted(found, key=lambda identity: identity.path)


def by_name(identities: Iterable[Identity]) -> dict[str, Identity]:
    """Return which certificate to use for each DNS name.

    Of several for a name, it is the one that was issued last and is valid already.

    :param identities: the certificates.
    """
    now = datetime.datetime.now(datetime.timezone.utc)

    def rank(identity: Identity) -> tuple[bool, datetime.datetime]:
        begins = identity.certificate.not_valid_before_utc
        return begins <= now, begins

    return {name: each for each in sorted(identities, key=rank) for name in each.names}


def _pem_paths(directory: str) -> list[str]:
    try:
        os.listdir(directory)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TLSFileError(directory, why, "a directory with PEM files") from None
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(directory)
        for name in names
        if name.endswith(".pem")
    )


def _match(files: Iterable[PEMFile], certificates: Iterable[Certificate]) -> dict[Certificate, Any]:
    """Return the certificates that have a key, with it."""
    by_key: dict[bytes, list[Certificate]] = {}
    for certificate in certificates:
        by_key.setdefault(_public_key(certificate), []).append(certificate)
    used = {}
    for file in files:
        for key in file.keys:
            matching = by_key.get(public_bytes(key.public_key()))
            if matching is None:
                raise TLSFileError(file.path, "no certificate for its private key", _MATCHING)
            used.update(dict.fromkeys(matching, key))
    return used


def _chain(certificate: Certificate, others: Iterable[Certificate]) -> list[Certificate]:
    """Return the certificates from the issuer of one up to its root, as far as they are here."""
    issuers = {each.subject: each for each in others}
    chain: list[Certificate] = []
    while certificate.issuer in issuers and certificate.issuer != certificate.subject:
        certificate = issuers.pop(certificate.issuer)
        chain.append(certificate)
    return chain


def _belong_together(certificate: Certificate, key: Any) -> bool:
    return _public_key(certificate) == public_bytes(key.public_key())


def _public_key(certificate: Certificate) -> bytes:
    try:
        return public_bytes(certificate.public_key())
    except Exception:
        # A kind of key that cryptography does not know: it has no private key here either.
        return b""
