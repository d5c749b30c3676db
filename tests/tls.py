"""A TLS client on buffers that can close its sending side and go on reading.

``SSLSocket.unwrap`` closes both.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class End(enum.Enum):
    """What ended the server's output."""

    CLOSE_NOTIFY = "close_notify"
    TRUNCATED = "the end of the TCP connection, without close_notify"


class TLSClient:
    """The client's end of a TLS session, without a socket."""

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.back = bytearray()
        self.end: End | None = None

    def handshake(self) -> bool:
        """Continue the handshake; return whether it is finished."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def say(self, data: bytes) -> None:
        """Encrypt data."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]

    def close_notify(self) -> None:
        """Close the sending side."""
        # close_notify is written at once; the error is the missing one of the other side.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    def to_send(self) -> bytes:
        """Return the bytes to send to the server now."""
        return self._outgoing.read()

    def receive(self, wire: bytes) -> None:
        """Decrypt what the server sent; no bytes mean the end of the TCP connection."""
        if wire:
            self._incoming.write(wire)
        else:
            self._incoming.write_eof()
        while self.end is None:
            try:
                data = self._tls.read(1 << 16)
                if not data:
                    self.end = End.CLOSE_NOTIFY
                self.back += data
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                self.end = End.CLOSE_NOTIFY
            except ssl.SSLEOFError:
                self.end = End.TRUNCATED


class Issued:
    """A key and its certificate, which may issue others."""

    def __init__(
        self,
        names: Sequence[str] = ("localhost",),
        *,
        issuer: Issued | None = None,
        serial: int = 1,
        ca: bool = False,
        days: tuple[int, int] = (-1, 1),
        key: Any = None,
    ) -> None:
        """Make one.

        :param names: the first is its common name; all are its DNS names unless it is a CA.
        :param issuer: by default it signs itself.
        :param days: from when until when it is valid, counted from now.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key: Any = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(serial)
            .not_valid_before(now + datetime.timedelta(days[0]))
            .not_valid_after(now + datetime.timedelta(days[1]))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if not ca:
            dns_names = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(dns_names, critical=False)
        self.certificate: Any = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())

    def certificate_pem(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        pem: bytes = self.certificate.public_bytes(Encoding.PEM)
        return pem

    def key_pem(self, passphrase: bytes | None = None, traditional: bool = False) -> bytes:
        from cryptography.hazmat.primitives import serialization

        encryption: Any = serialization.NoEncryption()
        if passphrase is not None:
            encryption = serialization.BestAvailableEncryption(passphrase)
        form = serialization.PrivateFormat
        pem: bytes = self.key.private_bytes(
            serialization.Encoding.PEM,
            form.TraditionalOpenSSL if traditional else form.PKCS8,
            encryption,
        )
        return pem

    def write(self, path: Path) -> Path:
        """Write both into one file; readers see the old one or the new one."""
        new = path.with_name(path.name + ".new")
        new.write_bytes(self.certificate_pem() + self.key_pem())
        return new.replace(path)


def make_certificate(path: Path) -> Path:
    """Write a key and a certificate for localhost into one PEM file."""
    return Issued().write(path)
