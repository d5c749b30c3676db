"""SIGTERM ends a command like Ctrl-C: with its report and files, and an exit code of its own."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from echoproto.probe.cli.exit_codes import INTERRUPTED

__all__ = ["TerminatedError", "exit_code", "sigterm_interrupts"]


class TerminatedError(KeyboardInterrupt):
    """SIGTERM was received."""

    exit_code = 128 + signal.SIGTERM


def exit_code(stop: BaseException | None) -> int:
    """Return the exit code of a command that was stopped: 130 for SIGINT, 143 for SIGTERM.

    Args:
        stop: the exception that stopped it.
    """
    return int(getattr(stop, "exit_code", INTERRUPTED))


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise :class:`TerminatedError` on SIGTERM, to the end of the block.

    Only the main thread can set a handler (signal(7)); elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(_: int, __: FrameType | None) -> NoReturn:
    raise TerminatedError
