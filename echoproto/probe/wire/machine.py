"""The kernel's counters of this machine's own trouble, which must not pass for the path's."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Machine"]

_NETSTAT = Path("/proc/net/netstat")

_TROUBLE = {"TCPAbortOnMemory": "out of memory for sockets (net.ipv4.tcp_mem)"}
"""Counters of TcpExt (Linux: Documentation/networking/snmp_counter.rst), and what each means."""


class Machine:
    """What the counters were in the beginning, compared with what they are.

    Args:
        netstat: the file; on systems without it there is no trouble to see.
    """

    def __init__(self, netstat: Path = _NETSTAT) -> None:
        self._netstat = netstat
        self._before = self._counters()

    def trouble(self) -> str | None:
        """Return what this machine ran out of since the beginning, in words; None for nothing."""
        now = self._counters()
        for name, words in _TROUBLE.items():
            count = now.get(name, 0) - self._before.get(name, 0)
            if count > 0:
                return f"this machine is {words}: {name} rose by {count}"
        return None

    def _counters(self) -> dict[str, int]:
        try:
            lines = [line.split() for line in self._netstat.read_text().splitlines()]
        except OSError:
            return {}
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            if names[:1] == ["TcpExt:"]:
                pairs = zip(names, values, strict=False)
                return {name: int(value) for name, value in pairs if name in _TROUBLE}
        return {}
