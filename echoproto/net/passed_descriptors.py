"""How often clients passed descriptors over UNIX sockets to this process.

An echo has no use for descriptors (``SCM_RIGHTS`` in ``unix(7)``). They are closed, and
counted: they show a client that takes this for something else, or an attack.
"""

from __future__ import annotations

_total = 0


def count() -> None:
    """Count one message that had descriptors with it."""
    global _total
    _total += 1


def total() -> int:
    """Return how many messages had descriptors with them."""
    return _total
