"""Notifications to a service manager, and the answers of /readyz."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.server import PATIENCE, Server, eventually, running, say, twistd
from tests.system.test_endpoints import exchange

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
in_one_process_and_several = pytest.mark.parametrize("workers", ["1", "2"])


class Manager:
    """Hears what the service tells it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)
        self.environ = {**os.environ, "NOTIFY_SOCKET": str(path)}
        self.heard = ""

    def hear(self, line: str) -> None:
        """Wait until a line was heard."""
        while f"{line}\n" not in self.heard:
            self.heard += self._socket.recv(65536).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@in_one_process_and_several
def test_from_ready_to_stopping(manager: Manager, workers: str) -> None:
    command = twistd("--workers", workers, "--drain-timeout", "20")
    with running(command, env=manager.environ) as server:
        manager.hear("READY=1")
        # All of them listen by now; we may be late to read it.
        server.wait_for_times("listening on ", int(workers))
        with server.connect() as client:
            assert exchange(client, b"data") == b"data"
            manager.hear("STATUS=1 connection")
            server.signal(signal.SIGTERM)
            manager.hear("STOPPING=1")
            manager.hear("STATUS=draining: 1 connection left")
            assert say(client, b"more") == b"more"
        assert server.wait() == -signal.SIGTERM
    assert manager.heard.count("READY=1\n") == 1
    assert "Traceback" not in server.log


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_workers_do_not_speak_for_the_service(manager: Manager) -> None:
    with running(twistd("--workers", "2"), env=manager.environ) as server:
        manager.hear("READY=1")
        for pid in re.findall(r"worker \d started, pid (\d+)", server.log):
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "none")}
    with running(twistd(), env=environ) as server:
        server.wait_for("cannot send to NOTIFY_SOCKET .*none: ")
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
    assert server.log.count("NOTIFY_SOCKET") == 1


def readyz(server: Server) -> int:
    port = int(server.wait_for(r"status on 127\.0\.0\.1:(\d+)")[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None, reason="needs the extra metrics"
)
@in_one_process_and_several
def test_during_the_delay_it_is_not_ready_and_serves(workers: str) -> None:
    command = twistd("--workers", workers, "--status", "0", "--drain-delay", "60")
    with running(command) as server:
        server.wait_for_times("listening on ", int(workers))
        assert eventually(lambda: readyz(server) == 200)
        server.signal(signal.SIGTERM)
        server.wait_for("still accepting connections for 60 s")
        assert readyz(server) == 503
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
