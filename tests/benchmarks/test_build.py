"""Programs are compiled once a source, and a compiler's refusal is passed on."""

import shutil
import ssl
from pathlib import Path

import pytest

from benchmarks import build

PROGRAM = "int main(void) { return 7; }\n"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.usefixtures("cc")
def test_the_same_source_is_compiled_once(sources: Path) -> None:
    (sources / "seven.c").write_text(PROGRAM)
    first = build.compiled("seven.c")
    made = first.stat().st_mtime_ns
    assert build.compiled("seven.c") == first
    assert first.stat().st_mtime_ns == made
    (sources / "seven.c").write_text(PROGRAM.replace("7", "8"))
    assert build.compiled("seven.c") != first


@pytest.mark.usefixtures("cc")
def test_the_compiler_says_what_is_wrong(sources: Path) -> None:
    (sources / "bad.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(build.BuildError, match=r"(?s)cc .*bad\.c failed:.*nothing"):
        build.compiled("bad.c")
    assert not [path for path in (sources / "cache").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("cc")
def test_options_make_another_program(sources: Path) -> None:
    (sources / "seven.c").write_text(PROGRAM)
    assert build.compiled("seven.c", "-lm") != build.compiled("seven.c")


def test_what_tls_needs(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"cc": "cc"}.get)
    assert build.tls_missing() == "openssl is not installed"
    monkeypatch.setattr(shutil, "which", lambda command: command)
    (sources / "load.c").write_text("#include <no/such/header.h>\n")
    assert build.tls_missing() == (
        "the load generator needs OpenSSL's headers (Debian: libssl-dev)"
    )


def test_the_certificate_is_made_once(sources: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(build.certificate())
    made = build.certificate().read_bytes()
    assert build.certificate().read_bytes() == made
    assert [path.name for path in (sources / "cache").rglob("*.pem")] == [build.certificate().name]


def test_a_missing_compiler(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "seven.c").write_text(PROGRAM)
    monkeypatch.setattr(shutil, "which", lambda command: None)
    assert build.compiler_missing("seven.c") == "cc is not installed"
    assert build.compiler_missing("echo.go") == "go is not installed"
    with pytest.raises(build.BuildError, match="cc is not installed"):
        build.compiled("seven.c")
