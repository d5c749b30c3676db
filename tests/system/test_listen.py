"""``--listen`` with every kind of endpoint, in both lanes and in several processes."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system.server import PATIENCE, Server, receive_all, running, say, twistd
from tests.system.test_endpoints import exchange
from tests.system.test_listening import needs_root, needs_ss, send_q
from tests.system.test_pressure import assert_stuck_clients_cost_little, get_stuck, needs_proc
from tests.tls import make_certificate

MIB = 1 << 20

HAS_TLS = importlib.util.find_spec("OpenSSL") is not None
needs_tls = pytest.mark.skipif(not HAS_TLS, reason="needs the extra tls (pyOpenSSL)")
over_tls = ("ssl", "tls")
# As options: one process in each lane, and several.
MODES = {
    "fast": ["--lane", "fast"],
    "stock": ["--lane", "stock"],
    "workers": ["--workers", "2"],
}
slow = pytest.mark.slow
in_all_modes = pytest.mark.parametrize(
    "mode", ["fast", *(pytest.param(mode, marks=slow) for mode in ("stock", "workers"))]
)


def kinds_and_modes(
    modes: Iterable[str], quick: Collection[tuple[str, str]]
) -> pytest.MarkDecorator:
    """All combinations; those that are not quick are marked slow."""
    return pytest.mark.parametrize(
        ("kind", "mode"),
        [
            pytest.param(
                kind,
                mode,
                marks=[
                    *([needs_tls] if kind in over_tls else []),
                    *([] if (kind, mode) in quick else [slow]),
                ],
            )
            for kind in ("tcp", "tcp6", "unix", *over_tls)
            for mode in modes
        ],
    )


Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost in one file, alone in its directory."""
    path = tmp_path_factory.mktemp("pem") / "both.pem"
    return make_certificate(path) if HAS_TLS else path


def described(kind: str, directory: Path, pem: Path) -> str:
    return {
        "tcp": "tcp:0:interface=127.0.0.1",
        "tcp6": r"tcp6:0:interface=\:\:1",
        "unix": f"unix:{directory}/socket",
        "ssl": f"ssl:0:interface=127.0.0.1:privateKey={pem}",
        "tls": f"tls:{pem.parent}:port=0:interface=127.0.0.1",
    }[kind]


def listening(server: Server, mode: str, times: int = 1) -> Server:
    """Wait until every endpoint listens in every process."""
    server.wait_for_times("listening on ", times * (2 if mode == "workers" else 1))
    return server


def connect_unix(path: Path | str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


@contextmanager
def served(
    kind: str, mode: str, directory: Path, pem: Path, *options: str
) -> Iterator[tuple[Server, Connect]]:
    """Start a server that listens on a kind of endpoint; give it with what connects to it."""
    description = described(kind, directory, pem)
    command = twistd("--listen", description, *MODES[mode], *options, port=None)

    def connect() -> socket.socket:
        if kind == "unix":
            return connect_unix(directory / "socket")
        client = server.connect("::1" if kind == "tcp6" else "127.0.0.1")
        if kind not in over_tls:
            return client
        context = ssl.create_default_context(cafile=pem)
        return context.wrap_socket(client, server_hostname="localhost")

    with running(command, cwd=directory) as server:
        yield listening(server, mode), connect


def with_half_close(kind: str, server: Server, connect: Connect, payload: bytes) -> bytes:
    """Say a payload and the end in one go, and return what comes back."""
    if kind not in over_tls:
        with connect() as client:
            return say(client, payload)
    from tests.system.test_tls_half_close import Client

    with Client(server.connect()) as over_tls_client:
        return over_tls_client.tell(payload, close_notify=True, fin=True)


@kinds_and_modes(MODES, quick=[("tcp6", "stock"), ("unix", "fast"), ("tls", "workers")])
def test_connections_come_back_whole_and_the_drain_waits(
    kind: str, mode: str, tmp_path: Path, pem: Path
) -> None:
    with served(kind, mode, tmp_path, pem, "--drain-timeout", "20") as (server, connect):
        for size in (1, 100, 16_385, MIB):
            payload = random.Random(size).randbytes(size)
            with connect() as client:
                assert exchange(client, payload) == payload
            assert with_half_close(kind, server, connect, payload) == payload
        with ExitStack() as stack:
            clients = [stack.enter_context(connect()) for _ in range(5)]
            for client in clients:
                assert exchange(client, b"before") == b"before"
            server.signal(signal.SIGTERM)
            server.wait_for("draining: ")
            for client in clients:
                assert exchange(client, b"after" * 20_000) == b"after" * 20_000
        assert server.wait() == -signal.SIGTERM
    assert "Traceback" not in server.log
    assert not list(tmp_path.iterdir())


@needs_proc
@kinds_and_modes(["fast", "stock"], quick=[("tls", "fast")])
def test_clients_that_never_read_cost_little(
    kind: str, mode: str, tmp_path: Path, pem: Path
) -> None:
    with served(kind, mode, tmp_path, pem) as (server, connect), ExitStack() as stack:
        assert_stuck_clients_cost_little(
            server, 5, lambda: get_stuck(stack.enter_context(connect()))
        )


@in_all_modes
def test_clients_waiting_at_a_unix_socket_when_the_drain_begins_are_served(
    mode: str, tmp_path: Path, pem: Path
) -> None:
    with served("unix", mode, tmp_path, pem, "--drain-timeout", "20") as (server, connect):
        pids = [int(pid) for pid in re.findall(r"worker \d started, pid (\d+)", server.log)]
        pids = pids or [server.pid]
        with ExitStack() as stack:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            clients = [stack.enter_context(connect()) for _ in range(30)]
            for client in clients:
                client.sendall(b"data")
                client.shutdown(socket.SHUT_WR)
            server.signal(signal.SIGTERM)
            if mode == "workers":
                server.wait_for(r"\(UNIX Port .* Closed\)")
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            for client in clients:
                assert receive_all(client) == b"data"
        assert server.wait() == -signal.SIGTERM


def test_clients_without_a_place_at_a_unix_socket_are_served_before_the_end(
    tmp_path: Path, pem: Path
) -> None:
    limits = ["--max-connections", "1", "--drain-timeout", "20"]
    with served("unix", "fast", tmp_path, pem, *limits) as (server, connect):
        with connect() as inside, connect() as outside:
            assert exchange(inside, b"before") == b"before"
            outside.sendall(b"data")
            server.signal(signal.SIGTERM)
            server.wait_for("draining: 1 connection")
            assert say(inside, b"after") == b"after"
            assert outside.recv(4) == b"data"
        assert server.wait() == -signal.SIGTERM


@in_all_modes
def test_several_endpoints_and_a_port(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    endpoints = ["--listen", f"unix:{path}", "--listen", "tcp:0:interface=127.0.0.1"]
    command = twistd(*endpoints, "--port", "0", "--interface", "127.0.0.1", *MODES[mode])
    with running(command, cwd=tmp_path) as server:
        listening(server, mode, times=3)
        ports = set(re.findall(r"listening on 127\.0\.0\.1:(\d+);", server.log))
        assert len(ports) == 2
        for port in ports:
            with server.connect(port=int(port)) as client:
                assert say(client, b"data") == b"data"
        with connect_unix(path) as client:
            assert say(client, b"data") == b"data"


@needs_ss
@in_all_modes
def test_the_backlog_is_ours_unless_the_endpoint_names_one(mode: str, tmp_path: Path) -> None:
    tcp = "tcp:0:interface=127.0.0.1"
    for endpoint, options, expected in (
        (tcp, ["--backlog", "7"], 7),
        (f"{tcp}:backlog=50", ["--backlog", "7"], 50),
    ):
        command = twistd("--listen", endpoint, *options, *MODES[mode], port=None)
        with running(command, cwd=tmp_path) as server:
            listening(server, mode)
            assert send_q(server.port) == expected
            assert f"accept queue holds {expected} (asked {expected}, " in server.log


def test_a_backlog_beyond_the_limit_is_clamped_and_told(tmp_path: Path) -> None:
    for endpoint in ("tcp:0:interface=127.0.0.1", f"unix:{tmp_path}/socket"):
        command = twistd("--listen", f"{endpoint}:backlog=1000000000", port=None)
        with running(command, cwd=tmp_path) as server:
            server.wait_for("backlog 1000000000 exceeds net.core.somaxconn")
            server.wait_for("listening on ")


# What is refused, and how that is told; more of it in tests/test_listen.py.
REFUSED = {
    "tcp:x": r"not a number: 'x'; allowed: tcp:PORT\[",
    "unix:no/such/directory/socket": "no such directory; allowed: ",
    f"unix:{'x' * 120}": "AF_UNIX path too long; allowed: ",
}


def refused(arguments: list[str], pattern: str, directory: Path, **popen: object) -> None:
    """Check that a start is refused in one line, and leaves nothing behind."""
    before = sorted(directory.iterdir())
    command = [part for part in twistd(*arguments, port=None) if part != "--pidfile="]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, **popen)  # type: ignore[call-overload]
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.match(pattern, done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(directory.iterdir()) == before


@pytest.mark.parametrize("description", REFUSED, ids=lambda each: each[:20])
def test_what_cannot_be_had_is_told_in_one_line(description: str, tmp_path: Path) -> None:
    refused(["--listen", description], f"--listen .*: {REFUSED[description]}", tmp_path)


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one", "workers"])
def test_a_port_in_use(tmp_path: Path, workers: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        refused(
            # What was opened before is closed.
            ["--listen", f"unix:{tmp_path}/socket", "--listen", endpoint, *workers],
            f"--listen {endpoint}: in use; allowed: a free port",
            tmp_path,
        )


@slow
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one", "workers"])
def test_the_same_twice(tmp_path: Path, workers: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for endpoint, why in (
        (f"tcp:{port}:interface=127.0.0.1", "in use"),
        ("unix:socket", "a running server listens on it"),
    ):
        refused(
            ["--listen", endpoint, "--listen", endpoint, *workers],
            f"--listen {endpoint}: {why}; allowed: ",
            tmp_path,
        )


def test_a_file_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    for lock in ("", ":lockfile=0"):
        refused(
            ["--listen", f"unix:socket{lock}"], f"--listen unix:socket{lock}: .* exists", tmp_path
        )
    assert path.read_text() == "precious"


@needs_tls
def test_a_key_that_does_not_fit(tmp_path: Path) -> None:
    mark = "-----BEGIN PRIVATE KEY"
    for name in ("one", "other"):
        certificate, _, key = make_certificate(tmp_path / name).read_text().partition(mark)
        (tmp_path / f"{name}.certificate").write_text(certificate)
        (tmp_path / f"{name}.key").write_text(mark + key)
    refused(
        ["--listen", "ssl:0:privateKey=one.key:certKey=other.certificate"],
        "--listen ssl:.*: other.certificate: the certificate was not issued for .* one.key; ",
        tmp_path,
    )


@slow
@needs_tls
def test_a_worker_that_cannot_read_the_key_says_so(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path / "both.pem")
    with served("ssl", "workers", tmp_path, pem) as (server, connect):
        pem.rename(tmp_path / "gone.pem")
        (pid,) = re.findall(r"worker 1 started, pid (\d+)", server.log)
        os.kill(int(pid), signal.SIGKILL)
        server.wait_for(r"worker 1 could not start \(ssl:0.*both\.pem: No such file or directory")
        (tmp_path / "gone.pem").rename(pem)
        server.wait_for(r"(?s)could not start.*\[worker 1\] listening on ")
        with connect() as client:
            assert exchange(client, b"data") == b"data"
    assert "Traceback" not in server.log


def test_tls_without_pyopenssl(tmp_path: Path) -> None:
    hidden = tmp_path / "OpenSSL.py"
    hidden.write_text("raise ImportError('hidden')")
    for kind in ("ssl:0", "tls:."):
        refused(
            ["--listen", kind],
            f"--listen {kind}: needs pyOpenSSL; allowed: .*pip install 'echoproto\\[tls\\]'",
            tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        )


@in_all_modes
def test_a_socket_left_by_a_killed_server_is_no_hindrance(
    mode: str, tmp_path: Path, pem: Path
) -> None:
    with served("unix", mode, tmp_path, pem) as (server, _):
        server.signal(signal.SIGKILL)
        server.wait()
    assert (tmp_path / "socket").exists()
    with served("unix", mode, tmp_path, pem) as (_, connect), connect() as client:
        assert say(client, b"data") == b"data"


def test_the_mode_of_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(twistd("--listen", f"unix:{path}:mode=600", port=None)) as server:
        server.wait_for("listening on unix:")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@needs_root
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_unix_socket_that_may_not_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    command = twistd("--listen", f"unix:{path}", "--drain-timeout", "20", port=None)
    command[1:1] = ["--uid", "nobody", "--gid", "nogroup"]
    with running(command, cwd="/") as server:
        server.wait_for("listening on unix:")
        server.wait_for("set uid/gid")
        with connect_unix(path) as client:
            assert exchange(client, b"before") == b"before"
            server.signal(signal.SIGTERM)
            server.wait_for(f"cannot remove {path}: Permission denied")
            server.wait_for("draining: 1 connection")
            with pytest.raises(ConnectionRefusedError):
                connect_unix(path)
            assert say(client, b"after") == b"after"
        assert server.wait() == -signal.SIGTERM
        assert "Traceback" not in server.log
    with running(twistd("--listen", f"unix:{path}", port=None)) as server:
        server.wait_for("listening on unix:")


@slow
@pytest.mark.parametrize("mode", ["fast", "workers"])
def test_during_the_delay_connections_are_still_taken(mode: str, tmp_path: Path) -> None:
    command = twistd(*MODES[mode], "--drain-delay", "3", "--drain-timeout", "20")
    with running(command, cwd=tmp_path) as server:
        listening(server, mode)
        with server.connect() as before:
            assert exchange(before, b"before") == b"before"
            server.signal(signal.SIGTERM)
            server.wait_for("draining: still accepting connections for 3 s; ")
            during = server.connect()
            assert exchange(during, b"during") == b"during"
            # Workers report once a second, so the parent may count it a second later.
            server.wait_for(r"draining: still accepting connections for [12] s; 2 connections")
            server.wait_for(r"draining: 2 connections left, \d+ bytes echoed in the last second")
            with pytest.raises(ConnectionRefusedError):
                server.connect().close()
            assert say(during, b"more" * 20_000) == b"more" * 20_000
            during.close()
            server.wait_for("draining: 1 connection left")
        assert server.wait() == -signal.SIGTERM
    assert "Traceback" not in server.log


@pytest.mark.parametrize("mode", ["fast", pytest.param("workers", marks=slow)])
def test_a_second_signal_cuts_the_delay_and_the_drain(mode: str, tmp_path: Path) -> None:
    command = twistd(*MODES[mode], "--drain-delay", "60", "--drain-timeout", "60")
    with running(command, cwd=tmp_path) as server:
        listening(server, mode)
        with server.connect() as client:
            assert exchange(client, b"data") == b"data"
            server.signal(signal.SIGTERM)
            server.wait_for("draining: still accepting connections for 60 s")
            server.signal(signal.SIGTERM)
            assert server.wait() == -signal.SIGTERM
    assert "Traceback" not in server.log


@pytest.mark.slow
def test_workers_that_are_told_by_others_take_connections_for_the_delay(tmp_path: Path) -> None:
    command = twistd("--workers", "2", "--drain-delay", "3", "--drain-timeout", "20")
    with running(command, cwd=tmp_path) as server:
        listening(server, "workers")
        refused = threading.Event()
        over = threading.Event()

        def keep_connecting() -> None:
            while not over.is_set():
                try:
                    with server.connect() as client:
                        assert say(client, b"data") == b"data"
                except OSError:
                    refused.set()
                    return

        load = threading.Thread(target=keep_connecting)
        load.start()
        # As a service manager does that tells every process of a service.
        for pid in re.findall(r"worker \d started, pid (\d+)", server.log):
            os.kill(int(pid), signal.SIGTERM)
        server.signal(signal.SIGTERM)
        server.wait_for("still accepting connections for 1 s")
        assert not refused.is_set()
        over.set()
        load.join()
        assert server.wait() == -signal.SIGTERM
