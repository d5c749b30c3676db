"""The exit code of a program that has to give up while it runs."""

from __future__ import annotations

import atexit
import os
import sys


def exit_with_failure() -> None:
    """Let this process exit with 1 when it ends.

    twistd and twist exit with 0 whenever their reactor stops without a signal, and
    there is no interface to change that.
    """
    atexit.register(_fail)


def _fail() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)
