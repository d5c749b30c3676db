"""One worker: what its parent says; what it does with them is shown in tests/system."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.core.factory import EchoFactory
from echoproto.workers.channel import Channel
from echoproto.workers.worker import InheritedEndpoint, ParentLink
from tests.reactors import run


class Fake:
    """A reactor and a service that note what they are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def stop(self) -> None:
        self.told.append("stop")

    def abort(self) -> None:
        self.told.append("abort")

    def skip_delay(self) -> None:
        self.told.append("skip_delay")

    def stopService(self) -> None:
        self.told.append("stopService")

    def release(self) -> None:
        self.told.append("release")

    def removeReader(self, reader: object) -> None:
        self.told.append("removeReader")


@pytest.fixture
def standard_input() -> Iterator[int]:
    """The writing end of what is standard input meanwhile."""
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    yield writing
    os.dup2(kept, 0)
    os.close(kept)


def test_abort_and_the_end_of_input(standard_input: int) -> None:
    fake: Any = Fake()
    parent = ParentLink(fake, fake, Channel(print), fake)
    assert verifyObject(IReadDescriptor, parent)
    assert (parent.fileno(), parent.logPrefix()) == (0, "-")
    os.write(standard_input, b'{"kind": "abort"}\n')
    parent.doRead()
    assert fake.told == ["abort"]
    os.close(standard_input)
    parent.doRead()
    assert fake.told == ["abort", "removeReader", "release", "skip_delay", "stop"]
    parent.connectionLost(Failure(ConnectionDone()))
    assert fake.told.count("stop") == 1


def test_an_abort_that_comes_before_the_drain_is_not_lost(standard_input: int) -> None:
    fake: Any = Fake()
    parent = ParentLink(fake, fake, Channel(print), fake)
    parent.drain()
    assert fake.told == ["stopService"]
    os.write(standard_input, b'{"kind": "abort"}\n')
    parent.doRead()
    parent.drain()
    assert fake.told == ["stopService", "abort", "stopService", "abort"]
    os.close(standard_input)


def test_no_delay_once_the_parent_has_closed_its_ports(standard_input: int) -> None:
    fake: Any = Fake()
    parent = ParentLink(fake, fake, Channel(print), fake)
    os.write(standard_input, b'{"kind": "close"}\n')
    parent.doRead()
    assert fake.told == ["release", "skip_delay"]
    parent.drain()
    assert fake.told[2:] == ["stopService", "skip_delay"]
    os.close(standard_input)


def test_no_delay_without_a_parent(standard_input: int) -> None:
    fake: Any = Fake()
    parent = ParentLink(fake, fake, Channel(print), fake)
    os.close(standard_input)
    parent.doRead()
    parent.drain()
    assert fake.told[-3:] == ["stop", "stopService", "skip_delay"]


def test_an_inherited_socket_is_listened_on() -> None:
    async def main(reactor: Any) -> tuple[int, int | None]:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            endpoint = InheritedEndpoint(reactor, os.dup(sock.fileno()), 5)
            port = await endpoint.listen(EchoFactory())
            number: int = port.getHost().port  # type: ignore[attr-defined]
            assert number == sock.getsockname()[1]
            closed = port.stopListening()
            assert closed is not None
            await closed
            return number, endpoint.backlog

    _, backlog = run(main)
    assert backlog == 5
