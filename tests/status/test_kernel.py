"""What the kernel counts of full listen queues."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from echoproto.status.kernel import ListenDrops, read_drops

NETSTAT = (
    "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPRenoFailures\n"
    "TcpExt: 1 20 300 4000\n"
    "IpExt: InNoRoutes ListenDrops\n"
    "IpExt: 5 6\n"
)


def test_the_counters_are_found_by_name(tmp_path: Path) -> None:
    file = tmp_path / "netstat"
    file.write_text(NETSTAT)
    assert read_drops(file) == ListenDrops(20, 300, 1)
    assert ListenDrops(20, 300, 1) - ListenDrops(5, 100, 0) == ListenDrops(15, 200, 1)


@pytest.mark.parametrize(
    "content", ["", "TcpExt: ListenOverflows\nTcpExt: 1\n", "IpExt: a\nIpExt: 1\n", "TcpExt: x\n"]
)
def test_what_is_not_there_is_not_known(tmp_path: Path, content: str) -> None:
    file = tmp_path / "netstat"
    assert read_drops(file) is None
    file.write_text(content)
    assert read_drops(file) is None


def test_numbers_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "netstat"
    file.write_text("TcpExt: ListenOverflows ListenDrops SyncookiesSent\nTcpExt: many 1 2\n")
    assert read_drops(file) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has it")
def test_this_kernel_tells() -> None:
    drops = read_drops()
    assert drops is not None
    assert 0 <= drops.overflows <= drops.drops
