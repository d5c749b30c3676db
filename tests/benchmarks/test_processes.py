"""Server processes: their port, CPU time and memory, those of their children, their end."""

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import (
    Cores,
    Server,
    ServerError,
    descendants,
    pinned,
    resident,
    usage,
)

LISTENS = "print('listening on 127.0.0.1:4711', flush=True)\n"
WAITS = "import time\ntime.sleep(600)\n"
# print writes a line in two parts where PYTHONUNBUFFERED is set, and another process in between.
LINE = "def line(text):\n    os.write(1, f'{text}\\n'.encode())\n"
BURNS = """
import os, time
def burn(seconds):
    while time.process_time() < seconds:
        sum(range(10_000))
"""


def python(code: str, timeout: float = 20.0) -> Server:
    return Server("the server", [sys.executable, "-c", code], {}, None, timeout)


def wait_for_output(server: Server, text: str, count: int = 1) -> None:
    deadline = time.monotonic() + 20
    while server.output().count(text) < count:
        assert time.monotonic() < deadline, server.output()
        time.sleep(0.01)


def gone(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.parametrize(
    "line",
    [
        "listening on 127.0.0.1:4711",
        "2026-11-23T06:03:00+0000 [-] listening on 127.0.0.1:4711; accept queue 4096",
        "Ncat: Listening on 127.0.0.1:4711",
        "2026/11/23 06:25:47 socat[26410] N listening on AF=2 127.0.0.1:4711",
    ],
)
def test_the_port_is_read_from_what_it_prints(line: str) -> None:
    with python(f"print({line!r}, flush=True)\n{WAITS}") as server:
        server.wait_listening()
        assert server.port == 4711


def test_a_server_that_ends_at_once() -> None:
    with (
        python("import sys; sys.exit('no such thing')") as server,
        pytest.raises(ServerError, match=r"the server ended with 1:\nno such thing"),
    ):
        server.wait_listening()


def test_a_server_that_never_listens() -> None:
    with (
        python(f"print('hm', flush=True)\n{WAITS}", timeout=0.5) as server,
        pytest.raises(ServerError, match=r"the server does not listen after 0\.5 s"),
    ):
        server.wait_listening()


def test_stopping_ends_its_children_too() -> None:
    code = f"import os\nchild = os.fork()\n{LINE}line(child or 'forked')\n{WAITS}"
    with python(code) as server:
        # Either of them may be the first to print.
        wait_for_output(server, "forked\n")
        wait_for_output(server, "\n", count=2)
        child = int(server.output().replace("forked", ""))
        assert descendants(server.pid) == [server.pid, child]
        assert not gone(child)
    deadline = time.monotonic() + 5
    while not gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.stop()  # once more does no harm


def test_cpu_time_of_the_living() -> None:
    with python(f"{BURNS}\nburn(0.3)\nprint('burnt', flush=True)\n{WAITS}") as server:
        wait_for_output(server, "burnt")
        used = usage(server.pid)
    assert 0.3 <= used.cpu < 0.4
    assert used.user + used.system == pytest.approx(used.cpu, abs=0.03)
    assert used.user > used.system


def test_cpu_time_of_children_counts_while_they_live_and_after() -> None:
    code = (
        f"{BURNS}\nif not os.fork():\n    burn(0.5)\n    os._exit(0)\nos.wait()\n"
        f"if not os.fork():\n    burn(0.5)\n    print('burnt', flush=True)\n    time.sleep(600)\n"
        f"{WAITS}"
    )
    with python(code) as server:
        wait_for_output(server, "burnt")
        used = usage(server.pid).cpu
    # Each once, and what Python takes to start.
    assert 0.98 <= used < 1.4


def test_usage_of_no_process() -> None:
    with python(WAITS) as server:
        pid = server.pid
    with pytest.raises(ProcessLookupError):
        usage(pid)


def test_memory() -> None:
    with python(f"print('small', flush=True)\n{WAITS}") as small:
        wait_for_output(small, "small")
        before = resident(small.pid)
    with python(f"x = b'1' * 50_000_000\nprint('large', flush=True)\n{WAITS}") as large:
        wait_for_output(large, "large")
        after = resident(large.pid)
    assert after - before == pytest.approx(50_000_000, rel=0.05)


def test_memory_that_is_shared_with_children_counts_once() -> None:
    code = f"x = b'1' * 50_000_000\nimport os\nos.fork()\n{LINE}line('forked')\n{WAITS}"
    with python(code) as server:
        wait_for_output(server, "forked\nforked")
        assert 50_000_000 < resident(server.pid) < 90_000_000


def test_waiting_until_it_is_idle() -> None:
    with python(f"{BURNS}\nprint('burning', flush=True)\nburn(0.4)\n{WAITS}") as server:
        wait_for_output(server, "burning")
        server.wait_idle()
        assert usage(server.pid).cpu >= 0.4


def test_waiting_for_one_that_never_rests() -> None:
    with (
        python(f"{BURNS}\nburn(600)") as server,
        pytest.raises(ServerError, match="the server is busy"),
    ):
        server.wait_idle(timeout=0.5)


def test_waiting_for_one_that_died() -> None:
    with python("pass") as server:
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ServerError, match="the server ended with 0"):
            server.wait_idle()


def test_pinning_holds_for_processes_started_in_the_block() -> None:
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    with Server("pinned", [sys.executable, "-c", WAITS], {}, core) as server:
        assert os.sched_getaffinity(server.pid) == {core}
    assert os.sched_getaffinity(0) == allowed
    with pinned(None):
        assert os.sched_getaffinity(0) == allowed


def test_cores_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 2, 3})
    assert Cores.allowed() == Cores(server=5, load=2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2})
    assert Cores.allowed() == Cores(None, None)
