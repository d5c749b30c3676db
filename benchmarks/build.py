"""Makes what a run needs in the user's cache: compiled programs, and the certificate for TLS."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent

#: The compilers by the suffix of the source, with their options before ``-o``.
COMPILERS = {".c": ("cc", "-O2", "-Wall", "-Wextra"), ".go": ("go", "build")}


#: What makes the load generator one for TLS.
TLS_OPTIONS = ("-DTLS", "-lssl", "-lcrypto")

#: All peers have the same key: ECDSA, P-256.
CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    *("-nodes", "-days", "3650", "-subj", "/CN=localhost"),
)


class BuildError(Exception):
    """A program that makes something is missing or failed; the message says which."""


def compiler_missing(source: str) -> str | None:
    """Return why a source, relative to this folder, cannot be compiled here; None if it can."""
    command = COMPILERS[Path(source).suffix][0]
    return None if shutil.which(command) else f"{command} is not installed"


def tls_missing() -> str | None:
    """Return why no workload can run over TLS here; None if they can."""
    if not shutil.which("openssl"):
        return "openssl is not installed"
    try:
        compiled("load.c", *TLS_OPTIONS)
    except BuildError:
        return "the load generator needs OpenSSL's headers (Debian: libssl-dev)"
    return None


def certificate() -> Path:
    """
    Return a file with a private key and its certificate; make it if there is none.

    Raises:
        BuildError: openssl failed.
    """
    folder = _cache()
    pem = folder / "key-and-certificate.pem"
    if not pem.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            key, both = Path(scratch) / "key.pem", Path(scratch) / "both.pem"
            _run([*CERTIFICATE, "-keyout", str(key), "-out", str(both)])
            with both.open("ab") as file:
                file.write(key.read_bytes())
            both.rename(pem)
    return pem


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "echoproto-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{result.stderr}")


def compiled(source: str, *options: str) -> Path:
    """
    Return the program of a source, relative to this folder; compile it if it has changed.

    Arguments:
        options: what the compiler gets after the source.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    text = (HERE / source).read_bytes()
    command = COMPILERS[Path(source).suffix]
    missing = compiler_missing(source)
    if missing:
        raise BuildError(missing)
    digest = hashlib.sha256(" ".join((*command, *options)).encode() + text).hexdigest()[:16]
    folder = _cache()
    program = folder / f"{Path(source).stem}-{digest}"
    if program.exists():
        return program
    # It is renamed when it is complete, so that concurrent runs never see half a program.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "program"
        _run([*command, "-o", str(made), str(HERE / source), *options])
        made.rename(program)
    return program
