"""Sessions that wait of their own accord, held beside all others.

A path that forgets a silent connection shows it only to one that is silent for long enough, and one
that gives up a client that takes nothing, to a client that takes nothing for long enough. Such
sessions take no place in the window, and the phases do not wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Hold,
    Pause,
    Send,
    Session,
)
from echoproto.probe.search.plan import Planned
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.result import Phase

__all__ = ["IDLE_SECONDS", "LENGTHS", "held_sessions", "idle_lengths", "idle_sessions", "not_held"]

LENGTHS = (0.3, 1, 2, 5, 10, 30, 60, 120, 240, 350, 600)
"""For how many seconds a connection is silent: the usual timeouts of devices, and between them."""

IDLE_SECONDS = 5.0
"""The longest of those that are tried without being asked for."""

# The path's timeout is the length itself, often, and a silence of exactly that is flaky.
_LONGER = 1.1
# And it begins to count once its buffers are full.
_HELD_LONGER = 1.2

_SILENT, _HELD, _AFTER = "without a byte", "without reading", " after FIN"

# What a relay cannot hand over to the kernels, and what it still has to when the FIN comes.
_MORE_THAN_BUFFERS = Send(bytes(range(251)) * 18_500)
_MORE_THAN_ONE_BUFFER = Send(bytes(range(251)) * 1200)


def idle_lengths(most: float | None) -> list[float]:
    """Return the lengths to try, in seconds.

    Args:
        most: what was asked for; None for :data:`IDLE_SECONDS`. It is one of them.
    """
    most = IDLE_SECONDS if most is None else most
    return sorted({length for length in LENGTHS if length <= most} | {most})


def idle_sessions(known: Preflight, most: float | None) -> list[Planned]:
    """Return a session for each length: an echo, a silence, and both directions once more.

    There are none for a path that brings no answer before the FIN.

    Args:
        known: what the preflight found.
        most: as for :func:`idle_lengths`.
    """
    steps = known.check.steps
    if not isinstance(steps[-1], Await):
        return []
    send = Send(known.check.payload)
    return [
        Planned(
            Phase.IDLE,
            f"{length:g} s",
            _SILENT,
            silent(send, round(1000 * _LONGER * length)),
        )
        for length in idle_lengths(most)
    ]


def held_sessions(known: Preflight, most: float | None, bytes_at_once: float) -> list[Planned]:
    """Return sessions whose reader takes nothing for a while: with a FIN on its way, and without.

    Args:
        known: what the preflight found.
        most: as for :func:`idle_lengths`. Each takes memory on the path, so that there are only
            those of :data:`IDLE_SECONDS`, and of this.
        bytes_at_once: how many bytes the path carries at once. What is more is left out.
    """
    if not isinstance(known.check.steps[-1], Await):
        return []
    most = IDLE_SECONDS if most is None else most
    planned = []
    for length in sorted({min(most, IDLE_SECONDS), most}):
        hold = Hold(round(1000 * _HELD_LONGER * length))
        plain = Conversation((hold, _MORE_THAN_BUFFERS))
        after_fin = Conversation((_MORE_THAN_ONE_BUFFER, HalfClose(), hold))
        for conversation, title in ((after_fin, _HELD + _AFTER), (plain, _HELD)):
            if len(conversation.payload) <= bytes_at_once and (
                known.half_close or conversation is plain
            ):
                session = Session((conversation,))
                planned.append(Planned(Phase.IDLE, f"{length:g} s", title, session))
    return planned


def silent(send: Send, ms: int) -> Session:
    """Return an echo, a silence of so many milliseconds, and another echo."""
    return Session((Conversation((send, Await(), Pause(ms), send, Await())),))


def not_held(sessions: Sequence[Planned], why: str) -> str:
    """Return which sessions were not held, and why, as a line.

    Args:
        sessions: at least one, those of each kind from the shortest on.
        why: in words.
    """
    kinds: dict[str, dict[str, None]] = {}
    for planned in sessions:
        kinds.setdefault(planned.title.removesuffix(_AFTER), {})[planned.name] = None
    words = [
        f"{kind} for {next(iter(names))}{' or more' if len(names) > 1 else ''}"
        for kind, names in kinds.items()
    ]
    return f"not tried: connections {' or '.join(words)} ({why})"
