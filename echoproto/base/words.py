"""Numbers with their nouns, for log lines."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 connection``, ``2 connections``.

    :param number: how many.
    :param noun: in the singular; its plural ends in ``s``.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
