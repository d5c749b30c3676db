"""What a path does that answers so many connections, and none after them."""

from __future__ import annotations

from echoproto.probe.search.explain.explanation import Effect, Explanation, Suspect
from echoproto.probe.wire.verdict import Fault

__all__ = ["explain_stop"]

_EFFECTS = {
    Fault.RESET: (Effect.RESET, "resets"),
    Fault.REFUSED: (Effect.REFUSED, "refuses"),
    Fault.TRUNCATED: (Effect.TRUNCATED, "closes"),
    Fault.STALLED: (Effect.WITHHELD, "sends nothing back on"),
    Fault.NEVER_CLOSED: (Effect.WITHHELD, "sends nothing back on"),
}

_ONE = Suspect(
    "a listener that serves one client and ends (nc -l)", "nc -k, or restart it", "nc(1)"
)
_USED_UP = Suspect(
    "slots or descriptors that are not released",
    "count its descriptors (ls /proc/PID/fd) while connections come and go",
    "getrlimit(2), RLIMIT_NOFILE",
)

# A table of so many slots, of which some are taken before the first client comes.
_TABLES = [2**power for power in range(6, 17)] + [100, 500, *range(1000, 10_001, 1000)]


def explain_stop(kind: Fault, count: int, conversations: int) -> Explanation | None:
    """Return what was seen, as an explanation; it does not say that the number is the cause.

    Args:
        kind: of the failure that each connection shows since then.
        count: how many connections there were before.
        conversations: how many were run since then.
    """
    if kind not in _EFFECTS or not count:
        return None
    effect, does = _EFFECTS[kind]
    first = "one" if count == 1 else f"{count}"
    return Explanation(
        text=f"{does} every connection after the first {first}",
        effect=effect,
        after_connections=count,
        suspects=_suspects(count),
        conversations=conversations,
    )


def _suspects(count: int) -> tuple[Suspect, ...]:
    if count == 1:
        return (_ONE,)
    # With a connection to a server for each client, half as many fill the table.
    for used in (count, 2 * count):
        if any(0 <= table - used <= min(16, table // 8) for table in _TABLES):
            return (_USED_UP,)
    return ()
