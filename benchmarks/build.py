"""Compiles the load generator and some peers into the user's cache, once per source."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

#: The compilers by the suffix of the source, with their options before ``-o``.
COMPILERS = {".c": ("cc", "-O2", "-Wall", "-Wextra"), ".go": ("go", "build")}


class BuildError(Exception):
    """The compiler is missing or failed; the message says which."""


def compiler_missing(source: str) -> str | None:
    """Return why a source, relative to this folder, cannot be compiled here; None if it can."""
    command = COMPILERS[Path(source).suffix][0]
    return None if shutil.which(command) else f"{command} is not installed"


def compiled(source: str) -> Path:
    """
    Return the program of a source, relative to this folder; compile it if it has changed.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    text = (HERE / source).read_bytes()
    command = COMPILERS[Path(source).suffix]
    missing = compiler_missing(source)
    if missing:
        raise BuildError(missing)
    digest = hashlib.sha256(" ".join(command).encode() + text).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "echoproto-benchmarks"
    program = folder / f"{Path(source).stem}-{digest}"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    # It is renamed when it is complete, so that concurrent runs never see half a program.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "program"
        result = subprocess.run(
            [*command, "-o", str(made), str(HERE / source)], capture_output=True, text=True
        )
        if result.returncode:
            raise BuildError(f"{' '.join(command)} {source} failed:\n{result.stderr}")
        made.rename(program)
    return program
