"""Kernels that answer ``TCP_INFO`` otherwise than Linux: nothing is done on their word."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.marks import one_quick
from tests.system.server import eventually, receive_all, running, twistd

# Python imports it at the start of each process, workers included.
_LYING = """
import socket
_true = socket.socket.getsockopt
def getsockopt(self, level, option, *size):
    if (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO):
        return {answer}[:size[0]]
    return _true(self, level, option, *size)
socket.socket.getsockopt = getsockopt
"""
# gVisor's; one that knows the state alone (TCP_LISTEN); one that is short.
ANSWERS = {"zeros": "bytes(256)", "a state": r"b'\x0a' + bytes(256)", "short": "bytes(20)"}

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux has TCP_INFO")


@pytest.fixture(params=one_quick(ANSWERS))
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, str]:
    """The environment of a server on such a kernel."""
    (tmp_path / "sitecustomize.py").write_text(_LYING.format(answer=ANSWERS[request.param]))
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize("lane", ["fast", "stock"])
def test_a_slow_reader_gets_every_byte(environment: Mapping[str, str], lane: str) -> None:
    size, seconds = 4 << 20, 6.0
    command = twistd("--port", "0", "--idle-timeout", "1", "--lane", lane)
    with running(command, env=environment) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.settimeout(30)
        client.connect(("127.0.0.1", server.port))
        sent = received = 0
        began = time.monotonic()
        while received < size:
            client.setblocking(False)
            try:
                while sent < size:
                    sent += client.send(bytes(min(1 << 16, size - sent)))
            except BlockingIOError:
                pass
            client.settimeout(30)
            # At an even pace, so that it takes longer than the timeout by far.
            while received / size * seconds > time.monotonic() - began:
                time.sleep(0.01)
            chunk = client.recv(1 << 15)
            assert chunk, f"aborted after {received} of {size} bytes; {server.log}"
            received += len(chunk)
        assert received == size


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_in_the_accept_queue_are_served_by_the_drain(
    environment: Mapping[str, str], workers: str
) -> None:
    command = twistd("--port", "0", "--max-connections", "2", "--workers", workers)
    with running(command, env=environment) as server:
        server.ready()
        held = [server.connect() for _ in range(2)]
        for each in held:
            # Each has a slot.
            each.sendall(b"x")
            assert each.recv(1) == b"x"
        waiting = [server.connect() for _ in range(8)]
        for each in waiting:
            each.sendall(b"data")
            each.shutdown(socket.SHUT_WR)
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        for each in held:
            each.close()
        assert [receive_all(each) for each in waiting] == [b"data"] * 8
        for each in waiting:
            each.close()
        assert eventually(lambda: "drained" in server.log)
