"""Cases of the catalogue that need time, numbers or many bytes, after all others."""

from __future__ import annotations

__all__ = ["CROWD", "TIMED"]

CROWD = "a crowd"
"""The name of the case whose number of connections can be chosen."""

# Sizes that fill what a relay keeps for a client, 64 KiB for a start, and little more: the end of a
# longer stream comes to the relay only once the client reads.
_SIZES = [60_240 * step for step in range(1, 9)]

TIMED: tuple[tuple[str, str, str], ...] = (
    ("readers that hold, after FIN",
     " | ".join(f"hold 700; send (00..fa)*{size // 251}; fin" for size in _SIZES),
     "Some time after the FIN of either side a relay closes with what its client has not taken."),
    ("a reader that holds, of more than the kernels hold", "hold 700; send (00..fa)*18500",
     "A tunnel gives up a client that takes nothing, by a timeout for writes."),
    ("FIN, then a reader that holds", "send (00..fa)*1200; fin; hold 700",
     "A proxy with a timeout for half-closed connections takes a client that reads late for dead."),
    # Numbers.
    ("a stream of twenty megabytes", "send (00..fa)*80000",
     "A TCP stack in user space stalls once a counter or a window is used up, at 16 MB often."),
    (CROWD, " | ".join(["send 61; await"] * 64),
     "A forwarder with a fixed number of slots lets the next connection wait for ever."),
    ("a time without any connection", "send 61; await then absent 2200; send 61; await",
     "A proxy hands a client one of its connections to the server, which has closed it by then."),
)  # fmt: skip
"""The name of each, its session, and why."""
