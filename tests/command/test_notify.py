"""Notifications to a service manager, on real datagram sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from echoproto.command.notify import Notifier, Readiness, take_notifier
from tests.logs import logged

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")


class Manager:
    """Receives notifications."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


def test_states_are_lines(manager: Manager) -> None:
    Notifier(manager.address).send(READY="1", STATUS="3 connections")
    assert manager.received() == ["READY=1\nSTATUS=3 connections\n"]


def test_without_states_nothing_is_sent(manager: Manager) -> None:
    Notifier(manager.address).send()
    assert manager.received() == []


def test_an_abstract_socket(tmp_path: Path) -> None:
    try:
        manager = Manager(f"@{tmp_path}")
    except OSError:
        pytest.skip("this platform has no abstract sockets")
    Notifier(manager.address).send(READY="1")
    assert manager.received() == ["READY=1\n"]
    manager.close()


@pytest.mark.parametrize("address", ["{}/none", "vsock:2:1234", "relative", "{}/" + "x" * 200])
def test_a_manager_that_cannot_be_reached_is_logged_once(tmp_path: Path, address: str) -> None:
    notifier = Notifier(address.format(tmp_path))
    with logged() as log:
        notifier.send(READY="1")
        notifier.send(STOPPING="1")
    assert len(log.lines_of("warn")) == 1
    assert log.lines[0].startswith("cannot send to NOTIFY_SOCKET ")


def test_states_that_do_not_fit_are_sent_later(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    sent = 0
    while not notifier._unsent:
        notifier.send(STATUS=str(sent))
        sent += 1
        assert sent < 10_000
    with logged() as log:
        notifier.send(STOPPING="1")
    assert len(manager.received()) == sent - 1
    notifier.send()
    notifier.send()
    assert manager.received() == [f"STATUS={sent - 1}\nSTOPPING=1\n"]
    assert log.lines == []


def test_children_do_not_inherit_the_address() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "PATH": "/bin"}
    assert take_notifier(environ) is not None
    assert environ == {"PATH": "/bin"}
    assert take_notifier(environ) is None
    assert take_notifier({"NOTIFY_SOCKET": ""}) is None


class FakeService:
    """The part of a service that is reported."""

    def __init__(self) -> None:
        self.live = 0
        self.draining = False
        self.ready: Deferred[None] = Deferred()

    def when_ready(self) -> Deferred[None]:
        return self.ready


def test_from_ready_to_stopped(manager: Manager) -> None:
    clock, service = Clock(), FakeService()
    readiness = Readiness(Notifier(manager.address), clock, service)
    clock.advance(5)
    assert manager.received() == []
    service.ready.callback(None)
    assert manager.received() == ["READY=1\nSTATUS=0 connections\n"]
    for live, expected in ((0, []), (12, ["STATUS=12 connections\n"]), (12, [])):
        service.live = live
        clock.advance(1)
        assert manager.received() == expected
    service.draining = True
    readiness.stopping()
    assert manager.received() == ["STOPPING=1\nSTATUS=draining: 12 connections left\n"]
    service.live = 3
    clock.advance(1)
    assert manager.received() == ["STATUS=draining: 3 connections left\n"]
    readiness.stopped()
    assert clock.getDelayedCalls() == []


def test_a_service_that_stops_before_it_is_ready(manager: Manager) -> None:
    clock: Any = Clock()
    readiness = Readiness(Notifier(manager.address), clock, FakeService())
    readiness.stopping()
    readiness.stopped()
    assert manager.received() == ["STOPPING=1\nSTATUS=0 connections\n"]
    assert clock.getDelayedCalls() == []
