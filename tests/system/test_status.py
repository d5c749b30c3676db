"""The status port of a real server: the numbers, health, drain, workers."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.conftest import Serve
from tests.system.server import PATIENCE, Server, eventually, running, say, twistd
from tests.tls import make_certificate

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells of the accept queue"
)
with_workers = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="this platform has no SO_REUSEPORT"
)
one_and_two = pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=[with_workers, pytest.mark.slow])]
)

Metrics = dict[tuple[str, ...], float]


class Status:
    """The status port of a server."""

    def __init__(self, server: Server) -> None:
        found = server.wait_for(r"status on (\S+):(\d+)")
        self.host, self.port = found[1].strip("[]"), int(found[2])

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> Metrics:
        code, text = self.get("/metrics")
        assert code == 200
        return {
            (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def number(self, name: str, *labels: str) -> float:
        return self.metrics()[(f"echoproto_{name}", *labels)]

    def comes_to(self, value: float, name: str, *labels: str) -> bool:
        return eventually(lambda: self.number(name, *labels) == value)


def started(serve: Serve, *arguments: str, workers: int = 1) -> tuple[Server, Status]:
    server = serve("--status", "0", "--workers", str(workers), *arguments)
    status = Status(server)
    assert eventually(lambda: status.get("/readyz")[0] == 200)
    if workers > 1:
        assert eventually(lambda: _up(status) == workers)
    return server, status


def _up(status: Status) -> float:
    return sum(value for name, value in status.metrics().items() if name[0].endswith("worker_up"))


def reset(client: socket.socket) -> None:
    """Close with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@one_and_two
def test_the_numbers_are_what_was_done(serve: Serve, workers: int) -> None:
    server, status = started(serve, workers=workers)
    payloads = [os.urandom(n) for n in (1, 1000, 100_000) for _ in range(10)]

    def talk() -> None:
        for payload in payloads:
            with server.connect() as client:
                assert say(client, payload) == payload

    talkers = [threading.Thread(target=talk) for _ in range(4)]
    for each in talkers:
        each.start()
    for each in talkers:
        each.join()
    for _ in range(5):
        server.connect().close()
    with ExitStack() as held:
        for _ in range(7):
            client = held.enter_context(server.connect())
            client.sendall(b"abc")
            assert client.recv(3) == b"abc"
        broken = server.connect()
        broken.sendall(b"x")
        assert broken.recv(1) == b"x"
        reset(broken)
        over = 4 * len(payloads) + 5 + 1
        expected = {
            "connections_accepted_total": over + 7,
            "connections_live": 7,
            "connections_silent_total": 5,
            "connections_failed_total": 1,
            "echoed_bytes_total": 4 * sum(map(len, payloads)) + 7 * 3 + 1,
            "discarded_bytes_total": 0,
            "connection_duration_seconds_count": over,
        }
        # A worker reports once a second.
        for name, number in expected.items():
            assert status.comes_to(number, name)
        told = status.metrics()
        assert {name: told[f"echoproto_{name}",] for name in expected} == expected
        assert told["echoproto_connection_duration_seconds_bucket", "le=+Inf"] == over
        assert told["echoproto_connection_duration_seconds_sum",] > 0
        assert told["echoproto_event_loop_lag_max_seconds", "process=main"] >= 0
        assert told["process_open_fds",] > 0
    assert status.comes_to(0, "connections_live")


def queues(status: Status) -> list[tuple[float, float]]:
    """Return length and limit of each socket's accept queue."""
    told = status.metrics()
    return [
        (value, told[("echoproto_accept_queue_limit", *name[1:])])
        for name, value in sorted(told.items())
        if name[0] == "echoproto_accept_queue_length"
    ]


@linux_only
@with_workers
@pytest.mark.slow
def test_the_accept_queue_of_workers_that_stand_still(serve: Serve) -> None:
    server, status = started(serve, "--backlog", "8", workers=2)
    assert queues(status) == [(0, 8), (0, 8)]
    before = status.number("listen_overflows_total")
    pids = [int(pid) for pid in re.findall(r"worker \d started, pid (\d+)", server.log)]
    with ExitStack() as clients:
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            # Both queues hold one more than their limit; the rest is dropped, and tries again.
            for _ in range(60):
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
            assert eventually(lambda: queues(status) == [(9, 8), (9, 8)])
            assert eventually(lambda: status.number("listen_overflows_total") > before)
            # A worker is not answering once its last report is three seconds old.
            assert eventually(lambda: status.get("/healthz") == (503, "no worker answers\n"))
            assert status.get("/readyz")[0] == 503
            assert _up(status) == 0
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: status.get("/readyz")[0] == 200)
        # Those whose handshakes were dropped come when they try again, or do not.
        assert eventually(lambda: status.number("connections_accepted_total") >= 18)
        assert eventually(lambda: queues(status) == [(0, 8), (0, 8)])
        assert status.number("event_loop_lag_max_seconds", "process=worker 1") > 0.1


@pytest.mark.slow
@with_workers
def test_one_worker_that_hangs_stops_nothing(serve: Serve) -> None:
    server, status = started(serve, workers=2)
    for _ in range(20):
        with server.connect() as client:
            assert say(client, b"x") == b"x"
    assert status.comes_to(20, "connections_accepted_total")
    pid = int(server.wait_for(r"worker 1 started, pid (\d+)")[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert status.comes_to(0, "worker_up", "process=worker 1")
        assert status.number("worker_up", "process=worker 2") == 1
        assert status.number("connections_accepted_total") == 20
        assert status.get("/healthz")[0] == status.get("/readyz")[0] == 200
        # It is known by now, and not waited for again.
        begin = time.monotonic()
        for _ in range(10):
            status.get("/healthz")
        assert time.monotonic() - begin < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    assert status.comes_to(1, "worker_up", "process=worker 1")


@with_workers
@pytest.mark.slow
def test_totals_never_go_backwards(serve: Serve) -> None:
    server, status = started(serve, workers=2)
    accepted = 0
    for round_ in range(2):
        for _ in range(20):
            with server.connect() as client:
                assert say(client, b"12345") == b"12345"
        accepted += 20
        assert status.comes_to(accepted, "connections_accepted_total")
        assert status.number("echoed_bytes_total") == 5 * accepted
        pid = int(re.findall(r"worker 1 started, pid (\d+)", server.log)[-1])
        os.kill(pid, signal.SIGKILL)
        server.wait_for_times("worker 1 started", round_ + 2)
        for _ in range(3):
            assert status.number("connections_accepted_total") == accepted
        assert status.comes_to(1, "worker_up", "process=worker 1")
        assert status.number("connections_accepted_total") == accepted


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=[with_workers, pytest.mark.slow])])
def test_it_is_told_until_the_drain_is_over(serve: Serve, workers: int) -> None:
    server, status = started(serve, "--drain-timeout", "60", workers=workers)
    with server.connect() as client:
        client.sendall(b"data")
        assert client.recv(4) == b"data"
        assert status.get("/readyz") == (200, "ok\n")
        server.signal()
        assert eventually(lambda: status.get("/readyz") == (503, "draining\n"))
        assert status.get("/healthz") == (200, "ok\n")
        assert status.number("draining") == 1
        assert status.comes_to(1, "connections_live")
        client.sendall(b"more")
        assert client.recv(4) == b"more"
        assert status.comes_to(8, "echoed_bytes_total")
    assert server.wait() == -signal.SIGTERM
    assert "Traceback" not in server.log
    with pytest.raises(ConnectionRefusedError):
        status.get("/readyz")


def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    server = serve("--status", f"unix:{path}")
    server.wait_for(f"status on unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")


def test_it_is_on_loopback_alone(serve: Serve) -> None:
    assert Status(serve("--status", "tcp:0")).host == "127.0.0.1"


@contextmanager
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_no_half_start(tmp_path: Path) -> None:
    with taken() as port:
        run = subprocess.run(
            twistd("--status", str(port)), capture_output=True, text=True, timeout=PATIENCE
        )
    assert run.returncode == 1
    line = f"--status {port}: in use; allowed: a TCP port, or a Twisted endpoint: "
    assert line in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert "listening on" not in run.stdout


def test_what_is_no_endpoint() -> None:
    run = subprocess.run(
        twistd("--status", "65536"), capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 1
    told = [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("--status")]
    assert len(told) == 1
    assert "allowed: " in told[0]
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_port_that_only_root_may_take() -> None:
    """The right is dropped after both ports are open."""
    command = twistd("--status", "0")
    echo = command.index("echo")
    command[echo:echo] = ["--uid", "nobody", "--gid", "nogroup"]
    with running(command) as server:
        status = Status(server)
        assert status.get("/healthz")[0] == 200
        uid = re.search(r"Uid:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
        assert uid is not None
        assert uid[1] != "0"


def test_without_the_option_nothing_of_it_is_loaded() -> None:
    code = (
        "import sys; from echoproto.command.tap import Options, makeService; o = Options(); "
        "o.parseOptions([]); makeService(o); "
        "print([m for m in sys.modules if m.startswith(('twisted.web', 'prometheus_client'))])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert run.stdout == "[]\n"


def test_over_tls(serve: Serve, tmp_path: Path) -> None:
    """A browser and curl offer a choice of protocols (ALPN)."""
    pytest.importorskip("OpenSSL")
    pem = make_certificate(tmp_path / "both.pem")
    status = Status(serve("--status", f"ssl:0:privateKey={pem}"))
    context = ssl.create_default_context(cafile=str(pem))
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = http.client.HTTPSConnection(
        status.host, status.port, timeout=PATIENCE, context=context
    )
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok\n")
    finally:
        connection.close()


def test_refused_clients_are_counted_by_reason(serve: Serve) -> None:
    server, status = started(serve, "--max-per-source", "1")
    with server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        for _ in range(5):
            # What was sent and not read makes it a reset.
            with server.connect() as refused, suppress(ConnectionError):
                assert say(refused, b"no") == b""
        assert status.comes_to(5, "connections_refused_total", "reason=source")
        assert status.number("connections_live") == 1
        assert status.number("echoed_bytes_total") == 1


@linux_only
def test_clients_at_the_limit_wait_in_the_accept_queue(serve: Serve) -> None:
    server, status = started(serve, "--max-connections", "2")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(7)]
        assert eventually(lambda: queues(status) == [(5, 1024)])
        assert status.number("connections_live") == 2
        assert status.number("connections_limit") == 2
        assert status.get("/readyz")[0] == 200
        for client in clients[:2]:
            client.close()
        assert eventually(lambda: queues(status) == [(3, 1024)])
        assert status.comes_to(4, "connections_accepted_total")
