"""The listening socket as the kernel shows it, and refused settings."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.marks import one_quick
from tests.system.conftest import Serve
from tests.system.server import eventually, receive_all, running, say, twistd

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (iproute2)")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BINDV6ONLY = "/proc/sys/net/ipv6/bindv6only"
# Says something to an address and a port, and prints what comes back.
CLIENT = """
import socket, sys
with socket.create_connection(sys.argv[1:3], 10) as client:
    client.sendall(b"data")
    print(client.recv(4).decode(), end="")
"""
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def send_q(port: int, *prefix: str) -> int:
    """The length of an accept queue, as ss shows it."""
    shown = subprocess.run(
        [*prefix, "ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True
    )
    return int(shown.stdout.split()[2])


@linux
@needs_ss
def test_backlog_is_what_ss_shows(serve: Serve) -> None:
    server = serve("--backlog", "5")
    assert send_q(server.port) == 5
    assert "accept queue holds 5 (asked 5, " in server.log
    assert "clamped" not in server.log


@linux
@needs_ss
@pytest.mark.parametrize("asked", ["1000000000", "2147483647"])
def test_a_backlog_beyond_the_limit_is_clamped_and_told(serve: Serve, asked: str) -> None:
    somaxconn = int(SOMAXCONN.read_text())
    server = serve("--backlog", asked)
    assert send_q(server.port) == somaxconn
    assert f"accept queue holds {somaxconn} (asked {asked}, " in server.log
    assert f"backlog {asked} exceeds net.core.somaxconn" in server.log
    assert f"sysctl -w net.core.somaxconn={asked}; " in server.log
    assert "/etc/sysctl.d/" in server.log
    assert "network namespace" in server.log


@linux
@needs_ss
def test_a_negative_backlog_is_0_and_told(serve: Serve) -> None:
    server = serve("--backlog", "-7")
    assert send_q(server.port) == 0
    assert "backlog -7 is below 0: clamped to 0" in server.log


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace of the test's own."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip (iproute2) to make a network namespace")
    name = f"echoproto-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"cannot make a network namespace: {made.stderr.strip()}")
    try:
        subprocess.run(
            ["ip", "-n", name, "link", "set", "lo", "up"], check=True, capture_output=True
        )
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, capture_output=True)


@linux
@needs_ss
def test_the_limit_is_that_of_the_network_namespace(namespace: str) -> None:
    inside = ("ip", "netns", "exec", namespace)
    subprocess.run([*inside, "sh", "-c", f"echo 64 > {SOMAXCONN}"], check=True)
    with running([*inside, *twistd()]) as server:
        assert send_q(server.port, *inside) == 64
        assert "accept queue holds 64 (asked 1024, net.core.somaxconn 64)" in server.log
        assert "sysctl -w net.core.somaxconn=1024" in server.log


@linux
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("interface", ["::", pytest.param("*", marks=pytest.mark.slow)])
def test_all_addresses_are_those_of_ipv4_too(namespace: str, interface: str, workers: str) -> None:
    inside = ("ip", "netns", "exec", namespace)
    subprocess.run([*inside, "sh", "-c", f"echo 1 > {BINDV6ONLY}; ip link set lo up"], check=True)
    with running([*inside, *twistd("--interface", interface, "--workers", workers)]) as server:
        for address in ("127.0.0.1", "::1"):
            command = [*inside, sys.executable, "-c", CLIENT, address, str(server.port)]
            assert subprocess.run(command, check=True, capture_output=True).stdout == b"data"
        held = [*inside, *twistd("--interface", interface, "--port", str(server.port))]
        refused = subprocess.run(held, capture_output=True, text=True)
        assert refused.returncode == 1
        assert f"--port {server.port}: in use on {interface}; allowed:" in refused.stderr
    free = ["--listen", "tcp6:0", "--workers", workers]
    with running([*inside, *twistd(*free)]) as server:
        command = [*inside, sys.executable, "-c", CLIENT, "127.0.0.1", str(server.port)]
        assert subprocess.run(command, check=True, capture_output=True).stdout == b"data"


@linux
def test_all_addresses_while_another_process_has_the_port_of_ipv4(namespace: str) -> None:
    inside = ("ip", "netns", "exec", namespace)
    subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
    with running([*inside, *twistd("--interface", "0.0.0.0")]) as server:
        port = str(server.port)
        command = [*inside, *twistd("--interface", "::", "--port", port)]
        refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert [line for line in refused.stderr.splitlines() if line.startswith("--")] == [
        f"--port {port}: in use on ::; allowed: a free port, or 0 to take one"
    ]


@linux
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_link_local_address_is_bound_with_its_scope(namespace: str, workers: str) -> None:
    added = subprocess.run(
        ["ip", "-n", namespace, "address", "add", "fe80::77/64", "dev", "lo"], capture_output=True
    )
    if added.returncode != 0:
        pytest.skip("this machine has no IPv6")
    inside = ("ip", "netns", "exec", namespace)
    subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
    command = twistd("--interface", "fe80::77%lo", "--workers", workers)
    with running([*inside, *command]) as server:
        server.wait_for(r"listening on \[fe80::77%lo\]:\d+;")
        client = [*inside, sys.executable, "-c", CLIENT, "fe80::77%lo", str(server.port)]
        assert subprocess.run(client, check=True, capture_output=True).stdout == b"data"


def with_connection_in_time_wait(serve: Serve) -> int:
    """Leave a server's port with a connection in TIME_WAIT; return the port."""
    for _ in range(5):
        server = serve("--drain-timeout", "0.1")
        with server.connect() as client:
            client.sendall(b"data")
            assert client.recv(4) == b"data"
            # The server closes first, and so it is the one that has to wait.
            server.signal(signal.SIGTERM)
            assert receive_all(client) == b""
        server.wait()
        if is_in_time_wait(server.port):
            return server.port
        # The kernel keeps only so many; or we were late, and it was aborted.
    pytest.skip("this machine leaves no connection in TIME_WAIT")


def is_in_time_wait(port: int) -> bool:
    """Look a local port up in the kernel's table of TCP sockets (proc(5))."""
    time_wait = "06"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == time_wait for row in rows)


@pytest.mark.slow
@linux
def test_reuse_address_binds_over_time_wait(serve: Serve) -> None:
    port = with_connection_in_time_wait(serve)
    for options in ([], ["--reuse-address"], ["--no-reuse-address", "--reuse-address"]):
        server = serve("--port", str(port), *options)
        assert server.port == port
        server.stop()


@pytest.mark.slow
@linux
def test_no_reuse_address_does_not(serve: Serve) -> None:
    port = with_connection_in_time_wait(serve)
    for options in (["--no-reuse-address"], ["--reuse-address", "--no-reuse-address"]):
        server = serve("--port", str(port), *options)
        assert server.wait() == 1
        assert f"--port {port}: in use on 127.0.0.1" in server.log


BAD_INPUT = {
    ("--port", "70000"): r"--port 70000: .*allowed: 0 to 65535",
    ("--port", "-1"): r"--port -1: .*allowed: 0 to 65535",
    ("--port", "x"): r"--port x: .*allowed: 0 to 65535",
    ("--backlog", "many"): r"--backlog many: .*allowed: a whole number",
    ("--backlog", "1e3"): r"--backlog 1e3: .*allowed: a whole number",
    ("--drain-timeout", "-1"): r"--drain-timeout -1: .*allowed: 0 to 31536000 seconds",
    ("--log", "all"): r"--log all: .*allowed: listening, connections, chunks",
    ("--interface", "192.0.2.1"): r"--interface 192\.0\.2\.1: not an address of this machine",
    ("--interface", "2001:db8::1"): r"--interface 2001:db8::1: not an address of this machine",
    ("--interface", "no-such-host.invalid"): r"--interface no-such-host\.invalid: does not resolve",
    ("--interface", "a" * 70): r"--interface a{70}: does not resolve",
    ("--nonsense",): r"unknown option --nonsense; see --help",
    ("nonsense",): r"unexpected argument 'nonsense'; allowed: ",
}


@pytest.mark.parametrize(
    "arguments", one_quick(BAD_INPUT), ids=lambda arguments: arguments[-1][:20]
)
def test_bad_input_is_one_line_and_exit_code_1(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused(list(arguments), BAD_INPUT[arguments], tmp_path)


def refused(arguments: list[str], pattern: str, directory: Path, **popen: object) -> None:
    """Check that a start is refused in one line on standard error, and leaves nothing."""
    command = [part for part in twistd(*arguments) if part != "--pidfile="]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, **popen)  # type: ignore[call-overload]
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(pattern, done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(directory.iterdir())


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused(["--port", str(port)], f"--port {port}: in use on 127.0.0.1; allowed: ", tmp_path)


@linux
@needs_root
def test_port_7_without_the_right(tmp_path: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 7:
        pytest.skip("here everybody may bind port 7")

    def drop_the_right() -> None:
        # Another user may not be able to read this Python; root without the
        # capability (linux/capability.h) is refused alike.
        pr_capbset_drop, cap_net_bind_service = 24, 10
        assert ctypes.CDLL(None).prctl(pr_capbset_drop, cap_net_bind_service, 0, 0, 0) == 0

    refused(
        ["--port", "7"],
        "--port 7: this user may not bind it .*allowed: ",
        tmp_path,
        preexec_fn=drop_the_right,
    )


@linux
@needs_root
def test_port_7_as_root_is_served_as_nobody(namespace: str) -> None:
    inside = ("ip", "netns", "exec", namespace)
    command = twistd("--port", "7")
    command[1:1] = ["--uid", "nobody", "--gid", "nogroup"]
    with running([*inside, *command]) as server:
        server.wait_for(r"listening on 127\.0\.0\.1:7;")
        server.wait_for(r"set uid/gid")
        status = Path(f"/proc/{server.pid}/status").read_text()
        nobody = pwd.getpwnam("nobody").pw_uid
        assert re.search(rf"Uid:\s+{nobody}\s+{nobody}", status)
        said = subprocess.run(
            [*inside, sys.executable, "-c", ASK_PORT_7], capture_output=True, text=True
        )
        assert said.stdout == "b'data'\n", said.stderr


ASK_PORT_7 = """
import socket
with socket.create_connection(("127.0.0.1", 7), timeout=30) as client:
    client.sendall(b"data")
    print(client.recv(4))
"""


def test_a_daemon_that_cannot_start_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [part for part in twistd("--port", port) if part not in ("-n", "--pidfile=")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert f"--port {port}: in use" in done.stderr
    # The daemon may outlive, for a moment, what was started.
    line, log = f"--port {port}: in use on 127.0.0.1; allowed: ", tmp_path / "twistd.log"
    assert eventually(lambda: line in log.read_text()), log.read_text()
    assert eventually(lambda: not (tmp_path / "twistd.pid").exists())


def test_help_teaches_the_options() -> None:
    shown = subprocess.run([*twistd(), "--help"], capture_output=True, text=True, check=True)
    words = " ".join(shown.stdout.split())
    for option in (
        "-p, --port= TCP port, 0 to 65535. 0 picks a free port, which the log shows. "
        "[default: 9999, or none if --listen is given]",
        "-i, --interface=",
        "[default: 127.0.0.1]",
        "-b, --backlog= Length of the accept queue, in connections",
        "[default: 1024]",
        "--drain-timeout= Seconds",
        "[default: 10]",
        "--log=",
        "[default: listening]",
        "--reuse-address",
        "--no-reuse-address",
    ):
        assert option in words


def test_twist_serves_too() -> None:
    command = twistd()
    command[:3] = [command[0].removesuffix("d"), "--log-format=text"]
    with running(command) as server:
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        server.signal(signal.SIGTERM)
        assert server.wait() in (-signal.SIGTERM, 143)
