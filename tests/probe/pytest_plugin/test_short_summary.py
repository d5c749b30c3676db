from __future__ import annotations

import sys
from typing import Any

import pytest

from echoproto.probe.pytest_plugin.short_summary import shorten

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

CHECKED = "a:1 does not echo this conversation:\n    send ff\nand more"
SUMMARIES = {CHECKED: "a:1: truncated: send ff"}


def short(error: BaseException) -> str:
    """What pytest has of this error in its short summary."""
    with pytest.raises(BaseException) as raised:  # noqa: PT011  # of any type
        raise error
    shown: Any = raised.getrepr()
    traceback = str(shown.reprtraceback)
    report = pytest.TestReport("t", ("", 0, ""), {}, "failed", shown, "call")
    shorten(report, error, SUMMARIES)
    assert str(shown.reprtraceback) == traceback
    return str(shown.reprcrash.message)


def noted(error: Any, note: str) -> BaseException:
    # As Hypothesis does; Python has add_note since 3.11.
    error.__notes__ = [note]
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AssertionError(CHECKED), "a:1: truncated: send ff"),
        (noted(AssertionError(CHECKED), "Failing test case:\n  x"), "a:1: truncated: send ff"),
        (ExceptionGroup("one", [AssertionError(CHECKED)]), "a:1: truncated: send ff"),
        (
            ExceptionGroup("", [KeyError(), ExceptionGroup("", [AssertionError(CHECKED)])]),
            "2 failures: KeyError; a:1: truncated: send ff",
        ),
        (
            ExceptionGroup("", [AssertionError(CHECKED), ValueError("x\ny")]),
            "2 failures: a:1: truncated: send ff; ValueError: x",
        ),
    ],
)
def test_a_failed_check_is_one_line(error: BaseException, line: str) -> None:
    assert short(error) == line


def test_many_are_one_line_too() -> None:
    line = short(ExceptionGroup("", [AssertionError(CHECKED)] * 100))
    assert line.startswith("100 failures: a:1: truncated")
    assert len(line) == 200
    assert line.endswith("...")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AssertionError("other\nlines"), "AssertionError: other\nlines"),
        # Not what the check raised.
        (ValueError(CHECKED), f"ValueError: {CHECKED}"),
        (ExceptionGroup("two", [KeyError("a"), KeyError("b")]), "ExceptionGroup: two*"),
    ],
)
def test_other_failures_stay_as_they_are(error: BaseException, line: str) -> None:
    # Before Python 3.11, groups are of the package exceptiongroup.
    assert short(error).removeprefix("exceptiongroup.").startswith(line.rstrip("*"))


def test_what_is_no_exception_of_a_test_stays() -> None:
    for text in ("text", ("file", 1, "skipped"), None):
        report = pytest.TestReport("t", ("", 0, ""), {}, "failed", text, "call")
        shorten(report, AssertionError(CHECKED), SUMMARIES)
        assert report.longrepr == text
