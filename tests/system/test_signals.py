"""Signals and files, as an operator and logrotate use them."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoproto.base.ending_signals import ending_signals
from tests.marks import one_quick
from tests.system.conftest import Serve
from tests.system.server import (
    BIN,
    PATIENCE,
    Server,
    eventually,
    receive_all,
    running,
    say,
    twistd,
)
from tests.system.test_listen import connect_unix
from tests.system.test_listening import needs_root
from tests.system.test_workers import IMPORTABLE, anybodys_python, pid_of

__all__ = ["anybodys_python"]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
in_one_and_several = pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.slow)]
)

# Those that stop it are not among them.
SURVIVED = ending_signals() - {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}


def started(serve: Serve, workers: int, *options: str) -> Server:
    server = serve("--workers", str(workers), "--drain-timeout", "20", *options)
    server.wait_for_times("listening on ", workers)
    return server


def conversation(server: Server) -> socket.socket:
    client = server.connect()
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    return client


@in_one_and_several
def test_no_signal_cuts_a_connection(serve: Serve, workers: int) -> None:
    server = started(serve, workers)
    with conversation(server) as client:
        for signum in SURVIVED:
            server.signal(signum)
        if workers > 1:
            # From the terminal, or a service manager, each process gets them.
            for number in range(1, workers + 1):
                for signum in (*SURVIVED, signal.SIGINT, signal.SIGQUIT):
                    os.kill(pid_of(server, number), signum)
        server.wait_for(r"ignored SIGUSR2")
        server.wait_for(r"SIGHUP: the log is not a file.*the options are not read again")
        server.wait_for(r"SIGUSR1: the log is not a file")
        assert say(client, b"data") == b"data"
    with conversation(server):
        server.signal()
        server.wait_for("draining: 1 connection")
        # Not even during the drain.
        for signum in SURVIVED:
            server.signal(signum)
        server.wait_for_times("SIGHUP: ", 2)
        server.signal()
    assert server.wait() == -signal.SIGTERM
    assert "ended (" not in server.log
    assert "Traceback" not in server.log


@pytest.mark.slow
def test_signals_do_not_stop_workers_from_starting(serve: Serve) -> None:
    server = serve("--workers", "2")
    for number in (1, 2):
        server.wait_for(rf"worker {number} started")
        pid = pid_of(server, number)
        for signum in ending_signals() - {signal.SIGTERM}:
            os.kill(pid, signum)
    server.wait_for_times("listening on ", 2)
    assert "ended (" not in server.log


@in_one_and_several
def test_sigquit_drains(serve: Serve, workers: int) -> None:
    server = started(serve, workers)
    with conversation(server) as client:
        server.signal(signal.SIGQUIT)
        server.wait_for("draining: 1 connection")
        assert say(client, b"data") == b"data"
    # Not by SIGQUIT, which would dump core.
    assert server.wait() == -signal.SIGTERM


@in_one_and_several
def test_two_signals_in_one_turn_abort(serve: Serve, workers: int) -> None:
    server = started(serve, workers)
    with conversation(server) as client:
        server.signal(signal.SIGSTOP)
        # Both are pending when it wakes up.
        server.signal(signal.SIGINT)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        assert server.wait(timeout=10) in (-signal.SIGTERM, -signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
    assert "Traceback" not in server.log
    assert "ReactorNotRunning" not in server.log


def test_signals_while_the_status_closes(serve: Serve) -> None:
    server = serve("--status", "0", "--drain-timeout", "20").ready()
    stop = threading.Event()

    def send() -> None:
        # All through the end. More at once than the pipe holds through which Python reports signals
        # would be answered with a warning.
        for _ in range(200):
            server.signal(signal.SIGQUIT)
            if stop.wait(0.0002):
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert server.wait() == -signal.SIGTERM
    finally:
        stop.set()
        sender.join()
    assert "Traceback" not in server.log
    assert "ReactorNotRunning" not in server.log


# The log file


def logging_to(path: Path, *options: str, log_format: str = "text") -> list[str]:
    command = twistd("--log-format", log_format, *options)
    command[1:1] = [f"--logfile={path}"]
    return command


def port_in(path: Path, workers: int = 1) -> int:
    """Wait until a server that logs to a file listens."""

    def listening() -> list[str]:
        # A JSON line may have it twice.
        lines = path.read_text().splitlines()
        found = (re.search(r"listening on 127\.0\.0\.1:(\d+)", line) for line in lines)
        return [match[1] for match in found if match]

    assert eventually(lambda: path.exists() and len(listening()) == workers)
    return int(listening()[0])


@pytest.mark.parametrize("log_format", one_quick(["text", "json"]))
@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_a_log_that_was_moved_is_reopened(tmp_path: Path, log_format: str, signum: int) -> None:
    path, moved = tmp_path / "echo.log", tmp_path / "moved.log"
    with running(logging_to(path, log_format=log_format)) as server:
        port_in(path)
        path.rename(moved)
        server.signal(signum)
        name = signal.Signals(signum).name
        assert eventually(
            lambda: path.exists() and f"{name}: reopened {path}" in path.read_text()
        ), moved.read_text()
        server.signal()
        assert server.wait() == -signal.SIGTERM
    assert "Server Shut Down" in path.read_text()
    assert "Server Shut Down" not in moved.read_text()
    if log_format == "json":
        for line in (moved.read_text() + path.read_text()).splitlines():
            json.loads(line)


@pytest.mark.slow
def test_a_daemons_log_is_reopened(tmp_path: Path) -> None:
    pid_file, path = tmp_path / "echo.pid", tmp_path / "echo.log"
    command = [part for part in logging_to(path) if part not in ("-n", "--pidfile=")]
    command[1:1] = [f"--pidfile={pid_file}"]
    subprocess.run(command, check=True, timeout=PATIENCE)
    try:
        port_in(path)
        pid = int(pid_file.read_text())
        mode = path.stat().st_mode
        path.rename(tmp_path / "moved.log")
        os.kill(pid, signal.SIGUSR1)
        assert eventually(lambda: path.exists() and "reopened" in path.read_text())
        # The daemon's own umask is stricter.
        assert path.stat().st_mode == mode
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    assert eventually(lambda: not pid_file.exists())


def test_a_log_that_cannot_be_reopened(tmp_path: Path) -> None:
    path = tmp_path / "echo.log"
    with running(logging_to(path)) as server:
        port_in(path)
        moved = path.rename(tmp_path / "moved.log")
        path.mkdir()
        server.signal(signal.SIGUSR1)
        line = f"SIGUSR1: cannot reopen {path} (Is a directory); the old log file stays open"
        assert eventually(lambda: line in moved.read_text()), moved.read_text()


# What refuses a start


def refused(arguments: list[str], directory: Path, line: str) -> None:
    done = subprocess.run(
        [str(BIN / "twistd"), *arguments], capture_output=True, text=True, cwd=directory
    )
    assert (done.returncode, done.stderr) == (1, f"{line}\n")


@pytest.mark.parametrize("foreground", [["-n"], []], ids=["foreground", "daemon"])
def test_a_log_file_that_cannot_be_written(tmp_path: Path, foreground: list[str]) -> None:
    for path, why in (
        ("no/such.log", "No such file or directory"),
        (str(tmp_path), "Is a directory"),
    ):
        refused(
            [*foreground, "--pidfile=", f"--logfile={path}", "echo", "--port", "0"],
            tmp_path,
            f"--logfile {path}: cannot be written ({why}); allowed: a path that this user may "
            "write to; or -n with --logfile=- for standard output",
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "foreground",
    [pytest.param(["-n"], id="foreground"), pytest.param([], id="daemon", marks=pytest.mark.slow)],
)
def test_a_pid_file_that_stands_in_the_way(tmp_path: Path, foreground: list[str]) -> None:
    pid_file = tmp_path / "twistd.pid"
    parent = os.getpid()
    for content, why in (
        (str(parent), f"names process {parent}, which runs; remove it if that is another program"),
        ("", "contains no process id; remove it if no server runs"),
        ("9" * 30, "contains no process id; remove it if no server runs"),
    ):
        pid_file.write_text(content)
        refused(
            [*foreground, "echo", "--port", "0"],
            tmp_path,
            f"--pidfile twistd.pid: {why}; allowed: another path, or --pidfile= for none",
        )
        assert pid_file.read_text() == content


def test_a_pid_file_of_its_own_number_is_stale(tmp_path: Path) -> None:
    """In a container each start has the same number."""
    words = [str(BIN / "twistd"), "-n", "echo", "--port", "0"]
    command = ["sh", "-c", f"echo $$ >twistd.pid; exec {' '.join(words)}"]
    with running(command, cwd=tmp_path) as server:
        server.ready()
        assert int((tmp_path / "twistd.pid").read_text()) == server.pid


# UNIX sockets


@in_one_and_several
def test_a_unix_socket_is_taken_over_from_a_killed_server_only(
    tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "socket"
    command = twistd("--listen", f"unix:{path}", "--workers", str(workers), port=None)
    with running(command) as first:
        first.wait_for_times("listening on ", workers)
        with running(command) as second:
            second.wait_for("a running server listens on it")
            assert second.wait() == 1
        first.signal(signal.SIGKILL)
        first.wait()
        # Its workers notice in their own time.
        assert eventually(lambda: _refuses(path))
    with running(command) as third:
        third.wait_for_times("listening on ", workers)
        with connect_unix(path) as client:
            assert say(client, b"data") == b"data"
        third.signal()
        assert third.wait() == -signal.SIGTERM
    assert not list(tmp_path.iterdir())


def _refuses(path: Path) -> bool:
    try:
        connect_unix(path).close()
    except ConnectionRefusedError:
        return True
    return False


@linux
@in_one_and_several
def test_an_abstract_unix_socket(tmp_path: Path, workers: int) -> None:
    name = f"echoproto-test-{os.getpid()}"
    command = twistd("--listen", f"unix:@{name}", "--workers", str(workers), port=None)
    with running(command, cwd=tmp_path) as server:
        server.wait_for_times(f"listening on unix:@{name};", workers)
        with connect_unix(f"\0{name}") as client:
            assert say(client, b"data") == b"data"
        server.signal()
        assert server.wait() == -signal.SIGTERM
    assert not list(tmp_path.iterdir())


@linux
@needs_root
def test_with_uid_files_belong_to_the_user_who_serves(anybodys_directory: Path) -> None:
    command = twistd(*files_in(anybodys_directory), port=None)
    command[1:1] = as_nobody(anybodys_directory)
    check_files_of_nobody(command, anybodys_directory)


@linux
@needs_root
@pytest.mark.slow
def test_with_uid_and_workers_too(anybodys_directory: Path, anybodys_python: str) -> None:
    _, *arguments = twistd("--workers", "2", *files_in(anybodys_directory), port=None)
    run = [anybodys_python, "-c", "from twisted.scripts.twistd import run; run()"]
    command = [*run, *as_nobody(anybodys_directory), *arguments]
    check_files_of_nobody(command, anybodys_directory, env=IMPORTABLE)


def files_in(directory: Path) -> list[str]:
    return ["--listen", f"unix:{directory}/socket", "--status", f"unix:{directory}/status"]


def as_nobody(directory: Path) -> list[str]:
    return ["--uid", "nobody", "--gid", "nogroup", f"--logfile={directory}/echo.log"]


def check_files_of_nobody(command: list[str], directory: Path, **popen: object) -> None:
    nobody, log = pwd.getpwnam("nobody"), directory / "echo.log"
    with running(command, cwd="/", **popen) as server:
        assert eventually(lambda: log.exists() and "listening on unix:" in log.read_text())
        for name in ("socket", "socket.lock", "status", "status.lock", "echo.log"):
            found = (directory / name).stat()
            assert (name, found.st_uid, found.st_gid) == (name, nobody.pw_uid, nobody.pw_gid)
        with connect_unix(directory / "socket") as client:
            assert say(client, b"data") == b"data"
        log.rename(directory / "moved.log")
        log.touch(0o600)
        os.chown(log, nobody.pw_uid, nobody.pw_gid)
        server.signal(signal.SIGUSR1)
        assert eventually(lambda: "SIGUSR1: reopened" in log.read_text())
        server.signal()
        assert server.wait() == -signal.SIGTERM
    left = sorted(each.name for each in directory.iterdir())
    assert left == ["echo.log", "moved.log"]
    assert "cannot remove" not in log.read_text()


@pytest.fixture
def anybodys_directory() -> Iterator[Path]:
    """A directory in which every user may create files, and remove their own."""
    directory = Path(f"/tmp/echoproto-test-{os.getpid()}")
    directory.mkdir()
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


# Process 1

ORPHANS = """
import os
# A child whose own child outlives it, and then ends: an orphan of process 1.
for _ in range({orphans}):
    if not os.fork():
        if not os.fork():
            os.execvp("sleep", ["sleep", "0.1"])
        os._exit(0)
    os.wait()
"""


@linux
@needs_root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare (util-linux)")
@in_one_and_several
def test_process_1_reaps_orphans(tmp_path: Path, workers: int) -> None:
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with running([*inside, *twistd("--workers", str(workers))]) as server:
        server.wait_for_times("listening on ", workers)
        namespace = ["nsenter", "--pid", "--mount", f"--target={_child_of(server.pid)}"]

        def orphans() -> int:
            """Return how many there are; a zombie keeps its name."""
            shown = subprocess.run(
                [*namespace, "ps", "-eo", "comm="], capture_output=True, text=True, check=True
            )
            return sum(line.startswith("sleep") for line in shown.stdout.splitlines())

        subprocess.run([*namespace, sys.executable, "-c", ORPHANS.format(orphans=20)], check=True)
        assert eventually(lambda: orphans() == 0, timeout=10)
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        if workers > 1:
            # Its own children are still the process monitor's.
            subprocess.run([*namespace, "kill", "-KILL", str(pid_of(server, 1))], check=True)
            server.wait_for(r"worker 1 ended \(killed by signal 9\)")
            server.wait_for_times("[worker 1] listening on ", 2)


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
