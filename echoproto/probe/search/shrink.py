"""From a session that fails to the shortest one that does.

Hypothesis shrinks what Hypothesis drew. A failure here may come from the catalogue, from a file
or from the command line, may fail only now and then, and costs a timeout for each candidate that
does fail; so the shrinking is done on the session itself, whoever made it.

Each pass proposes sessions that are shorter by :func:`length`; what still fails is kept, and the
passes start over until none of them gets any further.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    ConversationError,
    HalfClose,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Step,
)
from echoproto.probe.script.vocabulary import BOUNDARIES

__all__ = ["contains", "length", "shrink"]

_RANK: dict[type[Step], int] = {Send: 0, Await: 1, HalfClose: 1, Reset: 2, Pause: 3, SlowRead: 4}

_T = TypeVar("_T")

# Most faults that hit everything come down to one of these, and then nothing else need be tried.
_SHORTEST = tuple(
    map(
        Session.parse,
        ("nothing", "fin", "reset", "send 00", "send 00; await", "send 00; fin", "send 00; reset"),
    )
)

# The same for what takes two conversations. Which of them comes first matters, and taking away
# steps alone would never turn them round.
_SHORTEST_AT_ONCE = tuple(
    map(
        Session.parse,
        ("nothing | nothing", "nothing | fin", "nothing | send 00", "nothing | reset"),
    )
)
_SHORTEST_IN_TURN = tuple(
    map(
        Session.parse,
        (
            "nothing then nothing",
            "send 00 then nothing",
            "nothing then send 00",
            "reset then nothing",
            "reset then send 00",
        ),
    )
)

# A device's timeout is a round number of milliseconds: a pause that is right on it fails now and
# then, so those to choose from are a tenth longer.
_PAUSES = (1, 2, 3, 6, 11, 22, 33, 44, 55, 83, 110, 165, 220, 275, 330, 440, 550, 1100, 2200, 5500)

# A payload in which more bytes than this matter at once is not taken apart byte by byte.
_MANY = 64


def length(session: Session) -> tuple[int, ...]:
    """The key by which sessions are compared: fewer conversations, fewer steps, fewer bytes,
    more of them 00, lower ones, simpler steps, shorter pauses, faster reading."""
    steps = [step for conversation in session.conversations for step in conversation.steps]
    sent = [step.payload for step in steps if isinstance(step, Send)]
    return (
        len(session.conversations),
        len(steps),
        sum(map(len, sent)),
        sum(len(payload) - payload.count(0) for payload in sent),
        sum(sum(payload) for payload in sent if len(payload) <= 4096),
        sum(_RANK[type(step)] for step in steps),
        sum(step.ms for step in steps if isinstance(step, Pause)),
        -min((step.rate for step in steps if isinstance(step, SlowRead)), default=0),
    )


def shrink(session: Session, fails: Callable[[Session], bool], more: Callable[[], bool]) -> Session:
    """The shortest session found that still fails.

    Args:
        session: one that fails.
        fails: holds a session and tells whether it fails; asked once for each.
        more: whether there is time for another candidate.
    """
    return _Shrinker(session, fails, more).run()


class _Shrinker:
    def __init__(
        self, session: Session, fails: Callable[[Session], bool], more: Callable[[], bool]
    ) -> None:
        self.best = session
        self._fails = fails
        self._more = more
        self._asked: set[Session] = {session}

    def run(self) -> Session:
        shortest = _SHORTEST
        if len(self.best.conversations) > 1:
            shortest += _SHORTEST_IN_TURN if self.best.sequential else _SHORTEST_AT_ONCE
        any(self.accepts(candidate) for candidate in shortest)
        before = None
        while before != self.best and self._more():
            before = self.best
            self._fewer_conversations()
            for index in reversed(range(len(self.best.conversations))):
                self._fewer_steps(index)
            self._shorter_payloads()
            self._simpler_steps()
        return self.best

    def accepts(self, candidate: Session) -> bool:
        """Keep ``candidate`` if it is shorter and fails."""
        if candidate in self._asked or length(candidate) >= length(self.best) or not self._more():
            return False
        self._asked.add(candidate)
        if self._fails(candidate):
            self.best = candidate
            return True
        return False

    def _fewer_conversations(self) -> None:
        for conversation in dict.fromkeys(self.best.conversations):
            if self.accepts(Session((conversation,))):
                return
        self._delete(
            lambda: self.best.conversations,
            lambda kept: Session(tuple(kept), self.best.sequential) if kept else None,
        )

    def _fewer_steps(self, index: int) -> None:
        steps = self.best.conversations[index].steps
        for merged in _merged(steps):
            self.accepts(self._with(index, merged) or self.best)
        self._delete(
            lambda: self.best.conversations[index].steps, lambda kept: self._with(index, kept)
        )
        # Two sends in one, at each place.
        place = 0
        while place + 1 < len(steps := self.best.conversations[index].steps):
            first, second = steps[place : place + 2]
            if not (
                isinstance(first, Send)
                and isinstance(second, Send)
                and self.accepts(
                    self._with(
                        index,
                        (
                            *steps[:place],
                            Send(first.payload + second.payload),
                            *steps[place + 2 :],
                        ),
                    )
                    or self.best
                )
            ):
                place += 1

    def _with(self, index: int, steps: Sequence[Step]) -> Session | None:
        """The best session with other steps in one conversation, if they make one."""
        conversations = list(self.best.conversations)
        try:
            conversations[index] = Conversation(tuple(steps))
        except ConversationError:
            return None
        return Session(tuple(conversations), self.best.sequential)

    def _delete(
        self,
        items: Callable[[], Sequence[_T]],
        rebuild: Callable[[list[_T]], Session | None],
    ) -> None:
        """Leave out runs of items, halves first, then quarters, down to single ones."""
        size = max(1, len(items()) // 2)
        while True:
            place = 0
            while place < len(items()):
                kept = list(items())
                del kept[place : place + size]
                candidate = rebuild(kept)
                if candidate is None or not self.accepts(candidate):
                    place += size
            if size == 1:
                return
            size //= 2

    # Payloads: all equal ones at once, since two that must be equal cannot be changed alone.

    def _shorter_payloads(self) -> None:
        for payload in sorted(set(_payloads(self.best)), key=len, reverse=True):
            if payload in set(_payloads(self.best)):
                _Payload(payload, self._replace_all).shorten()
        for place, payload in enumerate(list(_payloads(self.best))):
            if list(_payloads(self.best)).count(payload) > 1:
                _Payload(payload, functools.partial(self._replace_one, place)).shorten()

    def _replace_all(self, old: bytes, new: bytes) -> bool:
        return self.accepts(
            _map_sends(self.best, lambda _, payload: new if payload == old else payload)
        )

    def _replace_one(self, place: int, _: bytes, new: bytes) -> bool:
        return self.accepts(
            _map_sends(self.best, lambda at, payload: new if at == place else payload)
        )

    def _simpler_steps(self) -> None:
        for index, conversation in enumerate(self.best.conversations):
            for place, step in enumerate(conversation.steps):
                if isinstance(step, Pause):
                    self._simpler_pause(index, place, step.ms)
                elif isinstance(step, SlowRead):
                    for rate in (10**9, 10**8, 10**7, 10**6, 10**5):
                        if rate > step.rate and self._step(index, place, SlowRead(rate)):
                            break

    def _simpler_pause(self, index: int, place: int, high: int) -> None:
        if self._step(index, place, Await()):
            return
        low, top = 0, bisect.bisect_left(_PAUSES, high)
        while low < top:
            middle = (low + top) // 2
            if self._step(index, place, Pause(_PAUSES[middle])):
                top = middle
            else:
                low = middle + 1

    def _step(self, index: int, place: int, step: Step) -> bool:
        steps = list(self.best.conversations[index].steps)
        steps[place] = step
        return self.accepts(self._with(index, steps) or self.best)


class _Payload:
    """One payload on its way to the shortest that fails.

    Args:
        payload: the payload.
        replace: called with the payload as it is and another; puts the other one in its place
            and tells whether it was kept.
    """

    def __init__(self, payload: bytes, replace: Callable[[bytes, bytes], bool]) -> None:
        self.now = payload
        self._replace = replace

    def shorten(self) -> None:
        """Shorten it, simplify its bytes, and leave out those that do not matter."""
        if self.now.count(0) == len(self.now) or self._try(bytes(len(self.now))):
            self._shorten_zeros(0, len(self.now))
            return
        # Which bytes matter? First what is around them, then what is between.
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
        """The smallest size for which ``make(size)`` fails, as far as bisection can tell."""
        low = 0
        for size in (1, 2, 3):
            if size >= high:
                return high
            if self._try(make(size)):
                return size
            low = size
        while high - low > 1:
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
        # A fault at one size only is out of reach for bisection.
        for size in _NEAR:
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


_NEAR = sorted({b + d for b in BOUNDARIES for d in (-1, 0, 1) if b + d > 3})


def _payloads(session: Session) -> list[bytes]:
    return [
        step.payload
        for conversation in session.conversations
        for step in conversation.steps
        if isinstance(step, Send)
    ]


def _map_sends(session: Session, change: Callable[[int, bytes], bytes]) -> Session:
    """``session`` with each payload replaced by ``change(place, payload)``."""
    place = -1

    def mapped(step: Step) -> Step:
        nonlocal place
        if not isinstance(step, Send):
            return step
        place += 1
        payload = change(place, step.payload)
        return step if payload is step.payload else Send(payload)

    return Session(
        tuple(Conversation(tuple(map(mapped, c.steps))) for c in session.conversations),
        session.sequential,
    )


def _zero_runs(payload: bytes) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(rb"\0{2,}", payload)]


def _merged(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The same bytes in fewer sends: all in one, then those next to each other in one."""
    sends = [step.payload for step in steps if isinstance(step, Send)]
    if len(sends) < 2:
        return
    last = steps[-1]
    one = Send(b"".join(sends))
    yield [one]
    if not isinstance(last, Send):
        yield [one, last]
    grouped: list[Step] = []
    for step in steps:
        if isinstance(step, Send) and grouped and isinstance(grouped[-1], Send):
            step = Send(grouped.pop().payload + step.payload)  # type: ignore[union-attr]  # a Send
        grouped.append(step)
    yield grouped


def contains(session: Session, shorter: Session) -> bool:
    """Whether ``shorter`` can be had from ``session`` by leaving out and simplifying.

    If so, a failure of ``session`` is taken for the one that ``shorter`` shows already. A 00 in
    ``shorter`` stands for any byte, as shrinking simplifies every byte that does not matter.
    """
    left = iter(session.conversations)
    return all(any(_holds(whole, part) for whole in left) for part in shorter.conversations)


def _holds(whole: Conversation, part: Conversation) -> bool:
    steps = list(whole.steps)
    wanted = list(part.steps)
    if wanted and isinstance(wanted[-1], HalfClose):
        wanted.pop()  # an end with FIN is every conversation's end, said or not
    rest = b""
    for step in wanted:
        if isinstance(step, Send):
            # Several sends may stand for one: joining them is a simplification too.
            match = None
            while match is None:
                match = _pattern(step.payload).search(rest)
                if match is None:
                    sends = [i for i, other in enumerate(steps) if isinstance(other, Send)]
                    if not sends:
                        return False
                    found = steps[sends[0]]
                    assert isinstance(found, Send)
                    rest += found.payload
                    del steps[: sends[0] + 1]
            rest = rest[match.end() :]
            continue
        kinds = [type(other) for other in steps]
        if type(step) not in kinds:
            return False
        del steps[: kinds.index(type(step)) + 1]
        rest = b""
    return True


def _pattern(payload: bytes) -> re.Pattern[bytes]:
    parts = []
    for match in re.finditer(rb"\0+|[^\0]+", payload):
        piece = match[0]
        parts.append(b".{%d}" % len(piece) if piece[0] == 0 else re.escape(piece))
    return re.compile(b"".join(parts), re.DOTALL)
