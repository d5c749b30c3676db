"""What pytest has of a failed check in its short summary, and in the attribute of the JUnit file.

In CI (with the variable ``CI``) and with ``-vv``, pytest prints there the whole message of the
exception, after the failure has shown it already. pytest imports this module in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import pytest

__all__ = ["shorten"]

_MOST = 200

if sys.version_info < (3, 11):
    # pytest needs it there.
    from exceptiongroup import BaseExceptionGroup


def shorten(report: pytest.TestReport, error: BaseException, summaries: Mapping[str, str]) -> None:
    """Have one line in the short summary of pytest, if a failed check is what ended the test.

    Args:
        report: of the test; its other parts stay as they are.
        error: what the test raised: a failed check, or a group with at least one.
        summaries: the line of each failed check, by its message.
    """
    crash = getattr(report.longrepr, "reprcrash", None)
    errors = list(_each(error))
    if crash is None or not any(_is_check(each, summaries) for each in errors):
        return
    lines = "; ".join(_line(each, summaries) for each in errors)
    if len(errors) > 1:
        lines = f"{len(errors)} failures: {lines}"
    crash.message = lines if len(lines) <= _MOST else f"{lines[: _MOST - 3]}..."


def _each(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for member in error.exceptions:
        yield from _each(member)


def _is_check(error: BaseException, summaries: Mapping[str, str]) -> bool:
    return isinstance(error, AssertionError) and str(error) in summaries


def _line(error: BaseException, summaries: Mapping[str, str]) -> str:
    if _is_check(error, summaries):
        return summaries[str(error)]
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}".removesuffix(": ")
