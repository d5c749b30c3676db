"""What belongs to one test: made when it begins, gone when it has ended.

pytest imports this module in every run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["RunningTest", "begin", "current"]


class RunningTest:
    """The memory of one test.

    Attributes:
        ignored_stalls: how many stalls did not recur, and were no failures.
        summaries: the message of each failed check, in one line, by the message.
    """

    def __init__(self) -> None:
        self.ignored_stalls = 0
        self.summaries: dict[str, str] = {}
        self._kept: dict[object, Any] = {}

    def keep(self, key: object, make: Callable[[], Any]) -> Any:
        """Return what was made for ``key``; the first time, make it."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


_running: list[RunningTest] = []


@contextlib.contextmanager
def begin() -> Iterator[None]:
    """Run a test, to the end of the block. A test may run another pytest."""
    _running.append(RunningTest())
    try:
        yield
    finally:
        _running.pop()


def current() -> RunningTest | None:
    """Return the test that is running; None outside of pytest."""
    return _running[-1] if _running else None
