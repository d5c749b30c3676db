"""The CPU quota of this process's control groups, which the affinity does not show.

A container is limited so: Docker's ``--cpus``, Kubernetes' ``limits.cpu``, systemd's
``CPUQuota=``.

Sources: ``cgroups(7)``; Documentation/admin-guide/cgroup-v2.rst (``cpu.max``);
Documentation/scheduler/sched-bwc.rst (``cpu.cfs_quota_us``, ``cpu.cfs_period_us``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath


def cpu_quota(proc: Path, root: Path) -> float | None:
    """Return the lowest quota of the control groups that this process is in, in cores.

    :param proc: where the kernel tells of this process, ``/proc/self``.
    :param root: where control groups are mounted, ``/sys/fs/cgroup``.
    :returns: ``None`` without a quota, and where that cannot be read.
    """
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return None
    quotas: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            quotas += _quotas(root, path, _v2)
        elif "cpu" in controllers.split(","):
            for mounted in ("cpu", controllers):
                quotas += _quotas(root / mounted, path, _v1)
    return min(quotas, default=None)


def _quotas(top: Path, path: str, read: Callable[[Path], tuple[int, int]]) -> Iterator[float]:
    """Yield the quotas of a group and of those that it is in.

    In a container the path may be that of the host, of which only the end is mounted, at
    the top.
    """
    relative = PurePosixPath(path.lstrip("/"))
    for each in (relative, *relative.parents):
        if ".." in each.parts:
            continue
        try:
            quota, period = read(top / each)
            if quota > 0 and period > 0:
                yield quota / period
        except (OSError, ValueError):
            continue


def _v2(group: Path) -> tuple[int, int]:
    quota, period = (group / "cpu.max").read_text().split()
    return (0 if quota == "max" else int(quota)), int(period)


def _v1(group: Path) -> tuple[int, int]:
    return (
        int((group / "cpu.cfs_quota_us").read_text()),
        int((group / "cpu.cfs_period_us").read_text()),
    )
