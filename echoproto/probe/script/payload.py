"""The text form of bytes: hexadecimal in several short forms, or text in quotes.

Both are read; what is written is always hexadecimal, so that one payload has one form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from echoproto.probe.script.words import shorten

__all__ = [
    "MAX_PAYLOAD",
    "ConversationError",
    "format_payload",
    "parse_payload",
    "split_unquoted",
]

MAX_PAYLOAD = 64 * 1024 * 1024

# A run or a range is written short from this many bytes on; below, plain hex reads better.
_MIN_RUN = 4

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf'\s*(?:\((?P<group>(?:[^()"]|{_QUOTED})*)\)\*(?P<times>[0-9]{{1,40}})'
    r"|(?P<first>[0-9a-fA-F]{2})\.\.(?P<last>[0-9a-fA-F]{2})"
    r"|(?P<byte>[0-9a-fA-F]{2})\*(?P<run>[0-9]{1,40})"
    r"|(?P<bytes>(?:[0-9a-fA-F]{2})+)"
    rf"|(?P<text>{_QUOTED})(?:\*(?P<repeat>[0-9]{{1,40}}))?)(?=\s|$)"
)
_FORMS = (
    "allowed are bytes in hexadecimal such as 0d ff, 00*4097, 00..ff, (0d 0a)*3, "
    r'or text such as "abc\r\n"'
)

_ESCAPE = re.compile(r"\\x(?P<hex>[0-9a-fA-F]{2})|\\(?P<letter>.)|(?P<plain>[^\\]+)")
_LETTERS = {
    "r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v",
    "e": b"\x1b", "\\": b"\\", '"': b'"',
}  # fmt: skip


class ConversationError(ValueError):
    """The text or the steps are not a conversation; the message is one line."""


def split_unquoted(text: str, separator: str) -> list[str]:
    """Split ``text`` where ``separator``, a regular expression, matches outside of quotes.

    Raises:
        ConversationError: if a quote is not closed.
    """
    # Of the same length, so that the places are those of the text.
    masked = re.sub(_QUOTED, lambda quoted: "_" * len(quoted[0]), text)
    if '"' in masked:
        open_ = shorten(text[masked.index('"') :], 40)
        raise ConversationError(f"{open_!r} has no closing quote")
    parts, start = [], 0
    for match in re.finditer(separator, masked):
        parts.append(text[start : match.start()])
        start = match.end()
    return [*parts, text[start:]]


def parse_payload(text: str) -> bytes:
    """Return bytes from their text form, e.g. ``0d ff 00*4097 00..ff (0d 0a)*3 "abc\\r\\n"``.

    Raises:
        ConversationError: for any other word, or more than ``MAX_PAYLOAD`` bytes.
    """
    return b"".join(_parts(text.strip()))


def _parts(text: str) -> Iterator[bytes]:
    total = position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            word = shorten(text[position:].strip(), 40)
            raise ConversationError(f"{word!r} is not a payload; {_FORMS}")
        position = match.end()
        times = 1
        if match["first"]:
            unit = bytes(range(int(match["first"], 16), int(match["last"], 16) + 1))
            if not unit:
                raise ConversationError(f"the range {match[0].strip()} runs backwards")
        elif match["byte"]:
            unit, times = bytes.fromhex(match["byte"]), int(match["run"])
        elif match["bytes"]:
            unit = bytes.fromhex(match["bytes"])
        elif match["text"]:
            unit, times = _unescape(match["text"][1:-1]), int(match["repeat"] or 1)
        else:
            unit, times = parse_payload(match["group"]), int(match["times"])
        total += len(unit) * times
        if total > MAX_PAYLOAD:
            raise ConversationError(f"more than {MAX_PAYLOAD} bytes in one send")
        yield unit * times


def _unescape(text: str) -> bytes:
    """Return the bytes of a text less its quotes: UTF-8, with escapes as in Python and C.

    Raises:
        ConversationError: for an unknown escape.
    """
    found = bytearray()
    for match in _ESCAPE.finditer(text):
        if match["plain"]:
            # Bytes of the command line that are no UTF-8 are surrogates in Python (PEP 383).
            found += match["plain"].encode("utf-8", "surrogateescape")
        elif match["hex"]:
            found.append(int(match["hex"], 16))
        elif (letter := match["letter"]) in _LETTERS:
            found += _LETTERS[letter]
        else:
            raise ConversationError(
                f"\\{letter} is not an escape; allowed are \\xHH, "
                + ", ".join(f"\\{known}" for known in _LETTERS)
            )
    return bytes(found)


def format_payload(payload: bytes) -> str:
    """Return the short text form of ``payload``; :func:`parse_payload` reads it back."""
    period = payload.find(payload[:16], 1) if len(payload) > 32 else -1
    if 1 < period <= len(payload) // 2 and payload[period:] == payload[:-period]:
        times, rest = divmod(len(payload), period)
        tail = f" {_format_plain(payload[:rest])}" if rest else ""
        return f"({_format_plain(payload[:period])})*{times}{tail}"
    return _format_plain(payload)


def _format_plain(payload: bytes) -> str:
    words: list[str] = []
    index, size = 0, len(payload)
    while index < size:
        first = payload[index]
        run = bytes([first]) * _MIN_RUN
        if payload.startswith(run, index):
            end = size - len(payload[index:].lstrip(run[:1]))
            words.append(f"{first:02x}*{end - index}")
            index = end
            continue
        end = index + 1
        while end < size and payload[end] == payload[end - 1] + 1:
            end += 1
        if end - index >= _MIN_RUN:
            words.append(f"{first:02x}..{payload[end - 1]:02x}")
            index = end
            continue
        words.append(f"{first:02x}")
        index += 1
    return " ".join(words)
