"""From a payload that fails to the shortest and simplest one that does."""

from __future__ import annotations

import re
from collections.abc import Callable

from echoproto.probe.script.vocabulary import BOUNDARIES

__all__ = ["PayloadShrinker"]

# A payload in which more bytes than this matter at once is not taken apart byte by byte.
_MANY = 64

# From so many bytes on, a threshold is found to a thousandth.
_LARGE = 8_000_000

_NEAR = sorted({b + d for b in BOUNDARIES for d in (-1, 0, 1) if b + d > 3})


class PayloadShrinker:
    """Shrinks one payload to the shortest that fails.

    Args:
        payload: the payload.
        replace: called with the current payload and another; tries the other one in its place
            and returns whether it still fails.
        coarse: whether each try takes so long that sizes are found to a few percent only.
    """

    def __init__(
        self, payload: bytes, replace: Callable[[bytes, bytes], bool], coarse: bool = False
    ) -> None:
        self.now = payload
        self._replace = replace
        self._coarse = coarse

    def shorten(self) -> None:
        """Shorten it, simplify its bytes, and leave out those that do not matter."""
        if self.now.count(0) == len(self.now) or self._try(bytes(len(self.now))):
            self._shorten_zeros(0, len(self.now))
            return
        # Which bytes matter? First those around them are removed, then those between.
        whole = self.now
        self._smallest(lambda size: whole[:size], len(whole))
        rest = self.now
        self._smallest(lambda size: rest[-size:], len(rest))
        self._zero()
        for start, end in reversed(_zero_runs(self.now)):
            self._shorten_zeros(start, end)
        self._leave_out()
        self._lower()

    def _try(self, other: bytes) -> bool:
        if other and other != self.now and self._replace(self.now, other):
            self.now = other
            return True
        return False

    def _smallest(self, make: Callable[[int], bytes], high: int) -> int:
        """Return the smallest size for which ``make(size)`` fails, as bisection finds it."""
        low = 0
        for size in (1, 2, 3):
            if size >= high:
                return high
            if self._try(make(size)):
                return size
            low = size
        # A payload so large takes long, too.
        close = high // 50 if self._coarse else high // 1000 if high > _LARGE else 1
        while high - low > close:
            middle = (low + high) // 2
            if self._try(make(middle)):
                high = middle
            else:
                low = middle
        return high

    def _shorten_zeros(self, start: int, end: int) -> None:
        head, tail = self.now[:start], self.now[end:]
        if (head or tail) and self._try(head + tail):
            return
        high = self._smallest(lambda size: head + bytes(size) + tail, end - start)
        # Bisection cannot find a fault at one size only.
        for size in () if self._coarse or high > _LARGE else _NEAR:
            if size >= high or self._try(head + bytes(size) + tail):
                return

    def _zero(self) -> None:
        size = len(self.now) // 2
        tries = 0
        while size >= 1:
            for start in range(0, len(self.now), size):
                piece = self.now[start : start + size]
                if piece.count(0) < len(piece):
                    tries += 1
                    self._try(self.now[:start] + bytes(len(piece)) + self.now[start + size :])
            if tries > 4 * _MANY:
                return
            size //= 2

    def _leave_out(self) -> None:
        if len(self.now) > 4 * _MANY:
            places = [place for place, byte in enumerate(self.now) if byte]
            for place in reversed(places[:_MANY]):
                self._try(self.now[:place] + self.now[place + 1 :])
            return
        size = max(1, len(self.now) // 2)
        while True:
            start = 0
            while start < len(self.now):
                if not self._try(self.now[:start] + self.now[start + size :]):
                    start += size
            if size == 1:
                return
            size //= 2

    def _lower(self) -> None:
        places = [place for place, byte in enumerate(self.now) if byte]
        for place in places[: _MANY // 4]:
            low, high = 0, self.now[place]
            while high - low > 1:
                middle = (low + high) // 2 if low else 1
                if self._try(self.now[:place] + bytes([middle]) + self.now[place + 1 :]):
                    high = middle
                else:
                    low = middle


def _zero_runs(payload: bytes) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rb"\0{2,}", payload)]
