"""Looks past bytes that a path changes or loses at the same offsets of every connection.

A conversation ends at its first wrong byte, or waits for one that is lost. Where every connection
has one, no other failure could be seen: so the bytes at these offsets are not compared any more,
once they are reported.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from echoproto.probe.script.conversation import Await, Conversation, Pause, Send, Session, Step
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.explain.frame import POOLS, text
from echoproto.probe.search.trigger import Trigger
from echoproto.probe.wire.channel import Channel, Layer
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Mask", "MaskLayer", "RestoringLayer", "find_mask", "layer_of"]

# A stream in which more than one byte of so many is wrong is not one with some wrong offsets.
_FEW = 16
# The streams are longer than twice the shortest that fails, by so many bytes.
_MORE = 512

# Longer than a path waits for more of a write, in milliseconds.
_APART_MS = 20

_WRONG = (Fault.CORRUPT, Fault.TRUNCATED, Fault.STALLED)

Capture = Callable[[Candidate], Outcome]
"""Runs a candidate; the outcome has what came back in ``captured``."""


@dataclass(frozen=True)
class Mask:
    """Offsets of a stream at which any byte is right.

    Attributes:
        offsets: in order.
        step: from the last of them on, each further one is so many bytes later; 0 for no more.
        lost: whether nothing comes back in their place.
    """

    offsets: tuple[int, ...]
    step: int = 0
    lost: bool = False

    def within(self, start: int, stop: int) -> Iterable[int]:
        """Return the offsets from ``start`` on, and before ``stop``."""
        if not self.step:
            return [offset for offset in self.offsets if start <= offset < stop]
        first = self.offsets[0]
        return range(first + self.step * max(0, -((first - start) // self.step)), stop, self.step)

    def __str__(self) -> str:
        at = ", ".join(map(str, self.offsets[:4])) + (", ..." if len(self.offsets) > 4 else "")
        where = f"offset {at}" if len(self.offsets) == 1 else f"the offsets {at}"
        return f"every {self.step}th byte" if self.step else f"the byte at {where}"


class MaskLayer(Layer):
    """Shows the bytes at some offsets as they were sent, whatever came back there.

    Args:
        below: what it uses.
        mask: the offsets.
    """

    def __init__(self, below: Channel, mask: Mask) -> None:
        super().__init__(below)
        self._mask = mask
        self._sent = self._received = 0
        self._right: dict[int, int] = {}
        self.send = self._send
        self.recv = self._recv

    def send_urgent(self, data: bytes | memoryview) -> int:
        return self._note(data, self.below.send_urgent(data))

    def _send(self, data: bytes | memoryview) -> int:
        return self._note(data, self.below.send(data))

    def _note(self, data: bytes | memoryview, count: int) -> int:
        for offset in self._mask.within(self._sent, self._sent + count):
            self._right[offset] = data[offset - self._sent]
        self._sent += count
        return count

    def _recv(self, size: int) -> bytes:
        data = self.below.recv(size)
        start, self._received = self._received, self._received + len(data)
        shown = bytearray(data)
        for offset in self._mask.within(start, self._received):
            if (byte := self._right.pop(offset, None)) is not None:
                shown[offset - start] = byte
        return bytes(shown)


class RestoringLayer(MaskLayer):
    """Shows the bytes at some offsets, which never come back, as soon as those before them are."""

    def __init__(self, below: Channel, mask: Mask) -> None:
        super().__init__(below, mask)
        self.whole_reads = False

    @property
    def pending(self) -> bool:
        return self._received in self._right or self.below.pending

    def _recv(self, size: int) -> bytes:
        start = self._received
        if (byte := self._right.pop(start, None)) is not None:
            data = bytes((byte,))
        else:
            following = self._mask.within(start + 1, start + size)
            data = self.below.recv(next(iter(following), start + size) - start)
        self._received += len(data)
        return data


def find_mask(trigger: Trigger, rate: float, capture: Capture) -> Mask | None:
    """Return the offsets that a failure is about; None if it is about more than offsets.

    Args:
        trigger: what the failure needs.
        rate: how often it occurs then.
        capture: runs a candidate.
    """
    alone = len(trigger.candidate.conversations) == 1
    offsets_only = all(trait.loses for trait in trigger.traits)
    if trigger.kind not in _WRONG or rate < 1 or not (alone and offsets_only):
        return None
    size = 2 * len(trigger.candidate.conversations[0].payload) + _MORE
    once = (Send(text(size, POOLS[0])),)
    other = text(size, POOLS[1], seed=2)
    half = size // 2
    twice: tuple[Step, ...] = (Send(other[:half]), Await(), Send(other[half:]))

    def differing(*steps: Step) -> Mask | None:
        # Without FIN, what fails at the end does not come between.
        return _differing(capture(Candidate(Session((Conversation(steps),)), fin=False)))

    mask = differing(*once)
    if mask is None or not 0 < len(mask.offsets) <= size // _FEW:
        return None
    if mask.lost:
        # Of another size, as it may be the last byte; a wait for what is lost would never end.
        other = other[:-1]
        twice = (Send(other[:half]), Pause(_APART_MS), Send(other[half:]))
    again = differing(*twice)
    if again is None or len(again.offsets) > size // _FEW:  # a path may bear no second write
        again = differing(Send(other))
    if again != mask:
        return None
    return mask if mask.lost else replace(mask, step=_step(mask.offsets, size))


def layer_of(mask: Mask) -> Callable[[Channel], Channel]:
    """Return what puts the mask on top of a channel."""
    return functools.partial(RestoringLayer if mask.lost else MaskLayer, mask=mask)


def _step(offsets: tuple[int, ...], size: int) -> int:
    """Return the distance between offsets that repeat up to the end; 0 if they do not."""
    steps = {b - a for a, b in itertools.pairwise(offsets)}
    if len(steps) != 1:
        return 0
    (step,) = steps
    return step if offsets[0] == step - 1 and offsets[-1] + step >= size else 0


def _differing(outcome: Outcome) -> Mask | None:
    """Return the offsets at which other bytes came back, or none; None if more came back."""
    sent, received = outcome.session.conversations[0].payload, outcome.captured[0]
    if len(sent) == len(received):
        pairs = enumerate(zip(sent, received, strict=True))
        return Mask(tuple(at for at, (a, b) in pairs if a != b))
    lost: list[int] = []
    for at, byte in enumerate(sent):
        if received[at - len(lost) : at - len(lost) + 1] != bytes((byte,)):
            lost.append(at)
    return Mask(tuple(lost), lost=True) if len(sent) == len(received) + len(lost) else None
