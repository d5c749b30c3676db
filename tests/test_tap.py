"""The service that a command line makes, and how its start is refused."""

from __future__ import annotations

import errno
import socket
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from echoproto.endpoint import TCPEndpoint
from echoproto.options import CannotStartError, Options
from echoproto.service import EchoService
from echoproto.tap import makeService


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
    (endpoint,) = service._endpoints
    assert isinstance(endpoint, TCPEndpoint)
    assert (endpoint.port, endpoint.interface, endpoint.backlog) == (7, "::1", 5)
    service.privilegedStartService()
    ((_, factory, backlog, interface),) = reactor.tcpServers
    assert isinstance(service, EchoService)
    assert factory is service.factory
    assert (backlog, interface) == (5, "::1")


def test_the_global_reactor_is_the_default(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted.internet.reactor", reactor, raising=False)
    makeService(parsed()).privilegedStartService()
    assert len(reactor.tcpServers) == 1
    # Deadlines hold although the clock on the wall may be set.
    assert reactor.seconds is time.monotonic


def refused(
    monkeypatch: pytest.MonkeyPatch, why: Exception, *arguments: str, parent: Any = None
) -> CannotStartError:
    """Start where the socket refuses; return the refusal."""

    class Refusing(MemoryReactorClock):
        def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            raise CannotListenError(interface, port, why)

    options = parsed(*arguments)
    options.parent = parent
    service = makeService(options, Refusing())
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
            "allowed: one that `ip address` shows",
        ),
        (
            os_error(errno.EINVAL),
            f"--interface 127.0.0.1: cannot be bound (strerror {errno.EINVAL}); allowed: one that "
            "`ip address` shows; a link-local one with its device, as in fe80::1%eth0",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "--interface 127.0.0.1: does not resolve (Name or service not known); "
            "allowed: an address or a host name",
        ),
        (
            os_error(errno.EMFILE),
            f"--interface 127.0.0.1: cannot listen on port 7 (strerror {errno.EMFILE}); "
            "allowed: another one",
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
def test_the_line_is_on_the_terminal_once(
    monkeypatch: pytest.MonkeyPatch, parent: dict[str, object], code: int | None
) -> None:
    terminal = StringIO()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    refusal = refused(monkeypatch, os_error(errno.EADDRINUSE), parent=parent)
    line = "--port 9999: in use on 127.0.0.1; allowed: a free port, or 0 to take one"
    assert terminal.getvalue() == f"{line}\n"
    # With a code instead, the interpreter prints nothing more.
    assert refusal.code == (line if code is None else code)


def test_a_refusal_is_met_by_those_who_meet_exceptions() -> None:
    # twistd removes its pid file only after these.
    assert issubclass(CannotStartError, Exception)


def test_a_pid_file_that_cannot_be_written_is_refused(
    reactor: MemoryReactorClock, tmp_path: Path
) -> None:
    options: Any = parsed()
    options.parent = {"pidfile": str(tmp_path / "no-such-folder" / "twistd.pid")}
    with pytest.raises(CannotStartError, match=r"--pidfile .*: cannot be written \(No such file"):
        makeService(options, reactor)
    # In another root the path may well be there.
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
