"""Certificates and private keys in PEM files (RFC 7468); it needs the extra ``tls``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import Certificate, load_pem_x509_certificate

from echoproto.net.tls_settings import TLSFileError

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_BEGIN = b"-----BEGIN "
_CERTIFICATE_LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE")
_KEY_LABEL = b"PRIVATE KEY"

_PEM_FILE = "a readable file in PEM form"
_CERTIFICATE = "a certificate in PEM form"
_KEY = "a private key in PEM form"


@dataclass(frozen=True)
class PEMFile:
    """What a PEM file contains; blocks of other kinds are left out.

    :ivar path: of the file.
    :ivar certificates: in the order of the file.
    :ivar keys: private keys, in the order of the file.
    """

    path: str
    certificates: Sequence[Certificate]
    keys: Sequence[Any]


def read_pem(path: str) -> PEMFile:
    """Read all certificates and private keys of a PEM file.

    An encrypted key is refused: there is no terminal to ask for its passphrase when a
    worker starts, or when the certificates are loaded again.

    :param path: of the file.
    :raises TLSFileError: if it cannot be read, contains no PEM block, or contains a
        certificate or a key that is malformed.
    """
    blocks = _blocks(path)
    return PEMFile(path, _certificates(path, blocks), _keys(path, blocks))


def read_certificates(path: str) -> list[Certificate]:
    """Return the certificates of a PEM file: at least one.

    :param path: of the file.
    :raises TLSFileError: as :func:`read_pem`, and if there is none.
    """
    certificates = _certificates(path, _blocks(path))
    if not certificates:
        raise TLSFileError(path, "contains no certificate", _CERTIFICATE)
    return certificates


def read_key(path: str) -> Any:
    """Return the first private key of a PEM file.

    :param path: of the file.
    :raises TLSFileError: as :func:`read_pem`, and if there is none.
    """
    keys = _keys(path, _blocks(path))
    if not keys:
        raise TLSFileError(path, "contains no private key", _KEY)
    return keys[0]


def read_file(path: str, allowed: str) -> bytes:
    """Return the content of a file.

    :param path: of the file.
    :param allowed: what would work.
    :raises TLSFileError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except PermissionError as error:
        allowed = "a file that the user who serves may read"
        raise TLSFileError(path, error.strerror or str(error), allowed) from None
    except OSError as error:
        raise TLSFileError(path, error.strerror or str(error), allowed) from None
    except ValueError as error:
        # A NUL byte in the path.
        raise TLSFileError(path, str(error), allowed) from None


def public_bytes(key: Any) -> bytes:
    """Return what identifies a public key, to compare it with another.

    :param key: a public key of ``cryptography``.
    """
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _blocks(path: str) -> list[tuple[bytes, bytes]]:
    """Return the labels of a file's PEM blocks, and the blocks."""
    content = read_file(path, _PEM_FILE)
    blocks = [(block[1], block[0]) for block in _BLOCK.finditer(content)]
    if len(blocks) != content.count(_BEGIN):
        raise TLSFileError(path, "ends within a PEM block", "a complete file")
    if not blocks:
        raise TLSFileError(path, "contains nothing in PEM form", _PEM_FILE)
    return blocks


def _certificates(path: str, blocks: Iterable[tuple[bytes, bytes]]) -> list[Certificate]:
    try:
        return [
            load_pem_x509_certificate(block)
            for label, block in blocks
            if label in _CERTIFICATE_LABELS
        ]
    except ValueError:
        raise TLSFileError(path, "contains a malformed certificate", _CERTIFICATE) from None


def _keys(path: str, blocks: Iterable[tuple[bytes, bytes]]) -> list[Any]:
    try:
        return [
            load_pem_private_key(block, None)
            for label, block in blocks
            if label.endswith(_KEY_LABEL)
        ]
    except TypeError:
        allowed = "a key without a passphrase (openssl pkey -in FILE -out NEWFILE)"
        raise TLSFileError(path, "the private key is encrypted", allowed) from None
    except (ValueError, UnsupportedAlgorithm):
        raise TLSFileError(path, "contains a malformed private key", _KEY) from None
