"""Workers that hang or cannot start, and a parent that is stopped."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.conftest import Serve
from tests.system.server import (
    Server,
    eventually,
    receive_all,
    receive_exactly,
    running,
    say,
    twistd,
)
from tests.system.test_workers import all_listen, pid_of

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="this platform has no SO_REUSEPORT"
)


def ask(server: Server, path: str) -> str:
    """Return what the status answers."""
    status = int(server.wait_for(r"status on \S+:(\d+)")[1])
    with server.connect(port=status) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return receive_all(client).decode()


def test_a_worker_that_hangs_keeps_no_client_waiting(serve: Serve) -> None:
    server = serve("--workers", "2", "--worker-timeout", "0", "--status", "0")
    all_listen(server, 2)
    hanging = pid_of(server, 1)
    os.kill(hanging, signal.SIGSTOP)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(50)]
        for client in clients:
            client.sendall(b"data")
        # Those in the queue of the one that hangs are served by the other.
        for client in clients:
            assert client.recv(4) == b"data"
        server.wait_for(r"worker 1 does not answer \(no report for \d+ s\); it is left alone")
        assert ask(server, "/readyz").endswith("\r\n\r\nok; 1 of 2 workers not answering\n")
        assert 'echoproto_worker_up{process="worker 1"} 0.0' in ask(server, "/metrics")
        for _ in range(20):
            with server.connect() as client:
                assert say(client, b"new") == b"new"
        os.kill(hanging, signal.SIGCONT)
        server.wait_for("worker 1 answers again")
        # The connections go on where they are.
        for client in clients:
            assert say(client, b"more") == b"more"
    assert eventually(lambda: ask(server, "/readyz").endswith("\r\n\r\nok\n"))


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--max-connections", "100", "--max-per-source", "90"]])
def test_a_worker_that_hangs_is_killed_and_replaced(serve: Serve, more: list[str]) -> None:
    server = serve("--workers", "3", "--worker-timeout", "5", *more)
    all_listen(server, 3)
    hanging = pid_of(server, 2)
    os.kill(hanging, signal.SIGSTOP)
    server.wait_for(rf"worker 2 has not answered for \d+ s: killing pid {hanging}")
    server.wait_for(r"(?s)killing.*\[worker 2\] listening on")
    for _ in range(50):
        with server.connect() as client:
            assert say(client, b"data") == b"data"
    server.signal(signal.SIGTERM)
    assert server.wait() == -signal.SIGTERM


@pytest.mark.slow
def test_a_drain_with_a_worker_that_hangs_ends(serve: Serve) -> None:
    server = serve("--workers", "2", "--worker-timeout", "5", "--drain-timeout", "600")
    all_listen(server, 2)
    os.kill(pid_of(server, 1), signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    server.wait_for(r"worker 1 has not answered for \d+ s: killing")
    assert server.wait() == -signal.SIGTERM


@pytest.mark.slow
def test_a_parent_that_is_stopped_does_not_hold_up_its_workers(serve: Serve) -> None:
    server = serve("--workers", "2", "--log", "chunks", "--worker-timeout", "5")
    all_listen(server, 2)
    with server.connect() as client:
        server.signal(signal.SIGSTOP)
        # Each is a line of the log: many times what a pipe holds.
        for number in range(5000):
            payload = b"%d" % number
            client.sendall(payload)
            assert receive_exactly(client, len(payload)) == payload
        server.signal(signal.SIGCONT)
        server.wait_for(r"\[worker \d\] the parent did not read: lost \d+ lines of the log")
        client.sendall(b"still there")
        assert receive_exactly(client, 11) == b"still there"
    # It has been stopped, not they.
    assert "does not answer" not in server.log
    server.signal(signal.SIGTERM)
    assert server.wait() == -signal.SIGTERM


def test_where_no_worker_can_start_the_program_ends(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os\n"
        "from echoproto import Echo\n"
        "class Own(Echo): pass\n"
        "if os.environ['PARENT'] != str(os.getpid()): raise RuntimeError('not here')\n"
    )
    # twistd, with a protocol that its workers cannot import.
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "os.environ['PARENT'] = str(os.getpid())\n"
        "import own\n"
        "from functools import partialmethod\n"
        "from echoproto import WorkersService\n"
        "WorkersService.__init__ = partialmethod(WorkersService.__init__, protocol=own.Own)\n"
        "from twisted.scripts.twistd import run\n"
        "run()\n"
    )
    _, *arguments = twistd("--workers", "3", "--drain-delay", "60")
    with running([sys.executable, str(program), *arguments]) as server:
        assert server.wait() == 1
    starts = [line for line in server.lines if "could not start" in line]
    # A line for each attempt; the fastest may have made a second one.
    assert {line.partition(" could not start ")[2].partition(";")[0] for line in starts} >= {
        "(RuntimeError: not here)"
    }
    assert server.log.count("no worker could start: RuntimeError: not here") == 1
    assert "Traceback" not in server.log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_interpreter_that_the_user_cannot_run_is_one_line(tmp_path: Path) -> None:
    # In a directory that is closed to others, as root's home is.
    os.chmod(tmp_path, 0o700)
    python = tmp_path / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    command = f"import sys; sys.executable = {str(python)!r}; "
    _, *arguments = twistd("--workers", "2")
    program = [sys.executable, "-c", f"{command}from twisted.scripts.twistd import run; run()"]
    with running([*program, "--uid", "nobody", "--gid", "nogroup", *arguments]) as server:
        assert server.wait() == 1
    assert f"no worker could start: cannot start {python}: Permission denied" in server.log
    assert "Traceback" not in server.log


def test_modules_in_the_directory_of_the_start_are_not_imported(
    serve: Serve, tmp_path: Path
) -> None:
    for name in ("selectors", "json", "signal", "twisted", "echoproto"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('planted {name} was imported')")
    with running(twistd("--workers", "2"), cwd=tmp_path) as server:
        all_listen(server, 2)
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        assert "planted" not in server.log
