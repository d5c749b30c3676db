"""Which bytes matter, and where in the stream they do."""

from __future__ import annotations

import dataclasses
import re

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.align import align
from echoproto.probe.search.explain.bytemap import ByteMap
from echoproto.probe.search.explain.explanation import Need, Size, Unit, Where
from echoproto.probe.search.explain.findings import Findings
from echoproto.probe.search.explain.frame import POOLS, Frame, text
from echoproto.probe.search.explain.lab import Lab
from echoproto.probe.wire.verdict import Fault

__all__ = ["Content"]

_SHORT = 24
_SHORTEST = 8
_FIRST_SEGMENT = 300
_AROUND = 8
# At how many places of a sequence every other byte is tried.
_MOST_VARIED = 4
# A class of bytes is listed up to so many; more are "any byte".
_MOST_LISTED = 200


class Content:
    """Finds the bytes that trigger a fault.

    Args:
        lab: runs the experiments.
        frame: the failing session.
        found: gets what is found out.

    Attributes:
        pool: bytes with which the session passes; None if it fails with any bytes.
        run: whether equal bytes matter, whatever they are.
    """

    def __init__(self, lab: Lab, frame: Frame, found: Findings) -> None:
        self.pool: bytes | None = None
        self.run = False
        self._in_the_middle = False
        self._before = b""
        self._after = b""
        self._lab = lab
        self._frame = frame
        self._found = found

    def find(self) -> None:
        """Find out which bytes matter, what becomes of them, and where."""
        payloads = self._frame.payloads
        if not payloads:
            return
        self.pool = self._neutral()
        if self.pool is None:
            return
        values = set(b"".join(payloads))
        if len(values) == 1 and max(map(len, payloads)) > 1:
            pair = self.pool[:1], self.pool[1:2]
            if all(self._lab.fails(self._constant(byte)) for byte in pair):
                self.run, self.pool = True, None
                return
        if not (places := self._significant()):
            self._found.unclear = True
            return
        if len({place for place, _ in places}) != 1:
            self._across(places)
            return
        place, first, last = places[0][0], places[0][1], places[-1][1]
        if len(values) == 1 and len(payloads[place]) > _SHORT:
            self._found.bytes_ = [bytes(values)]
            return
        inside = [at for _, at in places]
        trigger = payloads[place][first : last + 1]
        self._trigger(place, first, trigger, inside)
        whole = payloads[place]
        aside = not self._in_the_middle or trigger in self._found.goes_with
        if len(trigger) < len(whole) <= _SHORTEST and aside and not self._found.stops:
            # What stands beside it matters too, although it may be any of several bytes.
            self._again(place, whole, inside)

    def _constant(self, byte: bytes) -> Session:
        frame = self._frame
        return frame.filled({p: byte * len(b) for p, b in enumerate(frame.payloads)})

    def _neutral(self) -> bytes | None:
        """Return bytes with which the session passes; None if there are none."""
        short = sum(map(len, self._frame.payloads)) <= _SHORT and not self._lab.dear
        pools = POOLS if short else POOLS[:2]
        for pool in pools:
            if not any(self._lab.fails(self._frame.all_text(pool, seed)) for seed in (1, 2)):
                return pool
        return None

    def _significant(self) -> list[tuple[int, int]]:
        """Return the place and the offset of each byte that cannot be another one."""
        frame, pool = self._frame, self.pool or b""
        if sum(map(len, frame.payloads)) > _SHORT:
            return self._special()
        everywhere = [(p, at) for p, b in enumerate(frame.payloads) for at in range(len(b))]
        if len(everywhere) == 1:
            return everywhere
        found = []
        for place, at in everywhere:
            payload = frame.payloads[place]
            other = [payload[:at] + pool[i : i + 1] + payload[at + 1 :] for i in (0, 1)]
            if not all(self._lab.fails(frame.filled({place: each})) for each in other):
                found.append((place, at))
        return found or everywhere

    def _special(self) -> list[tuple[int, int]]:
        """Return the bytes of a long session that shrinking did not make equal; none if many."""
        payloads = self._frame.payloads
        if len(set(b"".join(payloads))) == 1:
            return [(max(range(len(payloads)), key=lambda place: len(payloads[place])), 0)]
        if sum(len(payload) - payload.count(0) for payload in payloads) > _SHORT:
            return []
        return [(p, m.start()) for p, b in enumerate(payloads) for m in re.finditer(b"[^\0]", b)]

    def _across(self, places: list[tuple[int, int]]) -> None:
        """Note a sequence that is sent in parts."""
        frame, found, pool = self._frame, self._found, self.pool or POOLS[0]
        found.bytes_ = [b"".join(frame.payloads[p][at : at + 1] for p, at in places)]
        parts = sorted({place for place, _ in places})
        if len(parts) == 2 and parts == frame.own_places:
            first, second = (frame.payloads[place] for place in parts)
            longer = {parts[0]: text(_AROUND, pool, 3) + first, parts[1]: second + text(9, pool)}
            if self._lab.fails(frame.filled(longer)) and Need.SEVERAL_WRITES in found.needs:
                found.position = Where.BORDER

    # One byte or sequence that triggers it.

    def _again(self, place: int, whole: bytes, inside: list[int]) -> None:
        """Take all bytes of a short send for the trigger, if that works anywhere."""
        found, before = self._found, dataclasses.replace(self._found)
        found.bytes_, found.becomes, found.goes_with = [], {}, set()
        self._trigger(place, 0, whole, inside)
        if not self._in_the_middle:
            for field in dataclasses.fields(before):
                setattr(found, field.name, getattr(before, field.name))

    def _trigger(self, place: int, first: int, trigger: bytes, inside: list[int]) -> None:
        """Find out about a trigger, whose bytes at some offsets of the send cannot be others."""
        found, payload = self._found, self._frame.payloads[place]
        found.bytes_ = [trigger]
        found.takes_next = bool(payload[first + len(trigger) :])
        self._before, self._after = payload[:first], payload[first + len(trigger) :]
        found.position = self._position(place, trigger)
        if self._in_the_middle:
            self._map(place, trigger, [at - first for at in inside])
        else:
            self._becomes_at(place, trigger)
            self._sample(place, trigger)

    def _position(self, place: int, trigger: bytes) -> Where | None:
        frame, pool = self._frame, self.pool or POOLS[0]
        before = text(len(self._before) + _AROUND, pool, 3)
        after = text(len(self._after) + _AROUND, pool, 4)

        def fails(stream: bytes) -> bool:
            return self._lab.fails(frame.filled({place: stream}))

        self._in_the_middle = fails(before + trigger + after)
        if self._in_the_middle:
            # Some devices look at the first segment only.
            writes = [text(_FIRST_SEGMENT, pool, 6), self._before + trigger + self._after]
            anywhere = self._lab.fails(frame.split(place, writes))
            return Where.ANYWHERE if anywhere else None
        head = fails(self._before + trigger + after)
        tail = fails(before + trigger + self._after)
        if head and not tail:
            later = frame.split(place, [before, self._before + trigger + self._after])
            self._found.each_write = self._lab.fails(later)
            return Where.START
        if tail and not head:
            last = place == frame.own_places[-1] if place in frame.own_places else True
            several = Need.SEVERAL_WRITES in self._found.needs
            return Where.BORDER if several and not last else Where.END
        if not tail:
            size = len(frame.payloads[place])
            self._found.size = Size(Unit.WRITE, size, size)
        return None

    def _bytemap(self, place: int) -> ByteMap:
        frame, owner = self._frame, self._frame.owner(place)
        return ByteMap(
            self._lab,
            lambda stream: frame.filled({place: self._before + stream + self._after}),
            lambda outcome: frame.streams(outcome, owner),
            frame.start(place) + len(self._before),
            self.pool or POOLS[0],
        )

    def _map(self, place: int, trigger: bytes, varied: list[int]) -> None:
        """Try each byte in place of each byte of the trigger that matters."""
        found, bytemap = self._found, self._bytemap(place)
        for at in varied[:_MOST_VARIED]:
            tokens = [trigger[:at] + bytes((b,)) + trigger[at + 1 :] for b in range(256)]
            changes = bytemap.find(tokens)
            if trigger not in changes or (len(trigger) > 1 and len(changes) > _MOST_LISTED):
                continue
            for token in tokens:
                change = changes.get(token)
                if change is None or not self._alike(change.got, changes[trigger].got, token):
                    continue
                if token not in found.bytes_:
                    found.bytes_.append(token)
                if change.got is not None:
                    found.becomes[token] = change.got
                if change.stops:
                    found.stops.add(token)
                if change.wider:
                    found.goes_with.add(token)
        found.bytes_.sort()

    def _alike(self, got: bytes | None, base: bytes | None, token: bytes) -> bool:
        """Return whether a change is the same kind of fault as that of the trigger."""
        if got is None or base is None:
            return True
        return (len(got) < len(token)) == (len(base) < len(token))

    def _becomes_at(self, place: int, trigger: bytes) -> None:
        """Note what a trigger becomes where it works, from what came back around it."""
        frame, pool = self._frame, self.pool or POOLS[0]
        more = text(_AROUND, pool, 5)
        front = self._found.position is not Where.END
        stream = self._before + trigger + self._after
        stream = stream + more if front else more + stream
        outcome = self._lab.failing(frame.filled({place: stream}))
        if outcome is None or outcome.kind not in (Fault.CORRUPT, Fault.EXTRA, Fault.TRUNCATED):
            return
        owner = frame.owner(place)
        sent, received = frame.streams(outcome, owner)
        at = frame.start(place) + len(self._before) + (0 if front else _AROUND)
        end = at + len(trigger)
        rest = sent[end:]
        if received[:at] != sent[:at] or not received.endswith(rest) or (not rest and front):
            return
        if len(received) < at + len(rest):
            return
        got = received[at : len(received) - len(rest)]
        if got != trigger and align(trigger, got):
            self._found.becomes[trigger] = got

    def _sample(self, place: int, trigger: bytes) -> None:
        """Try some other bytes in the trigger, each on a connection of its own."""
        if len(trigger) > 2 * _SHORT:
            return
        for at in range(len(trigger)):
            old = trigger[at]
            others = [old ^ 0x20, old ^ 1, old ^ 0x80]
            if len(trigger) == 1:
                others += [0x00, 0x0A, 0x0D, 0x11, 0x1B, 0x20, 0x41, 0x7F, 0xC3, 0xFE, 0xFF]
            for other in dict.fromkeys(others):
                token = trigger[:at] + bytes((other,)) + trigger[at + 1 :]
                if token == trigger or not self._lab.can_afford(40):
                    continue
                payload = self._before + token + self._after
                if self._lab.fails(self._frame.filled({place: payload})):
                    self._found.bytes_.append(token)
        self._found.bytes_ = sorted(dict.fromkeys(self._found.bytes_))
