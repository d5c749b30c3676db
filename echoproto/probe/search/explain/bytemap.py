"""Which of many byte sequences trigger the fault: as many as possible in one conversation.

The sequences are sent between neutral bytes, which differ from gap to gap. Where these are found
in what came back tells for each sequence whether it came through, and what it became. A sequence
after which nothing comes back hides those behind it: they are sent again without it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.align import Edit, align
from echoproto.probe.search.explain.lab import Lab
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["ByteMap", "Change"]

_GAP = 3
# So many of a pool give enough different gaps: 810 of ten.
_LETTERS = 16
_MOST_ROUNDS = 40
_MOST_DOUBTS = 16
_BY_ALIGNMENT = (Fault.CORRUPT, Fault.EXTRA, Fault.TRUNCATED, Fault.STALLED)


@dataclass(frozen=True)
class Change:
    """What happened to one sequence.

    Attributes:
        got: what came back for it; None if that is not certain.
        stops: whether nothing came back after it.
        wider: whether bytes beside it changed too.
    """

    got: bytes | None = None
    stops: bool = False
    wider: bool = False


class ByteMap:
    """Tests sequences within one send.

    Args:
        lab: runs the experiments.
        embed: returns the session that sends a stream there.
        streams: returns what the outcome's conversation sent and received.
        start: the offset of that send in the stream of its conversation.
        pool: neutral bytes.
    """

    def __init__(
        self,
        lab: Lab,
        embed: Callable[[bytes], Session],
        streams: Callable[[Outcome], tuple[bytes, bytes]],
        start: int,
        pool: bytes,
    ) -> None:
        self._lab = lab
        self._embed = embed
        self._streams = streams
        self._start = start
        self._pool = pool

    def find(self, tokens: Sequence[bytes]) -> dict[bytes, Change]:
        """Return the sequences that trigger the fault, with what becomes of them."""
        found = self._scan(tokens)
        whole = {token: change for token, change in found.items() if not change.stops}
        if not whole:
            return found
        # In another order, beside other bytes: what is one place's fault is not a byte's.
        left = [token for token in tokens if token in whole or token not in found]
        random.Random(len(left)).shuffle(left)
        again, doubtful = self._once(left)
        for token in [token for token in whole if token not in again and token not in doubtful]:
            if not self._alone(token):
                del found[token]
        for token in [token for token in again if token not in whole][:_MOST_DOUBTS]:
            if self._alone(token):
                found[token] = again[token]
        for token in whole.keys() & again.keys() & found.keys():
            if again[token] != whole[token]:
                one, two = whole[token], again[token]
                got = one.got if one.got == two.got else None
                found[token] = Change(got, False, one.wider or two.wider)
        return found

    def _scan(self, tokens: Sequence[bytes]) -> dict[bytes, Change]:
        found: dict[bytes, Change] = {}
        waiting = list(tokens)
        for _ in range(_MOST_ROUNDS):
            if not waiting:
                break
            changes, doubtful, stop = self._round(waiting)
            found.update(changes)
            for token in doubtful[:_MOST_DOUBTS]:
                if self._alone(token):
                    found[token] = Change()
            if stop is None:
                break
            found.setdefault(waiting[stop], self._single(waiting[stop]))
            waiting = waiting[stop + 1 :]
        return found

    def _round(self, tokens: list[bytes]) -> tuple[dict[bytes, Change], list[bytes], int | None]:
        """Return what changed, what may be to blame, and the index of what stops the rest."""
        stream, places = self._laid_out(tokens)
        outcome = self._lab.failing(self._embed(stream))
        if outcome is None:
            return {}, [], None
        if outcome.kind not in _BY_ALIGNMENT:
            return {}, [], self._first_failing(tokens)
        changes, doubtful, tail = self._read(outcome, tokens, places)
        if tail is None:
            return changes, doubtful, None
        if not self._alone(tokens[tail]):
            # What comes back may end before the trigger: a whole write is lost.
            first = self._first_failing(tokens)
            if first is None:
                return changes, doubtful, None
            tail = first
        return {t: c for t, c in changes.items() if t != tokens[tail]}, doubtful, tail

    def _single(self, token: bytes) -> Change:
        """Return what happened to a token that fails alone."""
        stream, places = self._laid_out([token])
        outcome = self._lab.failing(self._embed(stream))
        if outcome is not None and outcome.kind in _BY_ALIGNMENT:
            changes, _, tail = self._read(outcome, [token], places)
            if tail is None and token in changes:
                return changes[token]
        return Change(stops=True)

    def _once(self, tokens: list[bytes]) -> tuple[dict[bytes, Change], list[bytes]]:
        stream, places = self._laid_out(tokens)
        outcome = self._lab.failing(self._embed(stream))
        if outcome is None or outcome.kind not in _BY_ALIGNMENT:
            return {}, []
        changes, doubtful, tail = self._read(outcome, tokens, places)
        return changes, doubtful + (tokens[tail:] if tail is not None else [])

    def _read(
        self, outcome: Outcome, tokens: list[bytes], places: list[int]
    ) -> tuple[dict[bytes, Change], list[bytes], int | None]:
        """Return the changes, the tokens in a wider change, and the index where the rest ends."""
        sent, received = self._streams(outcome)
        gaps = [place - _GAP for place in places] + [places[-1] + len(tokens[-1])]
        changes: dict[bytes, Change] = {}
        doubtful: list[bytes] = []
        last, at = 0, self._start  # the last gap that came back, and where
        if received[: self._start + _GAP] != sent[: self._start + _GAP]:
            return {}, [], 0
        for number in range(1, len(gaps)):
            gap = sent[gaps[number] : gaps[number] + _GAP]
            found = received.find(gap, at + _GAP) if gap else -1
            if found < 0:
                continue
            part, got = sent[gaps[last] : gaps[number] + _GAP], received[at : found + _GAP]
            if part != got:
                inside = range(last, number)
                offsets = [places[i] - gaps[last] for i in inside]
                one, more = _attributed([tokens[i] for i in inside], offsets, align(part, got))
                changes.update(one)
                doubtful += more
            last, at = number, found
        if last == len(tokens):
            return changes, doubtful, None
        part, got = sent[gaps[last] :], received[at:]
        if last == len(tokens) - 1 and len(got) > _GAP and got[-1:] == part[-1:]:
            # The last one took a part of the gap with it.
            one, more = _attributed([tokens[last]], [_GAP], align(part, got))
            return {**changes, **one}, doubtful + more, None
        return changes, doubtful, last

    def _alone(self, token: bytes) -> bool:
        return self._lab.fails(self._embed(self._laid_out([token])[0]))

    def _first_failing(self, tokens: list[bytes]) -> int | None:
        """Return the index of the first token with which those up to it fail."""
        low, high = 0, len(tokens)
        while high - low > 1:
            middle = (low + high) // 2
            if self._lab.fails(self._embed(self._laid_out(tokens[:middle])[0])):
                high = middle
            else:
                low = middle
        return high - 1 if self._alone(tokens[high - 1]) else None

    def _laid_out(self, tokens: Sequence[bytes]) -> tuple[bytes, list[int]]:
        """Return the tokens between neutral bytes, and their offsets in the conversation."""
        neutral = _different(len(tokens) + 1, self._pool)
        stream, places = bytearray(neutral[0]), []
        for token, gap in zip(tokens, neutral[1:], strict=True):
            places.append(self._start + len(stream))
            stream += token + gap
        return bytes(stream), places


def _different(count: int, pool: bytes) -> list[bytes]:
    """Return neutral sequences, no two of them equal, and in none of them equal neighbours."""
    letters = [bytes((value,)) for value in pool[:_LETTERS]]
    gaps = [
        b"".join(gap)
        for gap in itertools.product(letters, repeat=_GAP)
        if all(one != two for one, two in itertools.pairwise(gap))
    ]
    return random.Random(count).sample(gaps, count)


def _attributed(
    tokens: Sequence[bytes], places: Sequence[int], edits: Sequence[Edit]
) -> tuple[dict[bytes, Change], list[bytes]]:
    """Return the changes that belong to one token, and the tokens that share one."""
    changes: dict[bytes, Change] = {}
    doubtful: list[bytes] = []
    for edit in edits:
        hit = [at for at, place in enumerate(places) if _touches(edit, place, len(tokens[at]))]
        if len(hit) > 1 or (not hit and len(tokens) > 1):
            doubtful += [tokens[at] for at in hit] or list(tokens)
        elif hit or len(tokens) == 1:
            at = hit[0] if hit else 0
            changes[tokens[at]] = _change(tokens[at], places[at], edits)
    return changes, doubtful


def _touches(edit: Edit, place: int, size: int) -> bool:
    """Return whether an edit changes a token, or inserts something right beside it."""
    if edit.start == edit.stop:
        return place <= edit.start <= place + size
    return edit.start < place + size and edit.stop > place


def _change(token: bytes, place: int, edits: Sequence[Edit]) -> Change:
    """Return what all edits together made of a token."""
    end = place + len(token)
    got = bytearray()
    at, wider = place, False
    for edit in edits:
        if edit.stop < place or edit.start > end:
            continue
        if edit.start < place or edit.stop > end:
            if edit.stop == place or edit.start == end:
                continue
            wider = True
        got += token[at - place : max(at, edit.start) - place] + edit.got
        at = max(at, min(edit.stop, end))
    got += token[at - place :]
    # Of a wider replacement, it is not known which part stands for the token.
    return Change(None if wider and got else bytes(got), False, wider)
