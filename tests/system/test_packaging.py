"""Each way of installing gives a ``twistd echo`` that serves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.system.server import running, say

pytestmark = [pytest.mark.slow, pytest.mark.waits, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
PARTS = [
    "pyproject.toml",
    "README.rst",
    "CHANGELOG.rst",
    "LICENSE",
    "echoproto",
    "twisted",
    "tests",
    "docs",
    "benchmarks",
]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project as it would be cloned."""
    copy = tmp_path / "project"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "_build", "dropin.cache")
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=ignore)
        elif source.exists():
            shutil.copy(source, copy / part)
    return copy


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist of the project."""
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", dist, PROJECT)
    return dist


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_what_is_in_the_wheel(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = wheel.namelist()
    assert "echoproto/py.typed" in names
    assert "echoproto/core/protocol.py" in names
    # What the status serves is no module.
    page = {f"echoproto/status/page/{name}" for name in ("index.html", "page.css", "page.js")}
    assert page <= set(names)
    # Either of these would hide Twisted, or its plugins.
    assert "twisted/__init__.py" not in names
    assert "twisted/plugins/__init__.py" not in names
    assert "twisted/plugins/echoproto_plugin.py" in names
    tops = {name.split("/")[0] for name in names}
    own = {top for top in tops if not top.endswith((".dist-info", ".data"))}
    assert own == {"echoproto", "twisted"}
    # pip puts it where man(1) looks for the pages of the programs in bin/.
    assert any(name.endswith(".data/data/share/man/man1/echoproto.1") for name in names)


def test_what_is_in_the_sdist(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.rst", "LICENSE", "pyproject.toml", "echoproto/py.typed"} <= names
    assert {"tests/core/test_protocol.py", "docs/index.rst"} <= names


@pytest.mark.parametrize("way", ["tree", "editable tree", "wheel", "sdist"])
def test_installed(way: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if way.endswith("tree"):
        tree: Path = request.getfixturevalue("tree")
        what = ["-e", str(tree)] if way.startswith("editable") else [str(tree)]
    else:
        built: Path = request.getfixturevalue("built")
        what = [str(only(built, "*.whl" if way == "wheel" else "*.tar.gz"))]
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    bin_ = environment / "bin"
    run(bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", *what)

    # From a folder that holds nothing, so that nothing is found by chance.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for tool in ("twistd", "twist"):
        assert "echo " in run(bin_ / tool, "--help", cwd=elsewhere)
        assert "--drain-timeout" in run(bin_ / tool, "echo", "--help", cwd=elsewhere)
    installed = run(bin_ / "pip", "list", "--format=freeze", cwd=elsewhere).lower()
    for other in ("hypothesis", "click", "rich", "pytest"):
        assert f"\n{other}==" not in installed

    with running(
        [str(bin_ / "twistd"), "-n", "--pidfile=", "echo", "--port", "0"], cwd=elsewhere
    ) as server:
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        server.signal()
        assert server.wait() == -signal.SIGTERM
