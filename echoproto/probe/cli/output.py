"""Files that a command writes while it runs, and a standard output that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TextIO

import click

__all__ = ["LineFile", "is_of_output", "open_file", "silence_stdout"]

# What write(2) fails with on a file: no space, over a quota or a limit, a device that failed or
# has gone, such as a terminal.
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def is_of_output(error: Exception) -> bool:
    """Return whether an error is that of a write to standard output."""
    return isinstance(error, OSError) and error.errno in _OF_OUTPUT


def silence_stdout() -> None:
    """Drop what is still to be written, which the interpreter would try at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_file(option: str, path: Path) -> TextIO:
    """Open a file to write to.

    Args:
        option: the option that names it.
        path: where it is.

    Raises:
        ClickException: if it cannot be opened.
    """
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{option} {path}: {error.strerror}") from None


class LineFile:
    """A file that gets a line at a time, and whose error does not end the command.

    Args:
        option: the option that names it.
        path: where it is.

    Raises:
        ClickException: if it cannot be opened.

    Attributes:
        error: why nothing is written any more, in one line; empty if all has been written.
    """

    def __init__(self, option: str, path: Path) -> None:
        self.error = ""
        self._file = open_file(option, path)
        self._name = f"{option} {path}"

    def write(self, line: str) -> None:
        """Write a line, unless one has failed before."""
        if self.error:
            return
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self.error = f"{self._name}: {error.strerror}"

    def close(self) -> None:
        """Close the file, which tries once more to write what failed."""
        with contextlib.suppress(OSError):
            self._file.close()
