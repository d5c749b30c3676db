"""What besides the bytes matters: fin, reset, await, pause, a slow reader, writes, connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from echoproto.probe.script.conversation import (
    Await,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Step,
)
from echoproto.probe.search.explain.explanation import Need
from echoproto.probe.search.explain.findings import Findings
from echoproto.probe.search.explain.frame import Frame
from echoproto.probe.search.explain.lab import Lab

__all__ = ["find_fin", "find_needs", "roundest"]

# Long enough for two writes to be read separately, in milliseconds.
_APART_MS = 20
# A fault that only needs writes to be apart, but still close, is gone with a pause of this length.
_LONGER_MS = 100
# How close a pause's threshold is found: to this part of it, or so many milliseconds.
_CLOSE, _CLOSE_MS = 0.04, 2
# What fills the buffers of the path, before it begins to count, takes part of the time.
_LAG = 0.05
# A pause that is longer than this is not run twice.
_SURE_MS = 300
_MOST_PAUSE = 60_000


def find_needs(lab: Lab, frame: Frame, found: Findings) -> None:
    """Find out which steps of the session the fault needs.

    A step is needed if the session passes without it.
    """
    session = frame.session
    found.in_turn = session.sequential
    _slow_reader(lab, frame, found)
    if Need.SLOW_READER in found.needs:
        return  # each further run would take as long as the reader
    _hold(lab, frame, found)
    if Need.HOLD in found.needs:
        find_fin(lab, frame, found)
        return
    if len(session.conversations) > 1 and not lab.fails(Session((frame.conversation,))):
        found.need(Need.SEVERAL_CONNECTIONS)
        _crowd(lab, session, found)
    for index, conversation in enumerate(session.conversations):
        steps = conversation.steps
        if steps and isinstance(steps[-1], Reset):
            without = frame.with_steps((*steps[:-1], Await()), index)
            if not lab.fails(without):
                found.need(Need.RESET)
        for at, step in enumerate(steps):
            if isinstance(step, Pause):
                _pause(lab, frame, found, index, at)
    find_fin(lab, frame, found)
    _writes(lab, frame, found)


def _crowd(lab: Lab, session: Session, found: Findings) -> None:
    """Find out whether it is the number of connections at once that matters."""
    members = session.conversations
    several = len(members) > 2 and not session.sequential and len(set(members)) == 1
    # Twice, as the path may not have noticed yet that those before have gone.
    if several and any(lab.run(Session(members[1:])).ok for _ in range(2)):
        found.connections = len(members)


def _slow_reader(lab: Lab, frame: Frame, found: Findings) -> None:
    for index, conversation in enumerate(frame.session.conversations):
        fast = [step for step in conversation.steps if not isinstance(step, SlowRead)]
        if len(fast) < len(conversation.steps) and not lab.fails(frame.with_steps(fast, index)):
            found.need(Need.SLOW_READER)


def _hold(lab: Lab, frame: Frame, found: Findings) -> None:
    steps = frame.conversation.steps
    for at, step in enumerate(steps):
        if not isinstance(step, Hold) or lab.fails(
            frame.with_steps((*steps[:at], *steps[at + 1 :]))
        ):
            continue
        found.need(Need.HOLD)
        found.hold_ms = step.ms

        def fails(ms: int, at: int = at) -> bool:
            return lab.fails(frame.with_steps((*steps[:at], Hold(ms), *steps[at + 1 :])))

        found.hold_ms = _threshold(
            step.ms, fails, lambda ms: lab.can_afford(3, 2.5 * ms / 1000), _LAG
        )


def find_fin(lab: Lab, frame: Frame, found: Findings) -> None:
    """Find out whether the fault needs a FIN."""
    steps = frame.conversation.steps
    if steps and isinstance(steps[-1], Reset):
        return
    # Written or not, most conversations end with a FIN: this one ends without.
    kept = [step for step in steps if not isinstance(step, HalfClose)]
    if not lab.fails(frame.with_steps((*kept, Await(), Pause(_APART_MS), Reset()))):
        found.need(Need.FIN)


def _writes(lab: Lab, frame: Frame, found: Findings) -> None:
    steps = frame.conversation.steps
    sends = [step for step in steps if isinstance(step, Send)]
    if len(sends) > 1:
        end = steps[-1:] if isinstance(steps[-1], Await | HalfClose | Reset) else ()
        begin = [step for step in steps if isinstance(step, SlowRead)]
        joined = (*begin, Send(b"".join(step.payload for step in sends)), *end)
        if not lab.fails(frame.with_steps(joined)):
            found.need(Need.SEVERAL_WRITES)
            found.second = len(sends) == 2
        apart = [Pause(_APART_MS) if isinstance(step, Await) else step for step in steps[:-1]]
        changed = [*apart, steps[-1]]
        if changed != list(steps) and not lab.fails(frame.with_steps(changed)):
            found.need(Need.AWAIT)
    if steps and isinstance(steps[-1], Await) and not lab.fails(frame.with_steps(steps[:-1])):
        found.need(Need.AWAIT)


def _pause(lab: Lab, frame: Frame, found: Findings, index: int, at: int) -> None:
    steps = frame.session.conversations[index].steps
    pause = steps[at]
    assert isinstance(pause, Pause)

    def fails(ms: int) -> bool:
        paused = frame.with_steps((*steps[:at], Pause(ms), *steps[at + 1 :]), index)
        # Once more: a busy machine makes a pause longer.
        return lab.fails(paused) and (ms > _SURE_MS or not lab.run(paused).ok)

    if lab.fails(frame.with_steps((*steps[:at], *steps[at + 1 :]), index)):
        return
    follows: Sequence[Step] = steps[at + 1 :]
    sent_before = any(isinstance(step, Send) for step in steps[:at])
    # Instead of the time, the order may matter.
    awaited = (*steps[:at], Await(), *follows)
    if sent_before and follows and lab.fails(frame.with_steps(awaited, index)):
        return
    longer = min(_MOST_PAUSE, pause.ms + max(_LONGER_MS, pause.ms // 2))
    if not fails(longer):
        return
    found.need(Need.PAUSE)
    found.pause_ms = pause.ms
    found.pause_ms = _threshold(pause.ms, fails, lambda ms: lab.can_afford(3, 2.5 * ms / 1000))


def _threshold(
    high: int,
    fails: Callable[[int], bool],
    affordable: Callable[[int], bool],
    lag: float = 0.0,
) -> int:
    """Return the shortest pause that fails, as the roundest number that no run contradicts.

    Args:
        high: one that fails.
        fails: runs the session with a pause of so many milliseconds.
        affordable: whether there is budget for another one of about so many.
        lag: how much later than this side the path begins to count, as a part of the pause.
    """
    low = 0
    # Shrinking ends a tenth above a round number.
    middle = int(0.88 * high)
    while high - low > max(_CLOSE_MS, _CLOSE * high) and affordable(high):
        if low < middle < high:
            if fails(middle):
                high = middle
            else:
                low = middle
        middle = (low + high) // 2
    return roundest(int((1 - lag) * low), high)


def roundest(low: int, high: int) -> int:
    """Return the roundest number from ``low`` to ``high``, or just beside them.

    The path counts from another moment than this side, and neither is on time to the millisecond.
    """
    for step in (60_000, 30_000, 10_000, 5000, 1000, 500, 100, 50, 10):
        number = -(-(low - 1) // step) * step
        if 0 < number <= high + _CLOSE_MS:
            return number
    return high
