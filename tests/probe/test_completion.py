"""Completion of command lines in bash, zsh and fish, as docs/probe.rst says to switch it on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path as File

import pytest
from click.shell_completion import ShellComplete, get_completion_class

from echoproto.probe.cli.main import cli

SHELLS = ("bash", "zsh", "fish")

BASH = """
eval "$(_ECHOPROTO_COMPLETE=bash_source echoproto)"
complete -p echoproto
COMP_WORDS=(echoproto replay ab) COMP_CWORD=2
_echoproto_completion echoproto
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def folder(tmp_path: File) -> File:
    """A folder with a saved failure."""
    failures = tmp_path / ".echoproto" / "failures"
    failures.mkdir(parents=True)
    (failures / "abcd0123.txt").write_text("# truncated: gone\nsend ff\n")
    return tmp_path


def environment() -> dict[str, str]:
    bin_ = str(File(sys.executable).parent)
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}


def completion(shell: str) -> ShellComplete:
    made = get_completion_class(shell)
    assert made is not None
    return made(cli, {}, "echoproto", "_ECHOPROTO_COMPLETE")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell(shell: str) -> None:
    script = completion(shell).source()
    assert f"_ECHOPROTO_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "at", "offered"),
    [
        ("echoproto re", 1, "replay"),
        ("echoproto relay [::1]:0 --fault xo", 4, "xonxoff"),
        ("echoproto fuzz --any", 2, "--any-target"),
        ("echoproto fuzz a:7 --exclude nev", 4, "never-closed"),
        ("echoproto fuzz a:7 --case e-01", 4, "E-011"),
        ("echoproto replay ab", 2, "abcd0123"),
        ("echoproto replay a:7 ab", 3, "abcd0123"),
        ("echoproto fuzz a:7 --ca ", 4, "file"),
    ],
)
def test_what_is_offered(
    shell: str,
    words: str,
    at: int,
    offered: str,
    folder: File,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COMP_WORDS", words)
    # fish passes the word that is begun.
    monkeypatch.setenv("COMP_CWORD", words.split(" ")[at] if shell == "fish" else str(at))
    answers = completion(shell).complete().replace(",", " ").split()
    assert offered in answers


def test_in_bash_itself(folder: File) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH],
        env=environment(),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    first, *replies = done.stdout.splitlines()
    assert "echoproto" in first
    assert replies == ["abcd0123"]


def test_in_fish_itself(folder: File) -> None:
    if shutil.which("fish") is None:
        pytest.skip("needs fish")
    script = "_ECHOPROTO_COMPLETE=fish_source echoproto | source; complete -C 'echoproto replay ab'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env={**environment(), "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["abcd0123\ttruncated: gone"]
