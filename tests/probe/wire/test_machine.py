from __future__ import annotations

from pathlib import Path

from echoproto.probe.wire.machine import Machine

TEXT = """\
TcpExt: SyncookiesSent TCPAbortOnMemory TCPAbortOnTimeout
TcpExt: 5 {aborts} 7
IpExt: InNoRoutes TCPAbortOnMemory
IpExt: 1 99
"""


def test_memory_that_runs_out_is_this_machines_trouble(tmp_path: Path) -> None:
    netstat = tmp_path / "netstat"
    netstat.write_text(TEXT.format(aborts=3))
    machine = Machine(netstat)
    assert machine.trouble() is None
    netstat.write_text(TEXT.format(aborts=5))
    assert machine.trouble() == (
        "this machine is out of memory for sockets (net.ipv4.tcp_mem): TCPAbortOnMemory rose by 2"
    )


def test_a_system_without_the_counters_has_no_trouble_to_see(tmp_path: Path) -> None:
    assert Machine(tmp_path / "missing").trouble() is None
    (tmp_path / "garbled").write_text("TcpExt:\n")
    assert Machine(tmp_path / "garbled").trouble() is None
