"""Several processes on one port: as clients and operators see them, and after kill -9."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.conftest import Serve
from tests.system.server import BIN, PATIENCE, Server, receive_all, running, say, twistd

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="this platform has no SO_REUSEPORT"
)


def all_listen(server: Server, count: int) -> None:
    for number in range(1, count + 1):
        server.wait_for(rf"\[worker {number}\] listening on")


def pid_of(server: Server, number: int) -> int:
    """Return the pid of a worker's current process."""
    return int(re.findall(rf"worker {number} started, pid (\d+)", server.log)[-1])


def gone(pid: int) -> bool:
    """Tell whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def refused_soon(server: Server) -> None:
    """Wait until the port is closed."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            server.connect().close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass
        assert time.monotonic() < end


def test_connections_spread(shared_cluster: Server) -> None:
    server, before = shared_cluster, shared_cluster.log.count("opened")

    def opened() -> list[str]:
        return re.findall(r"\[worker (\d)\] opened", server.log)[before:]

    with ExitStack() as clients:
        for _ in range(400):
            client = clients.enter_context(server.connect())
            client.sendall(b"data")
            assert client.recv(4) == b"data"
        server.wait_for_times("opened", before + 400)
        shares = [opened().count(number) for number in "1234"]
    assert sum(shares) == 400
    assert max(shares) <= 200


def test_a_killed_worker_hurts_no_other_and_is_replaced(serve: Serve) -> None:
    began = time.monotonic()
    server = serve("--workers", "4", "--log", "connections")
    all_listen(server, 4)
    # How fast this machine starts processes just now.
    took_to_start = time.monotonic() - began
    refused: list[OSError] = []
    connected = 0
    over = threading.Event()

    def keep_connecting() -> None:
        nonlocal connected
        while not over.is_set():
            try:
                with server.connect() as client:
                    client.sendall(b"new")
                    # A connection that the killed worker had accepted is lost
                    # with it. No client is refused.
                    client.recv(3)
            except ConnectionRefusedError as error:
                refused.append(error)
            except ConnectionResetError:
                pass
            connected += 1

    with ExitStack() as stack:
        clients = []
        names = {}
        for _ in range(100):
            client = stack.enter_context(server.connect())
            client.sendall(b"data")
            assert client.recv(4) == b"data"
            clients.append(client)
            names[client] = "{}:{}".format(*client.getsockname())
        server.wait_for_times("opened", 100)
        theirs = set(re.findall(r"\[worker 2\] opened (\S+)", server.log))
        load = threading.Thread(target=keep_connecting)
        load.start()
        killed = time.monotonic()
        os.kill(pid_of(server, 2), signal.SIGKILL)
        ended = server.wait_for(
            r"worker 2 ended \(killed by signal 9\); a new one starts in (\d\.\d) s"
        )
        delay = float(ended[1])
        assert delay <= 1
        server.wait_for(r"(?s)worker 2 ended.*\[worker 2\] listening on")
        assert time.monotonic() - killed < delay + max(4.0, 2 * took_to_start)
        over.set()
        load.join()
        for client in clients:
            if names[client] in theirs:
                continue
            client.sendall(b"more")
            assert client.recv(4) == b"more"
    assert theirs
    assert not refused
    assert connected


def test_clients_waiting_for_a_dead_worker_are_served_by_the_next(serve: Serve) -> None:
    server = serve("--workers", "2")
    all_listen(server, 2)
    pids = [pid_of(server, 1), pid_of(server, 2)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            client.sendall(b"data")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for client in clients:
            assert client.recv(4) == b"data"


def test_sigterm_drains_all(serve: Serve) -> None:
    server = serve("--workers", "3", "--drain-timeout", "20")
    all_listen(server, 3)
    payload = os.urandom(1 << 20)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(30)]
        for client in clients:
            client.sendall(payload[:1000])
            assert client.recv(1)
        # As a service manager does that tells every process of a service.
        for number in (1, 2, 3):
            os.kill(pid_of(server, number), signal.SIGTERM)
        server.signal(signal.SIGTERM)
        server.wait_for_times("draining", 3)
        refused_soon(server)
        for client in clients:
            assert say(client, payload[1000:]) == payload[1:]
    assert server.wait() == -signal.SIGTERM


def test_clients_waiting_when_the_drain_begins_are_served(serve: Serve) -> None:
    server = serve("--workers", "2", "--drain-timeout", "20")
    all_listen(server, 2)
    pids = [pid_of(server, 1), pid_of(server, 2)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            client.sendall(b"data")
            client.shutdown(socket.SHUT_WR)
        server.signal(signal.SIGTERM)
        server.wait_for_times("Closed)", 2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            assert receive_all(client) == b"data"
    assert server.wait() == -signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_it_short(serve: Serve, second: int) -> None:
    server = serve("--workers", "2", "--drain-timeout", "60")
    all_listen(server, 2)
    with ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(server.connect())
            client.sendall(b"data")
            assert client.recv(4) == b"data"
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(second)
        assert server.wait() == -signal.SIGTERM
    assert "ReactorNotRunning" not in server.log
    assert "Traceback" not in server.log


def test_clients_that_connect_before_the_workers_listen_are_served_although_it_is_to_stop(
    serve: Serve,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    drain = ("--drain-timeout", "20", "--status", "0")
    server = serve("--workers", "2", "--port", str(port), *drain)
    # The parent runs, and has opened the port; the workers are far from ready.
    server.wait_for("status on ")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            for _ in range(20)
        ]
        for client in clients:
            client.sendall(b"data")
            client.shutdown(socket.SHUT_WR)
        server.signal(signal.SIGTERM)
        assert [receive_all(client) for client in clients] == [b"data"] * 20
    assert server.wait() == -signal.SIGTERM


def test_workers_end_with_a_parent_that_is_killed(serve: Serve) -> None:
    server = serve("--workers", "2", "--drain-timeout", "1")
    all_listen(server, 2)
    pids = [pid_of(server, 1), pid_of(server, 2)]
    with server.connect() as client:
        client.sendall(b"data")
        assert client.recv(4) == b"data"
        server.signal(signal.SIGKILL)
        # Its drain ends the connection.
        assert receive_all(client) == b""
    end = time.monotonic() + PATIENCE
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)
    server.wait()


def test_one_worker_is_this_process_and_0_is_one_a_core(serve: Serve) -> None:
    single, many = serve("--workers", "1"), serve("--workers", "0")
    with single.connect() as client:
        assert say(client, b"data") == b"data"
    assert "worker 1" not in single.log
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        pytest.skip("on one core, 0 is 1")
    all_listen(many, cores)


def test_a_port_that_somebody_has_is_not_shared(serve: Serve, shared_cluster: Server) -> None:
    second = serve("--workers", "2", "--port", str(shared_cluster.port))
    assert second.wait() == 1
    assert f"--port {shared_cluster.port}: in use on 127.0.0.1" in second.log


def test_reuse_port_lets_independent_processes_share(serve: Serve) -> None:
    first = serve("--reuse-port", "--log", "connections")
    port = ("--port", str(first.port), "--log", "connections")
    second = serve("--reuse-port", *port)
    third = serve("--reuse-port", "--workers", "2", *port)
    assert second.port == third.port == first.port
    all_listen(third, 2)
    refusing = serve(*port)
    assert refusing.wait() == 1
    for _ in range(200):
        with first.connect() as client:
            assert say(client, b"data") == b"data"
    for server in (first, second, third):
        server.wait_for("opened")


@pytest.mark.parametrize("interface", ["::1", "::"])
def test_workers_on_ipv6(serve: Serve, interface: str) -> None:
    server = serve("--workers", "2", "--interface", interface)
    with server.connect("::1") as client:
        assert say(client, b"data") == b"data"


# What this Python can import, for another one of its version.
IMPORTABLE = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parents[2]), sysconfig.get_paths()["purelib"]]
    ),
}


@pytest.fixture
def anybodys_python() -> Iterator[str]:
    """A Python that the user nobody can run the workers with: ours may be in root's home."""
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        if Path(system).exists():
            # Without what the system has installed for it.
            venv = [system, "-m", "venv", "--without-pip", directory]
            subprocess.run(venv, check=True, capture_output=True)
        for python in (sys.executable, f"{directory}/bin/python"):
            try:
                subprocess.run(
                    [python, "-c", "import echoproto.workers.worker"],
                    user="nobody",
                    check=True,
                    capture_output=True,
                    cwd="/",
                    env=IMPORTABLE,
                )
            except (OSError, subprocess.CalledProcessError):
                continue
            yield python
            return
        pytest.skip("the user nobody can run no Python that can import this package")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_workers_serve_as_another_user(anybodys_python: str) -> None:
    nobody = pwd.getpwnam("nobody")
    _, *arguments = twistd("--workers", "2")
    command = [anybodys_python, "-c", "from twisted.scripts.twistd import run; run()"]
    as_nobody = ["--uid", "nobody", "--gid", "nogroup"]
    with running([*command, *as_nobody, *arguments], cwd="/", env=IMPORTABLE) as server:
        all_listen(server, 2)
        status = Path(f"/proc/{pid_of(server, 1)}/status").read_text()
        assert re.search(rf"Uid:\s+{nobody.pw_uid}\s+{nobody.pw_uid}", status)
        with server.connect() as client:
            assert say(client, b"data") == b"data"


TAC = """
import os, socket
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from echoproto import WorkersService

inherited = socket.socket(fileno=os.dup({descriptor}))
inherited.setblocking(False)
application = Application("echo")
WorkersService(
    [
        serverFromString(reactor, "unix:{path}"),
        AdoptedStreamServerEndpoint(reactor, inherited.detach(), socket.AF_INET),
    ],
    2,
    drain_timeout=5,
).setServiceParent(application)
"""


def test_a_unix_endpoint_and_an_inherited_socket(tmp_path: Path) -> None:
    path, tac = tmp_path / "socket", tmp_path / "echo.tac"
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        address = inherited.getsockname()
        tac.write_text(TAC.format(path=path, descriptor=inherited.fileno()))
        command = [str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(tac)]
        with running(command, pass_fds=[inherited.fileno()]) as server:
            inherited.close()
            server.wait_for_times("listening on", 4)
            for _ in range(20):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                    assert say(client, b"data") == b"data"
                with socket.create_connection(address) as client:
                    assert say(client, b"data") == b"data"
            server.signal(signal.SIGTERM)
            assert server.wait() == -signal.SIGTERM
    assert not path.exists()
