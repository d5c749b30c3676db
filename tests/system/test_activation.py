"""Sockets that a service manager opened: restarts refuse no client."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system.server import PATIENCE, Server, eventually, running, say, twistd
from tests.system.test_listen import MODES, connect_unix
from tests.system.test_listening import send_q
from tests.system.test_workers import gone

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="needs systemd-socket-activate (systemd)",
)

CLIENTS = 8
PAYLOAD = bytes(range(256)) * 100

# Holds the socket, as a service manager does, and starts the server whenever it has ended.
KEEP_SERVING = """
while :; do
    sh -c 'echo "server is $$"; LISTEN_PID=$$ exec "$@"' server "$@"
done
"""


class Manager:
    """A fake service manager around the real systemd-socket-activate."""

    def __init__(self, server: Server, where: str | int) -> None:
        self.server = server
        self._where = where

    def connect(self) -> socket.socket:
        if isinstance(self._where, int):
            return socket.create_connection(("127.0.0.1", self._where), PATIENCE)
        return connect_unix(self._where)

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"server is (\d+)", self.server.log)]

    def restart(self, signum: int) -> float:
        """End the server; return when it was gone. The next one is started at once."""
        before = self.pids()
        os.kill(before[-1], signum)
        # It may accept one more until it is really gone.
        assert eventually(lambda: gone(before[-1]))
        when = time.monotonic()
        self.server.wait_for_times("server is ", len(before) + 1)
        self.wait_until_it_listens(len(before) + 1)
        return when

    def wait_until_it_listens(self, instance: int) -> None:
        self.server.wait_for("(?s)" + r"server is \d+.*?" * instance + "listening on ")


def activation(where: str | int, command: Sequence[str], *options: str) -> list[str]:
    address = f"127.0.0.1:{where}" if isinstance(where, int) else where
    # It hands on next to nothing of the environment.
    kept = [f"-E{name}" for name in os.environ if name.startswith(("COVERAGE", "PYTHON"))]
    activate = ["systemd-socket-activate", "-l", address, "--fdname=echo", *kept, *options]
    return [*activate, "sh", "-c", KEEP_SERVING, "keep", *command]


@contextmanager
def activated(
    kind: str, directory: Path, *options: str, name: str = "index=0"
) -> Iterator[Manager]:
    """Have a socket opened for a server, and the server started by its first client."""
    domain = "UNIX" if kind == "unix" else "INET"
    command = twistd("--listen", f"systemd:domain={domain}:{name}", *options, port=None)
    for _ in range(5):
        where: str | int = str(directory / "socket")
        if kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as free:
                where = free.getsockname()[1]
        with running(activation(where, command), cwd=directory) as server:
            manager = Manager(server, where)
            try:
                server.wait_for("Listening on ")
                with manager.connect() as first:
                    assert say(first, b"first") == b"first"
                manager.wait_until_it_listens(1)
                yield manager
            except AssertionError:
                if "Address already in use" in server.log:
                    # Another process took the port first.
                    continue
                raise
            finally:
                # First the manager, which would start another server.
                server.process.kill()
                server.process.wait()
                for pid in manager.pids()[-1:]:
                    os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("no free port")


class Load:
    """Clients that hold one connection after another, and record how each ended."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._start_connection) for _ in range(CLIENTS)]
        self.refused: list[OSError] = []
        # When they began.
        self.whole: list[float] = []
        self.lost: list[float] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _start_connection(self) -> None:
        while not self._over.is_set():
            try:
                client = self._manager.connect()
            except OSError as error:
                self.refused.append(error)
                continue
            began = time.monotonic()
            with client:
                try:
                    whole = say(client, PAYLOAD) == PAYLOAD
                except OSError:
                    whole = False
                (self.whole if whole else self.lost).append(began)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("tcp", "fast"),
        *(
            pytest.param(kind, mode, marks=pytest.mark.slow)
            for kind, mode in (
                ("tcp", "stock"),
                ("tcp", "workers"),
                ("unix", "fast"),
                ("unix", "stock"),
                ("unix", "workers"),
            )
        ),
    ],
)
def test_restarts_refuse_no_client(kind: str, mode: str, tmp_path: Path) -> None:
    with activated(kind, tmp_path, *MODES[mode], "--drain-timeout", "20") as manager:
        with Load(manager) as load, ExitStack() as stack:
            for _ in range(2):
                # Connections that the drain waits for.
                kept = [stack.enter_context(manager.connect()) for _ in range(5)]
                for client in kept:
                    client.sendall(b"before")
                    assert client.recv(1) == b"b"
                drains = manager.server.log.count("draining: ")
                instances = len(manager.pids())
                os.kill(manager.pids()[-1], signal.SIGTERM)
                manager.server.wait_for_times("draining: ", drains + 1)
                for client in kept:
                    assert say(client, b"after") == b"eforeafter"
                # A signal to the old one, while it drains, would cut that short.
                manager.server.wait_for(r"(?s)" + r"server is \d+.*" * (instances + 1))
            manager.wait_until_it_listens(3)
            assert not load.lost
            killed = manager.restart(signal.SIGKILL)
            again = time.monotonic()
            manager.restart(signal.SIGTERM)
        assert not load.refused
        # Those alone that the killed one had accepted.
        assert len(load.lost) <= CLIENTS
        assert all(began <= killed for began in load.lost)
        assert any(began > again for began in load.whole)
        assert kind == "tcp" or (tmp_path / "socket").exists()
        assert "Traceback" not in manager.server.log


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_client_that_finds_no_place_is_served_by_the_next_server(
    kind: str, tmp_path: Path
) -> None:
    limits = ["--max-connections", "1", "--drain-timeout", "20"]
    with activated(kind, tmp_path, *limits) as manager, manager.connect() as inside:
        inside.sendall(b"before")
        assert inside.recv(6) == b"before"
        with manager.connect() as outside:
            outside.sendall(b"data")
            os.kill(manager.pids()[-1], signal.SIGTERM)
            manager.server.wait_for("draining: 1 connection, ")
            assert say(inside, b"after") == b"after"
            assert outside.recv(4) == b"data"
            assert len(manager.pids()) == 2


@pytest.mark.parametrize("mode", ["fast", pytest.param("workers", marks=pytest.mark.slow)])
def test_the_true_length_of_an_inherited_queue_is_told(mode: str, tmp_path: Path) -> None:
    with activated("tcp", tmp_path, *MODES[mode], "--backlog", "5", name="name=echo") as manager:
        address = manager.server.wait_for(r"listening on 127\.0\.0\.1:(\d+); accept queue holds")
        true_length = send_q(int(address[1]))
        assert true_length > 5
        manager.server.wait_for(f"accept queue holds {true_length} \\(inherited, ")


def test_an_inherited_socket_of_another_kind_is_refused(tmp_path: Path) -> None:
    command = twistd("--listen", "systemd:domain=INET:name=other", port=None)
    once = ["systemd-socket-activate", "-l", str(tmp_path / "socket"), "--fdname=echo"]
    with running([*once, *command], cwd=tmp_path) as server:
        server.wait_for("Listening on ")
        with connect_unix(tmp_path / "socket"):
            server.wait_for(
                "--listen systemd:domain=INET:name=other: no such inherited socket; "
                "LISTEN_FDNAMES: echo; allowed: "
            )
            assert server.wait() == 1
