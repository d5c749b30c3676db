"""Certificates and keys in files: which are found, which belong together, what is refused."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

pytest.importorskip("OpenSSL", reason="needs the extra tls")

from echoproto.net.certificates import by_name, identities_in_directory, identity_in_files
from echoproto.net.pem import read_certificates, read_key, read_pem
from echoproto.net.tls_settings import MinVersion, TLSFileError, TLSSettings
from tests.tls import Issued

ROOT = Issued(["Root"], ca=True)
INTERMEDIATE = Issued(["Intermediate"], issuer=ROOT, ca=True)
LEAF = Issued(["localhost", "*.example.org"], issuer=INTERMEDIATE, serial=0xABC)
OTHER = Issued(["other"])


def refusal(directory_or_files: object) -> TLSFileError:
    with pytest.raises(TLSFileError) as caught:
        directory_or_files()  # type: ignore[operator]
    assert "\n" not in f"{caught.value}{caught.value.allowed}"
    return caught.value


def test_a_certificate_is_found_with_its_key_and_its_chain(tmp_path: Path) -> None:
    full, key, more = (tmp_path / name for name in ("full.pem", "key.pem", "more.pem"))
    full.write_bytes(LEAF.certificate_pem() + b"text between\n" + INTERMEDIATE.certificate_pem())
    key.write_bytes(LEAF.key_pem(traditional=True))
    # The chain may repeat what is in the other file.
    more.write_bytes(b"".join(x.certificate_pem() for x in (LEAF, INTERMEDIATE, ROOT)))
    found = identity_in_files(str(key), str(full), str(more))
    assert found.certificate == LEAF.certificate
    assert list(found.chain) == [INTERMEDIATE.certificate, ROOT.certificate]
    assert list(identity_in_files(str(key), str(full), None).chain) == [INTERMEDIATE.certificate]
    expires = f"{LEAF.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    assert str(found) == f"{full} (localhost, *.example.org, serial abc, expires {expires})"


def test_a_key_after_the_parameters_of_its_curve(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    path.write_bytes(parameters + LEAF.key_pem(traditional=True))
    assert read_key(str(path)).private_numbers() == LEAF.key.private_numbers()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "contains nothing in PEM form"),
        (b"junk\n", "contains nothing in PEM form"),
        (OTHER.key_pem(), "the certificate was not issued for the private key in "),
        (LEAF.certificate_pem(), "contains no private key"),
        (LEAF.key_pem(b"secret"), "the private key is encrypted"),
        (LEAF.key_pem(b"secret", traditional=True), "the private key is encrypted"),
        (LEAF.key_pem()[:-20], "ends within a PEM block"),
        (
            b"-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n",
            "contains a malformed private key",
        ),
    ],
    # The contents differ in each process.
    ids=[
        "empty",
        "junk",
        "of another certificate",
        "a certificate",
        "encrypted",
        "encrypted, traditional",
        "cut off",
        "malformed",
    ],
)
def test_a_key_that_cannot_be_used(tmp_path: Path, content: bytes, reason: str) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_bytes(content)
    certificate.write_bytes(LEAF.certificate_pem())
    error = refusal(lambda: identity_in_files(str(key), str(certificate), None))
    assert error.reason.startswith(reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LEAF.key_pem(), "contains no certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n",
            "contains a malformed certificate",
        ),
    ],
    ids=["a key", "malformed"],
)
def test_a_certificate_that_cannot_be_used(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "cert.pem"
    path.write_bytes(content)
    error = refusal(lambda: read_certificates(str(path)))
    assert (error.path, error.reason) == (str(path), reason)


@pytest.mark.parametrize("path", ["none.pem", "with\nlines.pem", "NUL\0.pem"])
def test_a_file_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    refusal(lambda: read_pem(str(tmp_path / path)))


def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    error = refusal(lambda: read_pem("key.pem"))
    assert (str(error), error.allowed) == (
        "key.pem: Permission denied",
        "a file that the user who serves may read",
    )


def test_a_directory_of_pairs_in_one_or_two_files(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    OTHER.write(below / "both.pem")
    (tmp_path / "a-key.pem").write_bytes(LEAF.key_pem())
    (tmp_path / "b-cert.pem").write_bytes(LEAF.certificate_pem())
    (tmp_path / "c-chain.pem").write_bytes(ROOT.certificate_pem() + INTERMEDIATE.certificate_pem())
    (tmp_path / "not-read.txt").write_text("junk")
    leaf, other = identities_in_directory(str(tmp_path))
    assert (leaf.path, leaf.certificate) == (str(tmp_path / "b-cert.pem"), LEAF.certificate)
    assert list(leaf.chain) == [INTERMEDIATE.certificate, ROOT.certificate]
    assert (other.path, list(other.chain)) == (str(below / "both.pem"), [])
    assert by_name([leaf, other]) == {"localhost": leaf, "*.example.org": leaf, "other": other}


def test_the_newest_certificate_that_is_valid_already_is_used(tmp_path: Path) -> None:
    for number, first in enumerate([-9, -1, -5, 1]):
        Issued(serial=number + 1, days=(first, 9)).write(tmp_path / f"{number}.pem")
    chosen = by_name(identities_in_directory(str(tmp_path)))["localhost"]
    assert chosen.certificate.serial_number == 2


def test_a_renewed_certificate_for_the_same_key(tmp_path: Path) -> None:
    first = Issued(serial=1, days=(-5, 1))
    first.write(tmp_path / "old.pem")
    renewed = Issued(serial=2, key=first.key)
    (tmp_path / "new.pem").write_bytes(renewed.certificate_pem())
    chosen = by_name(identities_in_directory(str(tmp_path)))["localhost"]
    assert chosen.certificate.serial_number == 2


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no *.pem file in it"),
        ({"a.pem": b"junk"}, "contains nothing in PEM form"),
        ({"a.pem": OTHER.certificate_pem()}, "no certificate with its private key"),
        ({"a.pem": OTHER.certificate_pem() + LEAF.key_pem()}, "no certificate for its private key"),
        # One good pair does not excuse another file.
        (
            {"a.pem": OTHER.certificate_pem() + OTHER.key_pem(), "b.pem": LEAF.key_pem()},
            "no certificate for its private key",
        ),
        (
            {"a.pem": OTHER.certificate_pem() + OTHER.key_pem(), "b.pem": b"junk"},
            "contains nothing in PEM form",
        ),
    ],
    ids=["empty", "junk", "no key", "no pair", "a pair and a key", "a pair and junk"],
)
def test_a_directory_that_cannot_be_used(
    tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert refusal(lambda: identities_in_directory(str(tmp_path))).reason.startswith(reason)


def test_no_directory(tmp_path: Path) -> None:
    error = refusal(lambda: identities_in_directory(str(tmp_path / "none")))
    assert error.reason == "No such file or directory"


def test_settings_take_a_version_by_its_value() -> None:
    assert TLSSettings(min_version="1.3").min_version == MinVersion.TLS_1_3
    with pytest.raises(ValueError, match=r"min_version='1.1'; allowed: 1.2, 1.3"):
        TLSSettings(min_version="1.1")
