"""How many cores a control group allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from echoproto.workers.process import cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        (None, {}, 8),
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        # The tightest of a group and those around it.
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3),
        # A container that sees the host's path, and its own group at the top.
        ("0::/host/pod\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/../../pod\n", {"cpu.max": "200000 100000"}, 2),
        # Version 1.
        (
            "4:cpu,cpuacct:/a\n1:name=systemd:/\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/cpu.cfs_period_us": "1e5"},
            8,
        ),
        (
            "4:cpu,cpuacct:/a\n1:name=systemd:/\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000"}, 3),
        ("5:cpuset:/\n", {"cpu.max": "100000 100000"}, 8),
        # What is no such file.
        ("0::/\n", {"cpu.max": ""}, 8),
        ("0::/\n", {"cpu.max": "1 2 3"}, 8),
        ("0::/\n", {"cpu.max": "100000 0"}, 8),
        ("nonsense\n", {"cpu.max": "max"}, 8),
    ],
)
def test_the_cores(
    tmp_path: Path, cgroup: str | None, files: dict[str, str], expected: int
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    if cgroup is not None:
        (proc / "cgroup").write_text(cgroup)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    assert cores(proc, root) == expected
