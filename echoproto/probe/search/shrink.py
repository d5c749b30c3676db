"""From a session that fails to the shortest one that does.

Hypothesis can shrink only what it drew itself. Here a failure may come from the catalogue, a file
or the command line, may be flaky, and costs a timeout for each candidate that fails. So the
session itself is shrunk, whatever its origin.

Each pass proposes sessions that are shorter by :func:`length`. The ones that still fail are kept,
and the passes start over until none of them makes progress.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from echoproto.probe.script.conversation import (
    Absent,
    Await,
    Conversation,
    ConversationError,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Step,
    Urgent,
    key_of,
)
from echoproto.probe.search.edits import map_sends, merged, payloads
from echoproto.probe.search.shrink_payload import PayloadShrinker

__all__ = ["length", "shrink"]

_RANK: dict[type[Step], int] = {
    Send: 0, Await: 1, HalfClose: 1, Urgent: 1, Reset: 2, Pause: 3, SlowRead: 4, Hold: 4, Absent: 5
}  # fmt: skip

_T = TypeVar("_T")

# Most faults that affect everything fail one of these; then nothing else has to be tried.
_SHORTEST = tuple(
    map(
        Session.parse,
        ("nothing", "fin", "reset", "send 00", "send 00; await", "send 00; fin", "send 00; reset"),
    )
)

# The same for faults that need two conversations. Their order matters, and removing steps alone
# would never reverse it.
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

# From so many conversations on, their number may be what matters.
_CROWD = 5

# A device's timeout is a round number of milliseconds. A pause of exactly this length is flaky,
# so these are a tenth longer.
_PAUSES = (1, 2, 3, 6, 11, 22, 33, 44, 55, 83, 110, 165, 220, 275, 330, 440, 550, 1100, 2200, 5500)


def _crowd(count: int) -> Session:
    """Return so many conversations that are all open until each has its answer."""
    return Session((Conversation((Send(b"\0"), Await())),) * count)


def length(session: Session) -> tuple[int, ...]:
    """Return the key by which sessions are compared.

    In this order: fewer conversations, fewer steps, fewer bytes, more of them 00, lower ones,
    simpler steps, shorter pauses, faster reading.
    """
    steps = [step for conversation in session.conversations for step in conversation.steps]
    sent = [step.payload for step in steps if isinstance(step, Send)]
    return (
        len(session.conversations),
        len(steps),
        sum(map(len, sent)),
        sum(len(payload) - payload.count(0) for payload in sent),
        sum(sum(payload) for payload in sent if len(payload) <= 4096),
        sum(_RANK[type(step)] for step in steps),
        sum(step.ms for step in steps if isinstance(step, Pause | Hold)),
        -min((step.rate for step in steps if isinstance(step, SlowRead)), default=0),
    )


def shrink(session: Session, fails: Callable[[Session], bool], more: Callable[[], bool]) -> Session:
    """Return the shortest session found that still fails.

    Args:
        session: one that fails.
        fails: runs a session and returns whether it fails; called once for each.
        more: returns whether there is time for another candidate.
    """
    return _Shrinker(session, fails, more).run()


class _TimeIsUpError(Exception):
    """There is no time for another candidate, nor to make one: that may be megabytes."""


class _Shrinker:
    def __init__(
        self, session: Session, fails: Callable[[Session], bool], more: Callable[[], bool]
    ) -> None:
        self.best = session
        self._fails = fails
        self._more = more
        # The hashes only: thousands of candidates of a megabyte each would fill the memory.
        self._asked = {key_of(session)}

    def run(self) -> Session:
        with contextlib.suppress(_TimeIsUpError):
            self._run()
        return self.best

    def _run(self) -> None:
        shortest = _SHORTEST
        if len(self.best.conversations) > 1:
            shortest += _SHORTEST_IN_TURN if self.best.sequential else _SHORTEST_AT_ONCE
        any(self.accepts(candidate) for candidate in shortest)
        self._shorter_holds()
        if self._smaller_crowd():
            return
        before = None
        while before != self.best:
            before = self.best
            self._fewer_conversations()
            for index in reversed(range(len(self.best.conversations))):
                self._fewer_steps(index)
            self._shorter_payloads()
            self._simpler_steps()

    def accepts(self, candidate: Session) -> bool:
        """Keep ``candidate`` if it is shorter and fails; return whether it was kept."""
        key = key_of(candidate)
        if key in self._asked or length(candidate) >= length(self.best):
            return False
        if not self._more():
            raise _TimeIsUpError
        self._asked.add(key)
        if self._fails(candidate):
            self.best = candidate
            return True
        return False

    def _smaller_crowd(self) -> bool:
        """Find the number at which a limit is, with equal conversations; return whether it did."""
        count = len(self.best.conversations)
        if count < _CROWD or self.best.sequential or not self.accepts(_crowd(count)):
            return False
        low = 1
        while count - low > 1:
            middle = (low + count) // 2
            if self.accepts(_crowd(middle)):
                count = middle
            else:
                low = middle
        return count >= _CROWD

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
        for fewer in merged(steps):
            self.accepts(self._with(index, fewer) or self.best)
        self._delete(
            lambda: self.best.conversations[index].steps, lambda kept: self._with(index, kept)
        )
        # Join two sends, at each place.
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
        """Return the best session with other steps in one conversation, if they are valid."""
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
        """Leave out groups of items: halves first, then quarters, down to single ones."""
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

    # Payloads: all equal ones together, since two that must be equal cannot be changed separately.

    def _shorter_payloads(self) -> None:
        holds = any(isinstance(step, Hold) for c in self.best.conversations for step in c.steps)
        for payload in sorted(set(payloads(self.best)), key=len, reverse=True):
            if payload in set(payloads(self.best)):
                PayloadShrinker(payload, self._replace_all, holds).shorten()
        for place, payload in enumerate(list(payloads(self.best))):
            if list(payloads(self.best)).count(payload) > 1:
                PayloadShrinker(payload, functools.partial(self._replace_one, place)).shorten()

    def _replace_all(self, old: bytes, new: bytes) -> bool:
        return self.accepts(
            map_sends(self.best, lambda _, payload: new if payload == old else payload)
        )

    def _replace_one(self, place: int, _: bytes, new: bytes) -> bool:
        return self.accepts(
            map_sends(self.best, lambda at, payload: new if at == place else payload)
        )

    def _simpler_steps(self) -> None:
        for index, conversation in enumerate(self.best.conversations):
            for place, step in enumerate(conversation.steps):
                if isinstance(step, Urgent):
                    self._step(index, place, Send(step.payload))
                elif isinstance(step, Send) and 0 < place < len(conversation.steps) - 1:
                    # Writes that follow each other may arrive as one.
                    self._step(index, place, Await())
                elif isinstance(step, Pause):
                    self._simpler_pause(index, place, step.ms)
                elif isinstance(step, SlowRead):
                    for rate in (10**9, 10**8, 10**7, 10**6, 10**5):
                        if rate > step.rate and self._step(index, place, SlowRead(rate)):
                            break

    def _shorter_holds(self) -> None:
        """Shorten all together, and before anything else: each run takes as long as they do."""
        steps = [step for c in self.best.conversations for step in c.steps]
        high = max((step.ms for step in steps if isinstance(step, Hold)), default=0)
        self._shortest_time(high, self._holding)

    def _holding(self, ms: int) -> bool:
        return self.accepts(
            Session(
                tuple(
                    Conversation(tuple(Hold(ms) if isinstance(s, Hold) else s for s in c.steps))
                    for c in self.best.conversations
                ),
                self.best.sequential,
            )
        )

    def _simpler_pause(self, index: int, place: int, high: int) -> None:
        if not self._step(index, place, Await()):
            self._shortest_time(high, lambda ms: self._step(index, place, Pause(ms)))

    def _shortest_time(self, high: int, accepts: Callable[[int], bool]) -> None:
        low, top = 0, bisect.bisect_left(_PAUSES, high)
        while low < top:
            middle = (low + top) // 2
            if accepts(_PAUSES[middle]):
                top = middle
            else:
                low = middle + 1

    def _step(self, index: int, place: int, step: Step) -> bool:
        steps = list(self.best.conversations[index].steps)
        steps[place] = step
        return self.accepts(self._with(index, steps) or self.best)
