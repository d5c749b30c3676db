"""Handshakes with the contexts of a TLS listener, on buffers."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("OpenSSL", reason="needs the extra tls")

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from echoproto.net.certificates import Identity, identities_in_directory
from echoproto.net.tls_context import ServerTLS, Source
from echoproto.net.tls_settings import TLSFileError, TLSSettings
from tests.tls import VERSIONS, Issued

LAYER = object()
CA = Issued(["Client CA"], ca=True)
in_both_versions = pytest.mark.parametrize("version", VERSIONS)


class Refusals:
    """Records the clients that are refused for their certificate."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, str]] = []

    def __call__(self, layer: Any, reason: str) -> None:
        self.seen.append((layer, reason))


def identity(issued: Issued) -> Identity:
    return Identity("cert.pem", issued.certificate, issued.key)


def server(*issued: Issued, refused: Refusals | None = None, **settings: Any) -> ServerTLS:
    found = [identity(each) for each in issued or (Issued(),)]
    return ServerTLS(Source(lambda: found, TLSSettings(**settings)), refused or Refusals())


class Handshake:
    """A client and a server; what they say goes back and forth until both have finished."""

    def __init__(
        self,
        tls: ServerTLS,
        name: str | None = "localhost",
        version: ssl.TLSVersion | None = None,
        offered: tuple[str, ...] = (),
        certificate: Path | None = None,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if offered:
            context.set_alpn_protocols(offered)
        if certificate is not None:
            context.load_cert_chain(certificate)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.server = tls.serverConnectionForTLS(LAYER)
        self.server.set_accept_state()
        self._shake()

    def _shake(self) -> None:
        for _ in range(4):
            with suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            wire = self._outgoing.read()
            if wire:
                self.server.bio_write(wire)
            try:
                with suppress(SSL.WantReadError):
                    self.server.do_handshake()
            finally:
                self._to_client()

    def _to_client(self) -> None:
        with suppress(SSL.WantReadError):
            self._incoming.write(self.server.bio_read(1 << 16))

    @property
    def serial(self) -> int:
        """Of the certificate that the client was shown."""
        from cryptography.x509 import load_der_x509_certificate

        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        return load_der_x509_certificate(der).serial_number


def test_its_interface() -> None:
    verifyObject(IOpenSSLServerConnectionCreator, server())


@in_both_versions
@pytest.mark.parametrize("name", [None, "localhost", "a.example.org", "unknown"])
def test_protocols_that_a_client_offers_are_ignored(
    version: ssl.TLSVersion, name: str | None
) -> None:
    tls = server(Issued(), Issued(["*.example.org"]))
    shaken = Handshake(tls, name, version, offered=("h2", "http/1.1"))
    assert shaken.client.selected_alpn_protocol() is None
    assert shaken.client.version() == {2: "TLSv1.2", 3: "TLSv1.3"}[version - 0x301]


@in_both_versions
@pytest.mark.parametrize(
    ("name", "serial"),
    [
        (None, 1),
        ("localhost", 1),
        ("LOCALHOST", 1),
        ("unknown", 1),
        ("a.example.org", 2),
        ("b.a.example.org", 1),
        ("www.example.org", 3),
    ],
)
def test_the_name_selects_a_certificate(
    version: ssl.TLSVersion, name: str | None, serial: int
) -> None:
    names = (["localhost"], ["*.example.org"], ["www.example.org"])
    tls = server(*(Issued(each, serial=n + 1) for n, each in enumerate(names)))
    assert Handshake(tls, name, version).serial == serial


def test_the_default_is_the_newest_of_the_first_name() -> None:
    tls = server(Issued(serial=1, days=(-5, 1)), Issued(serial=2))
    assert Handshake(tls, None).serial == 2


def test_a_minimum_version() -> None:
    for minimum in (None, "1.2"):
        assert Handshake(server(min_version=minimum), version=VERSIONS[0]).client.version()
    tls = server(min_version="1.3")
    assert Handshake(tls, version=ssl.TLSVersion.TLSv1_3).client.version() == "TLSv1.3"
    with pytest.raises(SSL.Error, match="unsupported protocol"):
        Handshake(tls, version=ssl.TLSVersion.TLSv1_2)


@pytest.fixture
def client_ca(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(CA.certificate_pem())
    return str(path)


@in_both_versions
@pytest.mark.parametrize("name", ["localhost", "other"])
def test_a_client_with_a_certificate(
    version: ssl.TLSVersion, name: str, client_ca: str, tmp_path: Path
) -> None:
    refused = Refusals()
    tls = server(Issued(), Issued(["other"]), client_ca=client_ca, refused=refused)
    own = Issued(["client"], issuer=CA).write(tmp_path / "client.pem")
    shaken = Handshake(tls, name, version, certificate=own)
    assert shaken.server.get_peer_certificate() is not None
    # What the server names in its request.
    assert [each.CN for each in shaken.server.get_client_ca_list()] == ["Client CA"]
    assert refused.seen == []


@in_both_versions
@pytest.mark.parametrize("name", ["localhost", "other"])
@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "no client certificate"),
        (Issued(["client"]), "client certificate of an unknown CA"),
        (Issued(["client"], issuer=CA, days=(-5, -1)), "expired client certificate"),
    ],
)
def test_a_client_without_a_right_certificate(
    version: ssl.TLSVersion,
    name: str,
    own: Issued | None,
    reason: str,
    client_ca: str,
    tmp_path: Path,
) -> None:
    refused = Refusals()
    tls = server(Issued(), Issued(["other"]), client_ca=client_ca, refused=refused)
    path = None if own is None else own.write(tmp_path / "client.pem")
    with pytest.raises((SSL.Error, ssl.SSLError)):
        Handshake(tls, name, version, certificate=path)
    ((layer, said),) = refused.seen
    assert said.startswith(reason)
    assert layer is LAYER


def test_other_failures_are_no_refusals(client_ca: str) -> None:
    refused = Refusals()
    tls = server(client_ca=client_ca, refused=refused, min_version="1.3")
    with pytest.raises(SSL.Error):
        Handshake(tls, version=ssl.TLSVersion.TLSv1_2)
    assert refused.seen == []


def test_a_reload_replaces_all_or_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "pems"
    directory.mkdir()
    path = directory / "a.pem"
    Issued(serial=1).write(path)
    source = Source(lambda: identities_in_directory(str(directory)), TLSSettings())
    tls = ServerTLS(source, Refusals())
    before = Handshake(tls)
    Issued(serial=2).write(path)
    Issued(["other"], serial=3).write(directory / "b.pem")
    assert Handshake(tls).serial == 1
    tls.reload()
    assert (Handshake(tls).serial, Handshake(tls, "other").serial) == (2, 3)
    assert [each.certificate.serial_number for each in tls.identities] == [2, 3]
    Issued(serial=4).write(path)
    (directory / "b.pem").write_text("junk")
    with pytest.raises(TLSFileError, match=r"b\.pem"):
        tls.reload()
    assert (Handshake(tls).serial, Handshake(tls, "other").serial) == (2, 3)
    assert [each.certificate.serial_number for each in tls.identities] == [2, 3]
    # The session that began with the first certificate goes on.
    before.client.write(b"data")
    before.server.bio_write(before._outgoing.read())
    assert before.server.recv(9) == b"data"


def test_a_key_that_openssl_does_not_allow() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = Issued(key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(TLSFileError, match=r"cert\.pem: OpenSSL refuses it.*too small"):
        server(weak)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"junk", "contains no Diffie-Hellman parameters"),
        (
            b"-----BEGIN DH PARAMETERS-----\nMAAA\n-----END DH PARAMETERS-----\n",
            "OpenSSL refuses it",
        ),
    ],
)
def test_dh_parameters_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "dh.pem"
    if content is not None:
        path.write_bytes(content)
    source = Source(lambda: [identity(Issued())], TLSSettings(), dh_parameters=str(path))
    with pytest.raises(TLSFileError, match=rf"dh\.pem: {reason}"):
        ServerTLS(source, Refusals())
