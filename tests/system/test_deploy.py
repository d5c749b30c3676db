"""The recipes of docs/deploy do what they promise."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import container
from tests.system.network import Network, needs_network, network
from tests.system.server import BIN, PATIENCE, Server, running, say
from tests.system.test_signals import logging_to, port_in

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "docs" / "deploy"
SERVICE = (DEPLOY / "echoproto.service").read_text()
SOCKET = (DEPLOY / "echoproto.socket").read_text()
HAPROXY = (DEPLOY / "haproxy.cfg").read_text()
LOGROTATE = (DEPLOY / "logrotate.conf").read_text()

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# What a connection can take, and what the program takes without any.
CONNECTION = 256 * KIB
PROGRAM = 128 * MIB

needs_systemd = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and shutil.which("systemd-socket-activate")),
    reason="needs systemd-analyze and systemd-socket-activate (systemd)",
)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings(unit: str, name: str) -> list[str]:
    """The values that a unit gives a setting."""
    return re.findall(rf"(?m)^{name}=(.*)$", unit.replace("\\\n", ""))


def option(command: str, name: str, default: float = 0) -> float:
    found = re.search(rf"--{name}[= ](\d+)", command)
    return float(found[1]) if found else default


def drain(command: str) -> float:
    """How many seconds a drain can take at the most."""
    return option(command, "drain-delay", 0) + option(command, "drain-timeout", 10)


# systemd


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with the program where it is here."""
    written = []
    for name, unit in (("echoproto.service", SERVICE), ("echoproto.socket", SOCKET)):
        (tmp_path / name).write_text(unit.replace("/opt/echoproto/bin", str(BIN)))
        written.append(str(tmp_path / name))
    return written


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(units: list[str]) -> None:
    assert run("systemd-analyze", "verify", "--man=no", *units) == ""


@needs_systemd
def test_systemd_would_find_it(units: list[str]) -> None:
    unit = Path(units[0])
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in run("systemd-analyze", "verify", "--man=no", *units)


@needs_systemd
def test_the_service_is_exposed_to_little(units: list[str]) -> None:
    told = run("systemd-analyze", "security", "--offline=true", "--no-pager", units[0])
    found = re.search(r"Overall exposure level for echoproto.service: ([\d.]+)", told)
    assert found
    assert float(found[1]) <= 1.5, told


def test_the_service_has_time_to_drain_and_room_for_what_it_takes_in() -> None:
    (start,) = settings(SERVICE, "ExecStart")
    (stop,) = settings(SERVICE, "TimeoutStopSec")
    assert drain(start) + 5 <= int(stop)
    most = int(option(start, "max-connections"))
    assert most > 0
    (memory,) = settings(SERVICE, "MemoryMax")
    assert most * CONNECTION + PROGRAM <= int(memory.removesuffix("G")) * GIB
    (files,) = settings(SERVICE, "LimitNOFILE")
    assert most + 256 <= int(files)


class Activated:
    """The service, started by systemd-socket-activate with the unit's own words.

    It has a network of its own, so that every port is the one in the unit.
    """

    def __init__(self, net: Network, folder: Path, *tracer: str) -> None:
        self._net = net
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.settimeout(PATIENCE)
        self.notify.bind(str(folder / "notify"))
        (start,) = settings(SERVICE, "ExecStart")
        (listen,) = settings(SOCKET, "ListenStream")
        words = shlex.split(start.replace("/opt/echoproto/bin", str(BIN)))
        activate = ["systemd-socket-activate", f"--listen={listen}", "--fdname=echoproto.socket"]
        environment = [f"--setenv=NOTIFY_SOCKET={folder}/notify"]
        self.command = net.command(*activate, *environment, *tracer, *words)
        self.server: Server

    def run(self, *command: str) -> str:
        return run(*self._net.command(*command))

    def states(self, last: str) -> list[str]:
        """Return what systemd is told, up to some state."""
        told: list[str] = []
        while last not in told:
            told += self.notify.recv(4096).decode().splitlines()
        return told


FIRST = "exec 3<>/dev/tcp/::1/7 && echo first >&3 && read -u 3 line && echo $line"


def activated(folder: Path, *tracer: str) -> Iterator[Activated]:
    with network(folder) as net:
        service = Activated(net, folder, *tracer)
        with service.notify, running(service.command) as service.server:
            service.server.wait_for("Listening on")
            # The first connection is what starts it, and is served as soon as that is done.
            command = net.command("bash", "-c", FIRST)
            first = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            assert first.stdout == "first\n", first.stderr + service.server.log
            yield service


# What MemoryDenyWriteExecute= does, where the kernel (Linux 6.3) can do it without systemd.
DENY_WRITE_EXECUTE = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Activated]:
    assert settings(SERVICE, "MemoryDenyWriteExecute") == ["yes"]
    yield from activated(tmp_path, sys.executable, "-c", DENY_WRITE_EXECUTE)


READY = "from urllib.request import urlopen; print(urlopen('{}').status)"


@needs_systemd
@needs_network
def test_the_service_starts_on_its_socket_and_tells_systemd(service: Activated) -> None:
    for address in ("[::1]:7", "127.0.0.1:7"):
        assert "0% loss" in service.run(str(BIN / "echoproto"), "ping", "-c", "2", address)
    assert "READY=1" in service.states("READY=1")
    ready = READY.format("http://127.0.0.1:9998/readyz")
    assert service.run(str(BIN / "python"), "-c", ready) == "200\n"
    service.server.signal(signal.SIGTERM)
    assert "STOPPING=1" in service.states("STOPPING=1")
    # What systemd takes for a clean end without being told.
    assert service.server.wait() == -signal.SIGTERM


def calls_allowed() -> set[str]:
    """The system calls that the unit's filter lets through."""

    def members(name: str) -> set[str]:
        found: set[str] = set()
        for line in run("systemd-analyze", "syscall-filter", name).splitlines()[1:]:
            word = line.strip()
            if word.startswith("@"):
                found |= members(word)
            elif word and not word.startswith("#"):
                found.add(word)
        return found

    first, *rest = settings(SERVICE, "SystemCallFilter")
    allowed = members(first)
    for line in rest:
        for name in line.removeprefix("~").split():
            assert line.startswith("~")
            allowed -= members(name)
    return allowed


@needs_systemd
@needs_network
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.slow
def test_the_service_calls_nothing_that_its_filter_forbids(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    # -D leaves the service the number that it has to have for LISTEN_PID.
    tracer = ["strace", "-D", "-f", "-qq", f"--output={trace}"]
    for service in activated(tmp_path, *tracer):
        service.run(str(BIN / "echoproto"), "fuzz", "[::1]:7", "-n", "20", "--seed", "1")
        service.run(str(BIN / "python"), "-c", READY.format("http://127.0.0.1:9998/metrics"))
        service.server.signal(signal.SIGTERM)
        service.server.wait()
    called = set(re.findall(r"(?m)^\d+ +(\w+)\(", trace.read_text()))
    assert {"accept4", "epoll_wait", "sendto"} <= called
    assert called - calls_allowed() == set()


# Containers


@needs_network
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_image_builds_and_serves_without_a_shell(tmp_path: Path) -> None:
    image = container.build(DEPLOY / "Containerfile", PROJECT, tmp_path)
    with container.container(image) as echo:
        echo.server.wait_for(r"listening on .*:9999;")
        assert "No such file" in echo.run("/bin/sh", "-c", "").stderr
        ping = echo.run("/opt/echoproto/bin/echoproto", "ping", "-c", "3", "127.0.0.1:9999")
        assert "0% loss" in ping.stdout, ping.stderr
        smoke = echo.run("/opt/echoproto/bin/echoproto", "fuzz", "127.0.0.1:9999", "-n", "20")
        assert "no failure" in smoke.stdout, smoke.stderr
        healthy = echo.run(*image.healthcheck)
        assert healthy.returncode == 0, healthy.stderr
        user = Path(f"/proc/{echo.pid}/status").read_text()
        assert re.search(r"Uid:\s+65534\s+65534\s+65534\s+65534\n", user)
        # Process 1 cannot be killed by its own signal: it ends as if all were well.
        assert echo.stop() == 0
        echo.server.wait_for("Server Shut Down")
    (pod,) = pods()
    (echo_container,) = pod["containers"]
    with container.container(image, *echo_container["args"]) as echo:
        echo.server.wait_for(r"listening on .*:9999;")
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = echo_container[name]["httpGet"]
            (port,) = (p for p in echo_container["ports"] if p["name"] == probe["port"])
            url = f"http://127.0.0.1:{port['containerPort']}{probe['path']}"
            asked = echo.run("/opt/echoproto/bin/python", "-c", READY.format(url))
            assert asked.stdout == "200\n", asked.stderr
        echo.stop()


def test_the_image_says_what_it_needs() -> None:
    found = container.instructions((DEPLOY / "Containerfile").read_text())
    for name, value in found:
        if name in ("RUN", "CMD", "ENTRYPOINT"):
            container.exec_form(value)
    said = dict(found)
    container.exec_form(said["HEALTHCHECK"].partition("CMD ")[2])
    assert all(int(number) > 0 for number in said["USER"].split(":"))
    assert said["STOPSIGNAL"] == "SIGTERM"
    # Not "latest": a version of Python, at least.
    (base,) = (value for name, value in found if name == "ARG")
    assert re.search(r"python:3\.\d+-slim", base)
    for name, value in found:
        if name == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                assert (PROJECT / source).exists()


# Kubernetes


def objects() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra 'dev'")
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def pods() -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in objects() if each["kind"] == "Deployment"]


# The oldest that the recipe speaks of, and the newest that the package knows.
@pytest.mark.parametrize("version", ["1.30", None])
def test_kubernetes_takes_the_objects(version: str | None) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate comes with the extra 'dev'"
    )
    for each in objects():
        validate.validate(each, version or validate.latest_version(), strict=True)
    (deployment,) = (each for each in objects() if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"] = {"wait": 5}
    with pytest.raises(validate.ValidationError):
        validate.validate(deployment, version or validate.latest_version(), strict=True)


def test_the_pod_has_time_to_drain_and_room_for_what_it_takes_in() -> None:
    (pod,) = pods()
    (echo,) = pod["containers"]
    command = " ".join(echo["args"])
    before = echo["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before + drain(command) + 5 <= pod["terminationGracePeriodSeconds"]
    readiness = echo["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert noticed < option(command, "drain-delay")
    memory = int(echo["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB
    assert option(command, "max-connections") * CONNECTION + PROGRAM <= memory


def test_the_objects_mean_the_same_pods() -> None:
    found = {each["kind"]: each for each in objects()}
    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget"}
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert found[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {each["name"] for each in pods()[0]["containers"][0]["ports"]}
    assert {each["targetPort"] for each in found["Service"]["spec"]["ports"]} <= ports


# HAProxy; what it does with three of ours is in test_haproxy.py


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
def test_haproxy_takes_its_configuration() -> None:
    assert run("haproxy", "-c", "-f", str(DEPLOY / "haproxy.cfg")) == (
        "Configuration file is valid\n"
    )


def test_haproxy_notices_a_drain_before_the_port_closes() -> None:
    checks = re.search(r"inter (\d+)s fall (\d+)", HAPROXY)
    limit = re.search(r"timeout check (\d+)s", HAPROXY)
    assert checks
    assert limit
    noticed = int(checks[2]) * (int(checks[1]) + int(limit[1]))
    assert noticed < option(HAPROXY, "drain-delay")


# logrotate


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("logrotate"), reason="needs logrotate")
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("workers", [1, 2])
def test_logrotate_loses_no_line(tmp_path: Path, log_format: str, workers: int) -> None:
    path, pid_file = tmp_path / "echo.log", tmp_path / "echo.pid"
    config, state = tmp_path / "logrotate.conf", tmp_path / "state"
    config.write_text(
        LOGROTATE.replace("/var/log/echoproto", str(tmp_path)).replace(
            "/run/echoproto", str(tmp_path)
        )
    )
    config.chmod(0o600)
    options = ("--log", "connections", "--workers", str(workers), "--drain-timeout", "5")
    command = logging_to(path, *options, log_format=log_format)
    command[command.index("--pidfile=")] = f"--pidfile={pid_file}"
    done = threading.Event()
    served = rotated = 0

    def rotate() -> None:
        nonlocal rotated
        while not done.is_set():
            subprocess.run(
                ["logrotate", "--force", f"--state={state}", str(config)], check=True, timeout=60
            )
            rotated += 1
            time.sleep(0.3)

    with running(command) as server:
        port = port_in(path, workers)
        rotator = threading.Thread(target=rotate)
        rotator.start()
        while rotated < 10:
            with server.connect(port=port) as client:
                assert say(client, b"data") == b"data"
            served += 1
        done.set()
        rotator.join()
        server.signal()
        assert server.wait() == -signal.SIGTERM
    old = sorted(tmp_path.glob("echo.log.*"))
    assert len(old) >= 3, "nothing was rotated"
    logs = [subprocess.run(["zcat", "-f", *old, path], capture_output=True, check=True)]
    lines = logs[0].stdout.decode().splitlines()
    if log_format == "json":
        lines = [json.loads(line)["message"] for line in lines]
    assert sum(bool(re.search(r"closed 127\.0\.0\.1:\d+", line)) for line in lines) == served
