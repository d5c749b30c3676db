"""Sessions that wait of their own accord, held beside all others.

A path that forgets a silent connection shows it only to one that is silent for long enough. Such
sessions take no place in the window, and the phases do not wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from echoproto.probe.script.conversation import Await, Conversation, Pause, Send, Session
from echoproto.probe.search.plan import Planned
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.result import Phase

__all__ = ["IDLE_SECONDS", "LENGTHS", "idle_lengths", "idle_sessions", "not_held"]

LENGTHS = (0.3, 1, 2, 5, 10, 30, 60, 120, 240, 350, 600)
"""For how many seconds a connection is silent: the usual timeouts of devices, and between them."""

IDLE_SECONDS = 5.0
"""The longest of those that are tried without being asked for."""

# The path's timeout is the length itself, often, and a silence of exactly that is flaky.
_LONGER = 1.1


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
            "without a byte",
            silent(send, round(1000 * _LONGER * length)),
        )
        for length in idle_lengths(most)
    ]


def silent(send: Send, ms: int) -> Session:
    """Return an echo, a silence of so many milliseconds, and another echo."""
    return Session((Conversation((send, Await(), Pause(ms), send, Await())),))


def not_held(sessions: Sequence[Planned], why: str) -> str:
    """Return which silences were not tried, and why, as a line.

    Args:
        sessions: at least one, the shortest first.
        why: in words.
    """
    more = " or more" if len(sessions) > 1 else ""
    return f"not tried: connections without a byte for {sessions[0].name}{more} ({why})"
