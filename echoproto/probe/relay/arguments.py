"""The arguments of faults: times, sizes, counts, bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = [
    "BYTES",
    "COUNT",
    "MARK",
    "OFFSET",
    "ONE_IN",
    "REPLACEMENT",
    "SIZE",
    "SLICES",
    "TIME",
    "ArgumentError",
    "Kind",
    "T",
    "rate",
]

T = TypeVar("T")

_MOST_MS = 86_400_000.0
_MOST_BYTES = 2**40
_MOST = 10_000_000

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_SIZE = re.compile(r"(\d+)(k|Ki|M|Mi|)")
_UNITS = {"": 1, "k": 1000, "Ki": 1024, "M": 1000**2, "Mi": 1024**2}
_RATE = re.compile(r"(\d+(?:\.\d+)?)%")


class ArgumentError(ValueError):
    """An argument is not of the right form; the message says what is allowed."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of argument.

    Attributes:
        form: how it is called in a usage line.
        parse: reads it; raises :class:`ArgumentError`.
    """

    form: str
    parse: Callable[[str], T]


def rate(text: str) -> float:
    """Read a rate: ``10%`` is 0.1.

    Raises:
        ArgumentError: if it is none.
    """
    match = _RATE.fullmatch(text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ArgumentError(f"{text!r} is not a rate; must be more than 0% and at most 100%")
    return float(match[1]) / 100


def _time(text: str) -> float:
    match = _TIME.fullmatch(text)
    ms = float(match[1]) * (1 if match[2] == "ms" else 1000) if match else 0.0
    if not 0 < ms <= _MOST_MS:
        raise ArgumentError(f"{text!r} is not a time; must be 75ms or 2s, say, and at most a day")
    return ms


def _bytes_at_least(least: int, text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[match[2]] if match else -1
    if not least <= size <= _MOST_BYTES:
        raise ArgumentError(
            f"{text!r} is not a number of bytes; must be 4096, 64Ki, 100k or 16M, say, "
            f"and {least} or more"
        )
    return size


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,8}", text) or not 1 <= int(text) <= _MOST:
        raise ArgumentError(f"{text!r} is not a number; must be a whole one, 1 to {_MOST}")
    return int(text)


def _hex(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if not data:
        raise ArgumentError(f"{text!r} is not bytes; must be in hexadecimal, as 0d0a")
    return data


def _replacement(text: str) -> tuple[bytes, bytes]:
    old, comma, new = text.partition(",")
    if not comma:
        raise ArgumentError(f"{text!r} is not OLD,NEW; must be in hexadecimal, as 0d0a,0a")
    return _hex(old), _hex(new) if new else b""


def _one_in(text: str) -> tuple[int, float]:
    count, comma, time = text.partition(",")
    if not comma:
        raise ArgumentError(f"{text!r} is not N,TIME; must be 10,200ms, say")
    return _count(count), _time(time)


def _mark(text: str) -> tuple[bytes, float]:
    data, comma, time = text.partition(",")
    return _hex(data), _time(time) if comma else 200.0


def _slices(text: str) -> tuple[int, float]:
    size, comma, time = text.partition(",")
    return _bytes_at_least(1, size), _time(time) if comma else 1.0


TIME = Kind("TIME", _time)
"""In milliseconds."""

SIZE = Kind("BYTES", lambda text: _bytes_at_least(1, text))

OFFSET = Kind("OFFSET", lambda text: _bytes_at_least(0, text))
"""How many bytes come before."""

COUNT = Kind("N", _count)

BYTES = Kind("HEX", _hex)

MARK = Kind("HEX[,TIME]", _mark)
"""Bytes, and milliseconds: 200 unless given."""

REPLACEMENT = Kind("OLD,NEW", _replacement)
"""In hexadecimal."""

ONE_IN = Kind("N,TIME", _one_in)
"""One in how many, and milliseconds."""

SLICES = Kind("BYTES[,TIME]", _slices)
"""A size, and milliseconds: 1 unless given."""
