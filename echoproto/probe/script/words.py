"""Numbers with their nouns, for everything that the probe says."""

from __future__ import annotations

__all__ = ["plural", "shorten"]


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 byte``, ``2 bytes``.

    Args:
        count: how many.
        noun: in the singular; its plural ends in ``s``.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shorten(text: str, limit: int = 100) -> str:
    """Return ``text``; if it is longer than ``limit`` characters, its beginning and end."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
