"""Which of a test's parameters are tried in every run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_quick(values: Iterable[Any]) -> list[Any]:
    """Return the values, all but the first marked slow: each starts processes of its own.

    For values of one mechanism, which unit tests try one by one as well.
    """
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]
