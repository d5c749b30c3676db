"""Which sizes matter, and where in the stream, when any bytes do it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from echoproto.probe.script.conversation import Await, HalfClose, Pause, Session
from echoproto.probe.search.explain.align import Edit, align
from echoproto.probe.search.explain.explanation import Need, Size, Unit, Where
from echoproto.probe.search.explain.findings import Findings
from echoproto.probe.search.explain.frame import Frame
from echoproto.probe.search.explain.lab import Lab
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Extent"]

# Larger writes than this are not tried: they cost more than they show.
_LARGEST = 300_000
# From so many bytes on, a run takes long, and a threshold is found to a thousandth only.
_LARGE = 8_000_000
_APART_MS = 100
# Few programs read more at once: a longer write comes in parts anyway.
_MOST_READ = 65536
_ALIGNED = (Fault.CORRUPT, Fault.EXTRA, Fault.TRUNCATED, Fault.STALLED)


class Extent:
    """Finds the sizes and the offsets of a fault that any bytes show.

    Args:
        lab: runs the experiments.
        frame: the failing session.
        found: gets what is found out.
        fill: returns so many bytes that show the fault.

    Attributes:
        outcomes: what failed, by size of the send that was varied.
        place: which send that is.
    """

    def __init__(
        self, lab: Lab, frame: Frame, found: Findings, fill: Callable[[int], bytes]
    ) -> None:
        self.outcomes: dict[int, Outcome] = {}
        places = frame.own_places or range(len(frame.payloads))
        self.place = max(places, key=lambda place: (len(frame.payloads[place]), place))
        self._lab = lab
        self._frame = frame
        self._found = found
        self._fill = fill
        self._size = len(frame.payloads[self.place])

    def find(self) -> None:
        """Find out the sizes, then the position."""
        if not self.fails(self._size):
            # Nothing but the bytes of the shortest session show it.
            return
        least, most, multiple = self._sizes()
        self._position()
        if self._found.size is not None:
            return
        if self._found.position == self._last(least) and most is None and multiple is None:
            return  # it says the same as the offset
        if least > 1 or most is not None:
            unit = self._unit(least, most)
            self._found.size = Size(unit, least, most, multiple)

    def fails(self, size: int) -> bool:
        """Return whether the session fails with so many bytes at the place."""
        outcome = self._lab.failing(self._frame.filled({self.place: self._fill(size)}))
        self._found.sizes_tried[size] = outcome is not None
        if outcome is None:
            self._found.passes.append(size)
        else:
            self.outcomes[size] = outcome
        return outcome is not None

    def edits(self, size: int) -> list[Edit]:
        """Return what changed with so many bytes, counted from the start of the conversation."""
        outcome = self.outcomes.get(size)
        if outcome is None or outcome.kind not in _ALIGNED:
            return []
        sent, received = self._frame.streams(outcome)
        return [_at_its_original(edit, sent) for edit in align(sent, received)]

    def _sizes(self) -> tuple[int, int | None, int | None]:
        """Return the least and the most that fails, and the number of which it is a multiple."""
        least = self._least()
        if self._lab.dear:
            if 1 < least <= _LARGEST:
                self.fails(2 * least)
            return least, None, None
        above = least + 1
        larger = [2, 1000, 5000] if least == 1 else [2 * least, 2 * least + 1, 4 * least + 3]
        tried = {size: self.fails(size) for size in larger if size <= _LARGEST}
        if above not in tried:
            tried[above] = self.fails(above)
        if all(tried.values()):
            return least, None, None
        if tried[above]:
            passing = min(size for size, failed in tried.items() if not failed)
            return least, self._most(least, passing), None
        again = least > 1 and tried.get(2 * least) and not tried.get(2 * least + 1)
        if again and 3 * least <= _LARGEST and self.fails(3 * least):
            return least, None, least
        if any(tried.values()):
            return 1, None, None  # no rule that these runs would bear out
        return least, least, None

    def _least(self) -> int:
        if self._size == 1 or not self.fails(self._size - 1):
            return self._size
        low, high = 0, self._size - 1
        close = 1
        if high > _LARGE:
            close = high // 1000
            if not self.fails(high - 2 * close):
                low = high - 2 * close
        while high - low > close and self._lab.can_afford(60):
            middle = (low + high) // 2
            if self.fails(middle):
                high = middle
            else:
                low = middle
        return high

    def _most(self, low: int, high: int) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            if self.fails(middle):
                low = middle
            else:
                high = middle
        return low

    def _unit(self, least: int, most: int | None) -> Unit:
        """Return whether the size counts in a write, in the connection, or in flight."""
        if least == 1 and most is not None:
            # So few bytes in each of two writes, more in both together.
            parts = [self._fill(1), self._fill(most)]
            together = self._frame.split(self.place, parts, (Pause(20),))
            return Unit.WRITE if self._lab.fails(together) else Unit.CONNECTION
        half = least // 2
        whole = self._fill(least)
        parts = [whole[:half], whole[half:]]
        if self._lab.fails(self._frame.split(self.place, parts)):
            slower = self._frame.split(self.place, parts, (Await(), Pause(_APART_MS)))
            if not self._lab.fails(slower):
                return Unit.IN_FLIGHT
            return Unit.IN_FLIGHT if self._is_in_flight() else Unit.CONNECTION
        if least > _MOST_READ or self._is_in_flight():
            return Unit.IN_FLIGHT
        return Unit.WRITE

    def _is_in_flight(self) -> bool:
        """Return whether the fault is gone once all bytes are back before the end."""
        if Need.FIN not in self._found.needs:
            return False
        return not self._lab.fails(self._awaited())

    def _awaited(self) -> Session:
        frame = self._frame
        steps = [step for step in frame.conversation.steps if not isinstance(step, HalfClose)]
        return frame.with_steps((*steps, Await(), HalfClose()))

    # Position.

    def _last(self, least: int) -> int:
        return self._frame.start(self.place) + least - 1

    def _position(self) -> None:
        """Find out where the change is, from the alignment of two sizes."""
        found, sizes = self._found, sorted(self.outcomes)
        if len(sizes) < 2:
            self._position_of_one(sizes)
            return
        small, large = sizes[0], sizes[-1]
        here, there = self.edits(small), self.edits(large)
        if not here or not there:
            return
        after = sum(len(self._frame.payloads[p]) for p in self._after())
        ends = self._frame.start(self.place) + large + after
        if len(there) > 2 and (step := _period(there)):
            found.size = Size(Unit.CONNECTION, multiple_of=step)
        elif len(there) == 1 and len(here) == 1:
            self._position_of_both(here[0], there[0], small, large, ends)

    def _after(self) -> list[int]:
        return [place for place in self._frame.own_places if place > self.place]

    def _position_of_one(self, sizes: list[int]) -> None:
        if not sizes or not self._found.passes or max(self._found.passes) < sizes[0]:
            return
        if len(edits := self.edits(sizes[0])) != 1:
            return
        edit, start = edits[0], self._frame.start(self.place)
        whole = edit.stop - edit.start == sizes[0]
        if edit.stop == start + sizes[0] and not whole and sizes[0] > 1:
            self._found.position = Where.END
        elif edit.start == start and not whole and sizes[0] > 1:
            self._found.position = Where.START

    def _position_of_both(self, here: Edit, there: Edit, small: int, large: int, end: int) -> None:
        found, start = self._found, self._frame.start(self.place)
        begin, grown = end - (large - small), large > small
        whole = max(there.stop - there.start, len(there.got)) >= large
        found.length = there.stop - there.start if there.stop < end else here.stop - here.start
        if there.start == start and here.start == start and not whole and there.stop < end:
            found.position = Where.START
            found.each_write = Need.SEVERAL_WRITES in found.needs or self._in_each_write()
        elif here.stop == begin and there.stop == end and grown:
            if here.stop - here.start == there.stop - there.start and not whole:
                found.position = Where.END
        elif here.start == there.start and there.stop < end and there.start > start:
            found.position = there.start
            found.each_write = not self._counts_over_writes(there.start)

    def _in_each_write(self) -> bool:
        part = self._fill(8)
        outcome = self._lab.failing(self._frame.split(self.place, [part, part], (Pause(20),)))
        if outcome is None or outcome.kind not in _ALIGNED:
            return False
        return len(align(*self._frame.streams(outcome))) > 1

    def _counts_over_writes(self, offset: int) -> bool:
        whole = self._fill(offset + 50)
        cut = max(1, offset // 2)
        return self._lab.fails(self._frame.split(self.place, [whole[:cut], whole[cut:]]))


def _at_its_original(edit: Edit, sent: bytes) -> Edit:
    """Return an insertion that repeats the bytes before it as one in front of these."""
    begin = edit.start - len(edit.got)
    if edit.start == edit.stop and begin >= 0 and sent[begin : edit.start] == edit.got:
        return Edit(begin, begin, edit.got)
    return edit


def _period(edits: list[Edit]) -> int | None:
    """Return the distance of edits that are equally far apart, counted from the first byte."""
    starts = [edit.start for edit in edits]
    gaps = {b - a for a, b in itertools.pairwise(starts)}
    if len(gaps) != 1:
        return None
    step = gaps.pop()
    return step if step > 1 and starts[0] in (step - 1, step, 0) else None
