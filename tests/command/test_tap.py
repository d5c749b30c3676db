"""The service that the command line makes, and errors at its start."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

from echoproto.command.errors import CannotStartError
from echoproto.command.options import Options
from echoproto.command.settings import Settings
from echoproto.command.tap import makeService
from echoproto.limits.limits import Limits
from echoproto.service import EchoService
from echoproto.workers.parent import WorkersService
from tests.fakes import RefusingReactor
from tests.twisted_versions import binding


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def test_the_service_is_what_the_options_say(reactor: MemoryReactorClock) -> None:
    service = makeService(
        parsed("-p", "7", "-i", "::1", "-b", "5", "--drain-timeout", "3", "--log", "chunks"),
        reactor,
    )
    service.privilegedStartService()
    connections: Any
    ((port, connections, backlog, interface),) = reactor.tcpServers
    assert isinstance(service.echo, EchoService)
    assert connections.factory is service.echo.factory
    assert (port, backlog, interface) == (binding("::1", 7), 5, "::1")
    assert service.echo.factory.log is not None
    assert service.echo.factory.log.chunks


LIMITS = "--max-connections 5 --max-per-source 2 --idle-timeout 1.5 --max-bytes-per-second 1000"


def test_limits(reactor: MemoryReactorClock) -> None:
    settings = Settings.from_options(parsed(*LIMITS.split()))
    assert settings.limits == Limits(5, 2, 1.5, 1000)
    service = makeService(parsed(*LIMITS.split()), reactor)
    assert isinstance(service.echo, EchoService)
    factory = service.echo.factory
    assert factory.slots is not None
    assert len(factory.gates) == 2
    connection = factory.buildProtocol(None)
    connection.transport = StringTransport()
    assert factory.make_pacer(connection) is not None
    assert factory.clock is reactor
    workers = makeService(parsed("--workers", "2", *LIMITS.split()), reactor)
    assert isinstance(workers.echo, WorkersService)


def test_the_global_reactor_is_the_default(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted.internet.reactor", reactor, raising=False)
    makeService(parsed()).privilegedStartService()
    assert len(reactor.tcpServers) == 1
    # Deadlines use the monotonic clock, since the wall clock may be set.
    assert reactor.seconds is time.monotonic


def refused(
    monkeypatch: pytest.MonkeyPatch, why: Exception, *arguments: str, parent: Any = None
) -> CannotStartError:
    """Start with a socket that cannot be opened; return the error."""

    options = parsed(*arguments)
    options.parent = parent
    service = makeService(options, RefusingReactor(why))
    with pytest.raises(CannotStartError) as caught:
        service.privilegedStartService()
    assert not service.running
    return caught.value


def os_error(code: int) -> OSError:
    return OSError(code, f"strerror {code}")


@pytest.mark.parametrize(
    ("why", "message"),
    [
        (
            os_error(errno.EADDRINUSE),
            "--port 7: in use on 127.0.0.1; allowed: a free port, or 0 to take one",
        ),
        (
            os_error(errno.EACCES),
            f"--port 7: this user may not bind it (strerror {errno.EACCES}); allowed: a port of "
            "net.ipv4.ip_unprivileged_port_start or above; or start as root, with twistd's "
            "--uid and --gid to serve as another user",
        ),
        (
            os_error(errno.EADDRNOTAVAIL),
            "--interface 127.0.0.1: not an address of this machine; "
            "allowed: an interface that `ip address` shows",
        ),
        (
            os_error(errno.EINVAL),
            f"--interface 127.0.0.1: cannot be bound (strerror {errno.EINVAL}); allowed: an "
            "interface that `ip address` shows; a link-local one with its device, as in "
            "fe80::1%eth0",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "--interface 127.0.0.1: does not resolve (Name or service not known); "
            "allowed: an address or a host name",
        ),
        (
            os_error(errno.EMFILE),
            f"--interface 127.0.0.1: cannot listen on port 7 (strerror {errno.EMFILE}); "
            "allowed: an address that can be bound",
        ),
    ],
)
def test_why_it_cannot_start(monkeypatch: pytest.MonkeyPatch, why: Exception, message: str) -> None:
    assert str(refused(monkeypatch, why, "--port", "7")) == message


@pytest.mark.parametrize(
    ("parent", "code"),
    [
        ({"nodaemon": True, "logfile": None}, 1),
        ({"nodaemon": True, "logfile": "-"}, 1),
        ({"nodaemon": True, "logfile": "echo.log"}, None),
        ({"nodaemon": False, "logfile": None}, None),
    ],
)
def test_the_error_is_printed_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parent: dict[str, object], code: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = StringIO()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    refusal = refused(monkeypatch, os_error(errno.EADDRINUSE), parent=parent)
    line = "--port 9999: in use on 127.0.0.1; allowed: a free port, or 0 to take one"
    assert terminal.getvalue() == f"{line}\n"
    # With a number as code, the interpreter prints nothing more.
    assert refusal.code == (line if code is None else code)


def test_the_error_is_an_exception() -> None:
    # twistd removes its pid file only after an Exception.
    assert issubclass(CannotStartError, Exception)


def test_a_pid_file_that_cannot_be_written_is_refused(
    reactor: MemoryReactorClock, tmp_path: Path
) -> None:
    options: Any = parsed()
    options.parent = {"pidfile": str(tmp_path / "no-such-folder" / "twistd.pid")}
    with pytest.raises(CannotStartError, match=r"--pidfile .*: cannot be written \(No such file"):
        makeService(options, reactor)
    # The path may exist in another root.
    options.parent["chroot"] = str(tmp_path)
    makeService(options, reactor)


def test_a_pid_file_is_left_to_twistd(reactor: MemoryReactorClock, tmp_path: Path) -> None:
    options: Any = parsed()
    path = tmp_path / "twistd.pid"
    options.parent = {"pidfile": str(path)}
    makeService(options, reactor)
    assert not path.exists()
    path.write_text("of another")
    makeService(options, reactor)
    assert path.read_text() == "of another"


def test_the_status_is_opened_first_and_closed_last(reactor: MemoryReactorClock) -> None:
    service: Any = makeService(parsed("--status", "9998"), reactor)
    service.privilegedStartService()
    service.startService()
    assert [
        (type(factory).__name__, interface) for _, factory, _, interface in reactor.tcpServers
    ] == [
        ("StatusSite", "127.0.0.1"),
        ("ConnectionGroup", "127.0.0.1"),
    ]
    status = service.status
    assert status is not None
    connection = service.echo.connections.buildProtocol(None)
    connection.makeConnection(StringTransport())
    over: list[object] = []
    service.stopService().addCallback(over.append)
    reactor.advance(0)
    assert status._port is not None
    connection.connectionLost()
    assert status._port is None
    assert len(over) == 1


@pytest.mark.parametrize("taken", ["status", "port"])
def test_if_one_port_is_in_use_the_other_is_closed(taken: str) -> None:
    status_binding = binding("127.0.0.1", 9998)
    reactor = RefusingReactor(
        os_error(errno.EADDRINUSE), lambda port: (port == status_binding) == (taken == "status")
    )
    service = makeService(parsed("--status", "9998"), reactor)
    with pytest.raises(CannotStartError) as caught:
        service.privilegedStartService()
    assert str(caught.value).startswith(f"--{taken} ")
    assert all(port.closed for port in reactor.opened)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("x", "--status x: no such kind of endpoint; allowed: a TCP port, or a Twisted endpoint: "),
        ("", "--status '': no such kind of endpoint; allowed: a TCP port, "),
        ("tcp:a:b:c:d", "--status tcp:a:b:c:d: too many arguments (a colon that is part of one "),
    ],
)
def test_a_status_that_is_not_an_endpoint(
    reactor: MemoryReactorClock, endpoint: str, message: str
) -> None:
    with pytest.raises(CannotStartError) as caught:
        makeService(parsed("--status", endpoint), reactor)
    assert str(caught.value).startswith(message)
    assert reactor.tcpServers == []


WITHOUT_PROMETHEUS = """
import sys
sys.modules["prometheus_client"] = None
from twisted.internet.testing import MemoryReactorClock
from echoproto.command.tap import Options, makeService
options = Options()
options.parseOptions(["--status", "9998"])
makeService(options, MemoryReactorClock())
"""


def test_the_status_needs_an_extra() -> None:
    # In a new process, because imported modules stay imported.
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PROMETHEUS], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == (
        "--status 9998: needs prometheus-client: pip install 'echoproto[metrics]'\n"
    )


def test_the_settings_that_the_status_shows() -> None:
    options = parsed("--workers", "2", "--listen", "tcp:1", "--listen", "tcp:2")
    shown = Settings.from_options(options).shown
    assert shown["workers"] == "2"
    assert shown["listen"] == "tcp:1 tcp:2"
    assert (shown["reuse-address"], shown["reuse-port"]) == ("on", "off")
    assert "port" not in shown
    assert "status" not in shown


def test_it_listens_on_endpoint_strings(reactor: MemoryReactorClock) -> None:
    service = makeService(parsed("--listen", "tcp:7", "--listen", "tcp6:8", "-b", "5"), reactor)
    service.privilegedStartService()
    assert [(asked[2], asked[3]) for asked in reactor.tcpServers] == [(5, "0.0.0.0"), (5, "::")]


def test_a_port_is_opened_too_if_it_is_given(reactor: MemoryReactorClock) -> None:
    makeService(parsed("--listen", "tcp:7", "--port", "8"), reactor).privilegedStartService()
    assert [asked[3] for asked in reactor.tcpServers] == ["127.0.0.1", "0.0.0.0"]


def test_a_wrong_endpoint_is_refused(reactor: MemoryReactorClock) -> None:
    with pytest.raises(CannotStartError, match=r"^--listen tcp:x: not a number: 'x'; allowed: "):
        makeService(parsed("--listen", "tcp:x"), reactor)


def test_an_endpoint_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = refused(monkeypatch, os_error(errno.EADDRINUSE), "--listen", "tcp:7")
    assert str(refusal) == "--listen tcp:7: in use; allowed: a free port, or 0 to take one"


def test_the_service_manager_is_notified(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        service = makeService(parsed("--listen", f"unix:{tmp_path}/socket"), reactor)
        service.startService()
        reactor.run()
        assert "NOTIFY_SOCKET" not in os.environ
        assert manager.recv(1000) == b"READY=1\nSTATUS=0 connections\n"
        service.stopService()
        assert manager.recv(1000).startswith(b"STOPPING=1\n")
        reactor.advance(0)
        reactor.advance(0)
        assert reactor.getDelayedCalls() == []
