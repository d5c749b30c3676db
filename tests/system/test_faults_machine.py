"""What a machine can do to the service: full disks, clocks that are set, a process that stops.

Each test reports its figures; with ``-s`` they are shown. docs/reliability.rst has
those of one machine. What becomes of clients beyond the last descriptor is in
``test_pressure.py``.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from tests.system.conftest import Report, Serve
from tests.system.server import (
    LISTENING,
    PATIENCE,
    Server,
    eventually,
    fill,
    receive_exactly,
    running,
    say,
    twistd,
)

KIB = 1 << 10
MIB = 1 << 20

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and root to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"cannot mount here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def fill_disk(folder: Path) -> Path:
    """Fill the file system; return the file that fills it."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4 * KIB))
        except OSError:
            return filler


@pytest.mark.parametrize(
    "log_to", ["file", pytest.param("standard output", marks=pytest.mark.slow)]
)
def test_a_full_disk_for_the_log(small_disk: Path, log_to: str, report: Report) -> None:
    log = small_disk / "log"
    command = twistd("--log", "chunks")
    if log_to == "file":
        command[2:2] = ["--logfile", str(log)]
    else:
        command = ["sh", "-c", 'exec "$@" > "$0"', str(log), *command]
    log.touch()
    with ExitStack() as stack:
        server = stack.enter_context(running(command))
        assert eventually(lambda: bool(LISTENING.search(log.read_text())))
        found = LISTENING.search(log.read_text())
        assert found
        client = stack.enter_context(
            socket.create_connection(("127.0.0.1", int(found["port"])), timeout=PATIENCE)
        )

        def ping(times: int) -> float:
            began = time.monotonic()
            for _ in range(times):
                client.sendall(b"data")
                assert receive_exactly(client, 4) == b"data"
            return (time.monotonic() - began) / times

        with_room = ping(100)
        filler = fill_disk(small_disk)
        ping(1000)
        size, memory = log.stat().st_size, server.rss()
        without = ping(3000)
        assert log.stat().st_size == size
        assert server.rss() - memory < MIB
        report(
            "a round trip logged",
            f"{with_room * 1e6:.0f} us with room, {without * 1e6:.0f} us without",
        )
        filler.unlink()
        # The next event is written again, and no restart is needed.
        ping(1)
        assert eventually(lambda: log.stat().st_size > size)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        assert eventually(lambda: "closed 127.0.0.1:" in log.read_text())
        server.signal()
        assert server.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    "daemon",
    [
        pytest.param(False, id="foreground"),
        pytest.param(True, id="daemon", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_for_the_pid_file(small_disk: Path, tmp_path: Path, daemon: bool) -> None:
    filler = fill_disk(small_disk)
    pid_file, log = small_disk / "twistd.pid", tmp_path / "log"
    command = twistd("--drain-timeout", "0")
    command[1:3] = [f"--pidfile={pid_file}", f"--logfile={log}", *([] if daemon else ["-n"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    # Nothing has begun.
    assert not pid_file.exists()
    assert not log.exists()
    filler.unlink()
    if daemon:
        assert subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode == 0
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        assert eventually(lambda: not pid_file.exists())


@linux
@pytest.mark.skipif(LIBFAKETIME is None, reason="needs libfaketime (Debian: faketime)")
@pytest.mark.parametrize(
    ("jump", "workers"),
    [
        (-3600, "1"),
        pytest.param(3600, "1", marks=pytest.mark.slow),
        pytest.param(-3600, "2", marks=pytest.mark.slow),
        pytest.param(3600, "2", marks=pytest.mark.slow),
    ],
)
def test_a_drain_ends_in_time_though_the_clock_is_set(
    tmp_path: Path, jump: int, workers: str, report: Report
) -> None:
    setting = tmp_path / "wall clock"
    setting.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    command = twistd("--drain-timeout", "1", "--workers", workers)
    with running(command, env=environment) as server:
        with server.connect() as client:
            client.sendall(b"data")
            assert client.recv(4) == b"data"
            began = time.monotonic()
            server.signal()
            server.wait_for("draining: 1 connection")
            setting.write_text(f"{jump:+d}")
            # At the deadline it gets our FIN.
            assert client.recv(1) == b""
            took = time.monotonic() - began
        assert server.wait() == -signal.SIGTERM
    assert took >= 1.0
    report("a drain of 1 s took", f"{took:.2f} s")
    # The clock has been set indeed.
    before = time_of(server, "draining: 1 connection")
    after = time_of(server, "drain deadline")
    assert abs((after - before).total_seconds() - jump) < 60


def time_of(server: Server, words: str) -> datetime:
    """Return the time of a log line."""
    found = re.search(rf"^(\S+) .*{re.escape(words)}", server.log, re.MULTILINE)
    assert found, server.log
    return datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S%z")


@pytest.mark.parametrize("seconds", [0.5, pytest.param(5.0, marks=pytest.mark.slow)])
def test_a_process_that_was_stopped_goes_on(serve: Serve, seconds: float, report: Report) -> None:
    server = serve()
    payloads = [bytes([n]) * 4 * MIB for n in range(10)]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in payloads]
        sent = [fill(client, payload) for client, payload in zip(clients, payloads, strict=True)]
        server.signal(signal.SIGSTOP)
        rests = [payload[done:] for payload, done in zip(payloads, sent, strict=True)]
        with ThreadPoolExecutor(len(clients)) as pool:
            backs = pool.map(say, clients, rests)
            time.sleep(seconds)
            server.signal(signal.SIGCONT)
            went_on = time.monotonic()
            assert list(backs) == payloads
    report("10 connections of 4 MiB over after", f"{time.monotonic() - went_on:.2f} s")


class Pinging:
    """An existing client that sends and reads all the time."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._times = self._pool.submit(self._ping)

    def _ping(self) -> list[float]:
        times = []
        while not self._over.is_set():
            began = time.monotonic()
            self._client.sendall(b"x" * KIB)
            assert receive_exactly(self._client, KIB) == b"x" * KIB
            times.append(time.monotonic() - began)
        return sorted(times)

    def end(self) -> str:
        """Return how long the round trips took, in words."""
        self._over.set()
        with self._pool:
            times = self._times.result()
        median = times[len(times) // 2] * 1000
        return f"{len(times)}, median {median:.2f} ms, worst {times[-1] * 1000:.1f} ms"


@pytest.mark.slow
@linux
def test_fifty_thousand_clients_that_open_and_reset(serve: Serve, report: Report) -> None:
    server = serve("--log", "listening")
    reset = struct.pack("ii", 1, 0)

    def open_and_reset(times: int) -> None:
        for number in range(times):
            with server.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            if number % 100 == 99:
                # All before it in the accept queue have been served. So the most that are
                # open at once is the same however slow the server is.
                server.ready()

    descriptors = server.ready().descriptors()
    # The same load is applied twice: the first allocates what is allocated once.
    open_and_reset(50_000)
    lines, memory = len(server.lines), server.rss()
    with server.connect() as inside:
        pinging = Pinging(inside)
        began = time.monotonic()
        open_and_reset(50_000)
        took = time.monotonic() - began
        report("resets", f"{50_000 / took:.0f} a second")
        report("round trips meanwhile", pinging.end())
        over = time.monotonic()
        server.ready()
        report("until normal", f"{time.monotonic() - over:.3f} s")
    assert eventually(lambda: server.descriptors() <= descriptors), server.descriptors()
    grown = server.rss() - memory
    report("memory", f"{grown // KIB:+d} KiB")
    assert grown < MIB
    assert len(server.lines) == lines, server.log


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process, and those that it starts, open many files."""
    enough = 6000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < enough:
        pytest.skip(f"needs {enough} descriptors; the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@linux
def test_five_thousand_idle_clients(serve: Serve, many_descriptors: None, report: Report) -> None:
    server = serve()

    def round_trips() -> str:
        with server.connect() as client:
            pinging = Pinging(client)
            time.sleep(2.0)
            return pinging.end()

    report("round trips alone", round_trips())
    memory = server.rss()
    with ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(5000)]
        # A byte of what is to become a long message, and then silence.
        for client in idle:
            client.sendall(b"s")
        for client in idle:
            assert client.recv(1) == b"s"
        grown = server.rss() - memory
        report("memory", f"{grown / len(idle) / KIB:.1f} KiB for each idle client")
        assert grown / len(idle) < 8 * KIB
        ticks = server.cpu_ticks()
        time.sleep(1.0)
        assert server.cpu_ticks() - ticks < 10
        report("round trips among 5,000", round_trips())
    with server.connect() as client:
        assert say(client, b"data") == b"data"


@pytest.mark.slow
@linux
def test_five_thousand_idle_clients_against_limits(
    serve: Serve, many_descriptors: None, report: Report
) -> None:
    most, idle_timeout = 50, 2.0
    server = serve("--max-per-source", str(most), "--idle-timeout", str(idle_timeout))
    with server.connect() as inside:
        pinging = Pinging(inside)
        began = time.monotonic()
        with ExitStack() as stack:
            idle = []
            for _ in range(5000):
                client = socket.socket()
                idle.append(stack.enter_context(client))
                client.settimeout(PATIENCE)
                # From another source than the client that is pinging.
                client.bind(("127.0.0.2", 0))
                client.connect(("127.0.0.1", server.port))
            came = time.monotonic()
            report("5,000 came in", f"{came - began:.2f} s")
            # All are closed: what is more than their share at once, the others when time is up.
            for client in idle:
                assert ended(client)
            over = time.monotonic()
            report("all gone after", f"{over - came:.2f} s")
            assert over - began >= idle_timeout
        with server.connect() as newcomer:
            assert say(newcomer, b"data") == b"data"
        report("a newcomer", f"{time.monotonic() - over:.3f} s")
        report("round trips meanwhile", pinging.end())
    # Lines for a second each, and not for each client.
    assert len(server.lines) < 100, server.log


def ended(client: socket.socket) -> bool:
    """Wait for the end of a connection that gets no byte."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
