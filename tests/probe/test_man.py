from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from echoproto.probe.cli.main import COMMANDS, load

MAN = Path(__file__).parents[2] / "docs" / "man"


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, folder / "make.py", *options], capture_output=True, text=True
    )


def test_the_page_is_that_of_the_commands() -> None:
    done = make(MAN, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_page_that_is_not_is_noticed(tmp_path: Path) -> None:
    shutil.copy(MAN / "make.py", tmp_path)
    page = (MAN / "echoproto.1").read_text().replace("made from ", "made from 0")
    (tmp_path / "echoproto.1").write_text(page)
    done = make(tmp_path, "--check")
    assert done.returncode == 1
    assert done.stderr == "echoproto.1 is not up to date: run python docs/man/make.py\n"


def test_it_is_made_of_every_command_and_option(tmp_path: Path) -> None:
    pytest.importorskip("docutils")
    shutil.copy(MAN / "make.py", tmp_path)
    done = make(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert make(tmp_path, "--check").returncode == 0
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    shown = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", tmp_path / "echoproto.1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stderr == ""
    words = shown.stdout.replace(",", " ").split()
    for name in COMMANDS:
        assert name.upper() in words
        for option in load(name).params:
            if isinstance(option, click.Option):
                assert set(option.opts) <= set(words)
