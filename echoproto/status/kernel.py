"""What the kernel counts of full listen queues."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The network namespace of this process.
_NETSTAT = Path("/proc/self/net/netstat")


@dataclass(frozen=True)
class ListenDrops:
    """Handshakes that a listening socket of this network namespace dropped.

    :ivar overflows: ``ListenOverflows``: the accept queue was full.
    :ivar drops: ``ListenDrops``: for that reason or another.
    """

    overflows: int
    drops: int

    def __sub__(self, earlier: ListenDrops) -> ListenDrops:
        """Return what came since an earlier reading."""
        return ListenDrops(self.overflows - earlier.overflows, self.drops - earlier.drops)


def read_drops(netstat: Path = _NETSTAT) -> ListenDrops | None:
    """Read the kernel's counters, which begin with the network namespace.

    :param netstat: the file, whose lines come in pairs: names, then numbers
        (``netstat_seq_show()`` in net/ipv4/proc.c).
    :returns: ``None`` where there is no such file, or it says nothing of them.
    """
    try:
        lines = netstat.read_text().splitlines()
    except OSError:
        return None
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            found = dict(zip(names.split(), numbers.split(), strict=False))
            try:
                return ListenDrops(int(found["ListenOverflows"]), int(found["ListenDrops"]))
            except (KeyError, ValueError):
                return None
    return None
