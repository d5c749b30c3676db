"""The kernel's counters of full listen queues."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The network namespace of this process.
_NETSTAT = Path("/proc/self/net/netstat")

_COUNTERS = ("ListenOverflows", "ListenDrops", "SyncookiesSent")


@dataclass(frozen=True)
class ListenDrops:
    """Handshakes over the limit, of all listening sockets of this network namespace.

    :ivar overflows: ``ListenOverflows``: dropped, because the accept queue was full.
    :ivar drops: ``ListenDrops``: dropped, for that reason or another.
    :ivar cookies: ``SyncookiesSent``: answered with a cookie, because the SYN queue was full.
    """

    overflows: int
    drops: int
    cookies: int

    def __sub__(self, earlier: ListenDrops) -> ListenDrops:
        """Return what was counted since an earlier reading."""
        return ListenDrops(
            self.overflows - earlier.overflows,
            self.drops - earlier.drops,
            self.cookies - earlier.cookies,
        )


def read_drops(netstat: Path = _NETSTAT) -> ListenDrops | None:
    """Read the kernel's counters, which begin with the network namespace.

    :param netstat: the file, whose lines come in pairs: names, then numbers
        (``netstat_seq_show()`` in net/ipv4/proc.c).
    :returns: ``None`` where there is no such file, or it lacks them.
    """
    try:
        lines = netstat.read_text().splitlines()
    except OSError:
        return None
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            found = dict(zip(names.split(), numbers.split(), strict=False))
            try:
                return ListenDrops(*(int(found[name]) for name in _COUNTERS))
            except (KeyError, ValueError):
                return None
    return None
