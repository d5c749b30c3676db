"""Exit codes that no campaign decides on."""

from __future__ import annotations

__all__ = ["CANNOT_TEST", "INTERRUPTED"]

CANNOT_TEST = 2
"""The exit code for invalid arguments, no connection, or a target that is not an echo."""

INTERRUPTED = 130
"""The exit code after Ctrl-C."""
