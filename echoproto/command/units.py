"""The numbers of options: their form, their units and their bounds."""

from __future__ import annotations

import re
from collections.abc import Callable

from echoproto.base.bounds import MOST_SECONDS
from echoproto.command.errors import bad

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
# As in HAProxy and nginx, and in IEC 80000-13 with its i.
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

# float() and int() also accept 1_0, nan and digits of other scripts, and int() rejects
# thousands of digits.
_WHOLE = re.compile("[+-]?[0-9]{1,4000}", re.ASCII)
_DURATION = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(ms|[smhd])?", re.ASCII)
_SIZE = re.compile(r"\+?([0-9]{1,4000})(?:([kmgt]?)|([kmgt])iB?)", re.ASCII | re.IGNORECASE)


def whole_number(option: str, allowed: str, least: int, most: int) -> Callable[[str], int]:
    """Return what parses the whole number of an option.

    :param option: its name, without dashes.
    :param allowed: which values are valid, for the error message.
    :param least: the lower bound.
    :param most: the upper bound.
    """

    def parse(value: str) -> int:
        if not _WHOLE.fullmatch(value):
            raise bad(option, value, "not a whole number", allowed)
        number = int(value)
        if not least <= number <= most:
            raise bad(option, value, "out of range", allowed)
        return number

    return parse


def seconds(
    option: str, zero: str = "", least: float = 0.0, most: float = MOST_SECONDS
) -> Callable[[str], float]:
    """Return what parses the duration of an option: seconds, or a number with a unit.

    :param option: its name, without dashes.
    :param zero: what 0 means, for the error message; 0 is valid in any case.
    :param least: the lower bound of all others, in seconds.
    :param most: the upper bound, in seconds.
    """
    allowed = f"{least:g} to {most:.0f} seconds, or with a unit, as 500ms, 90s, 5m, 1h"
    allowed += f"; 0 {zero}" if zero else ""

    def parse(value: str) -> float:
        match = _DURATION.fullmatch(value)
        if match is None:
            raise bad(option, value, "not a duration", allowed)
        number = float(match[1]) * _SECONDS[match[2] or "s"]
        # A product that is not exact must not be out of range.
        if number and not least <= round(number, 6) <= most:
            raise bad(option, value, "out of range", allowed)
        return number

    return parse


def size(option: str, zero: str, most: int) -> Callable[[str], int]:
    """Return what parses the number of bytes of an option, with or without a unit.

    :param option: its name, without dashes.
    :param zero: what 0 means, for the error message.
    :param most: the upper bound.
    """
    allowed = f"1 to {most} bytes, or with a unit, as 64K or 64KiB, 1M, 1G (K is 1024); 0 {zero}"

    def parse(value: str) -> int:
        match = _SIZE.fullmatch(value)
        if match is None:
            raise bad(option, value, "not a number of bytes", allowed)
        number = int(match[1]) * _BYTES[(match[2] or match[3] or "").lower()]
        if number > most:
            raise bad(option, value, "out of range", allowed)
        return number

    return parse
