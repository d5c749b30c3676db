"""A TLS client on buffers that can close its sending side and go on reading.

``SSLSocket.unwrap`` closes both.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import ssl
from pathlib import Path

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


def make_certificate(path: Path) -> Path:
    """Write a key and a certificate for localhost into one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path
