"""What the package offers to its importers."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from zope.interface.verify import verifyObject

import echoproto


def python(code: str) -> str:
    """Run Python in a process of its own; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


IMPORT_ALL = """
import sys
import echoproto
for name in echoproto.__all__:
    getattr(echoproto, name)
import echoproto.command.tap
print("twisted.internet.reactor" in sys.modules)
"""

LIST_PLUGINS = """
import sys
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print([each.tapname for each in getPlugins(IServiceMaker)].count("echo"))
print("twisted.internet.reactor" in sys.modules)
print("echoproto" in sys.modules)
"""


def test_importing_installs_no_reactor() -> None:
    assert python(IMPORT_ALL) == "False"


def test_listing_plugins_imports_nothing_of_ours() -> None:
    assert python(LIST_PLUGINS).split() == ["1", "False", "False"]


def test_the_public_names_are_there_and_sorted() -> None:
    assert sorted(echoproto.__all__) == echoproto.__all__
    for name in echoproto.__all__:
        assert getattr(echoproto, name).__doc__


def test_the_version() -> None:
    assert echoproto.__version__ == importlib.metadata.version("echoproto")


def test_every_public_name_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.rst").read_text()
    for name in [*echoproto.__all__, "__version__"]:
        assert re.search(rf":: echoproto\.{name}$", page, re.MULTILINE), name


TYPO = "from echoproto import EchoServise, EchoService\nreveal_type(EchoService)\n"


@pytest.mark.slow
def test_a_misspelt_import_is_a_type_error(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text(TYPO)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", str(tmp_path / "typo.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert 'Module "echoproto" has no attribute "EchoServise"' in done.stdout
    assert "echoproto.service.EchoService" in done.stdout


def test_the_plugin() -> None:
    maker: Any
    (maker,) = (each for each in getPlugins(IServiceMaker) if each.tapname == "echo")
    verifyObject(IServiceMaker, maker)
    verifyObject(IPlugin, maker)
    assert maker.module == "echoproto.command.tap"
    assert "RFC 862" in maker.description
    from echoproto.command import tap

    assert maker.options is tap.Options
    assert maker.makeService is tap.makeService
