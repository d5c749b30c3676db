from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import echoproto.probe

HEAVY = ("hypothesis", "click", "rich", "twisted", "ssl")


@pytest.mark.parametrize("name", echoproto.probe.__all__)
def test_each_public_name_imports(name: str) -> None:
    value = getattr(echoproto.probe, name)
    assert name in dir(echoproto.probe)
    home = getattr(value, "__module__", "")
    if home.startswith("echoproto"):
        assert name in importlib.import_module(home).__all__


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ImportError, match="Conversaton"):
        exec("from echoproto.probe import Conversaton")


def imported(statement: str) -> set[str]:
    """The expensive modules that a new interpreter imports."""
    code = f"import sys; {statement}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_import_of_the_package_is_cheap() -> None:
    assert imported("import echoproto.probe") == set()


def test_a_script_needs_no_hypothesis() -> None:
    names = "Conversation, Target, catalogue, preflight, run"
    assert imported(f"from echoproto.probe import {names}") <= {"ssl"}
