"""A worker that accepts from the sockets of others."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from echoproto import EchoFactory, EchoService, Limits
from echoproto.net.string_endpoint import ListenError
from echoproto.workers.cover import BorrowedSocket, Cover
from echoproto.workers.settings import InheritedSocket
from echoproto.workers.worker import InheritedEndpoint
from tests.logs import logged
from tests.reactors import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shares descriptors")


class Sockets:
    """Three workers' listening sockets, and one that all share; this worker is the first."""

    def __init__(self) -> None:
        self.listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        # As a worker inherits them; it closes its own with its port.
        descriptors = [os.dup(each.fileno()) for each in self.listening]
        self.own, *self.others = descriptors[:3]
        self.inherited = [
            InheritedSocket(5, None, descriptors[:3]),
            InheritedSocket(5, None, descriptors[3:]),
        ]

    def connect(self, number: int) -> socket.socket:
        client = socket.create_connection(self.listening[number].getsockname(), 30)
        client.sendall(b"x")
        client.setblocking(False)
        return client

    def close(self) -> None:
        for each in self.listening:
            each.close()


async def answered(reactor: Any, client: socket.socket, turns: int = 200) -> bool:
    """Return whether a client gets its byte back soon."""
    for _ in range(turns):
        try:
            return client.recv(1) == b"x"
        except BlockingIOError:
            await deferLater(reactor, 0.01, lambda: None)
    return False


def make(reactor: Any, sockets: Sockets, **limits: Any) -> tuple[EchoService, Cover]:
    def endpoint(inherited: InheritedSocket, descriptor: int) -> InheritedEndpoint:
        return InheritedEndpoint(reactor, descriptor, inherited.backlog)

    factory = EchoFactory(limits=Limits(**limits), reactor=reactor)
    own = [endpoint(each, each.of_worker(0)) for each in sockets.inherited]
    service = EchoService(own, factory, reactor=reactor, drain_timeout=0)
    service.startService()
    return service, Cover(service, sockets.inherited, 0, endpoint)


def test_it_accepts_for_those_that_are_away_and_for_no_others() -> None:
    async def main(reactor: Any) -> None:
        sockets = Sockets()
        service, cover = make(reactor, sockets)
        second, third = sockets.connect(1), sockets.connect(2)
        cover.cover([1])
        assert len(service.ports) == 3
        assert await answered(reactor, second)
        assert not await answered(reactor, third, turns=5)
        cover.cover([2])
        assert len(service.ports) == 3
        assert await answered(reactor, third)
        # Its connections go on when the other worker is back.
        cover.cover([])
        second.sendall(b"x")
        assert await answered(reactor, second)
        waiting = sockets.connect(1)
        assert not await answered(reactor, waiting, turns=5)
        cover.cover([1, 2])
        cover.cover([1, 2])
        assert len(service.ports) == 4
        assert await answered(reactor, waiting)
        await service.stopService()
        assert not service.ports
        cover.cover([])
        for client in (second, third, waiting):
            client.close()
        cover.release()
        sockets.close()

    run(main)


def test_a_limit_holds_for_borrowed_sockets_too() -> None:
    async def main(reactor: Any) -> None:
        sockets = Sockets()
        service, cover = make(reactor, sockets, max_connections=2)
        clients = [sockets.connect(1) for _ in range(3)]
        cover.cover([1])
        assert [await answered(reactor, each, 50) for each in clients] == [True, True, False]
        cover.cover([])
        await deferLater(reactor, 0.05, lambda: None)
        # The third was left in the queue, for the worker that is back.
        assert service.connections.waiting == 0
        sockets.listening[1].setblocking(False)
        accepted, _ = sockets.listening[1].accept()
        for each in (*clients, accepted):
            each.close()
        await service.stopService()
        cover.release()
        sockets.close()

    run(main)


def test_release_closes_the_sockets_of_the_others() -> None:
    async def main(reactor: Any) -> None:
        sockets = Sockets()
        service, cover = make(reactor, sockets)
        cover.release()
        cover.release()
        for descriptor in sockets.others:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
        os.fstat(sockets.own)
        cover.cover([1])
        assert len(service.ports) == 2
        await service.stopService()
        sockets.close()

    run(main)


def test_what_cannot_be_served_is_logged_and_nothing_leaks() -> None:
    async def main(reactor: Any) -> None:
        sockets = Sockets()
        service, cover = make(reactor, sockets)

        def refuse(inherited: InheritedSocket, descriptor: int) -> IStreamServerEndpoint:
            raise ListenError("ssl:1", "no key", "a key")

        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        failing = Cover(service, sockets.inherited, 0, refuse)
        with logged() as log:
            failing.cover([2])
        assert log.lines == ["cannot serve the clients of worker 3: ssl:1: no key; allowed: a key"]
        if before:
            assert len(os.listdir("/proc/self/fd")) == before
        await service.stopService()
        cover.release()
        sockets.close()

    run(main)


def test_a_borrowed_socket_is_an_endpoint() -> None:
    endpoint: Any = InheritedEndpoint(None, 0, 5)
    assert verifyObject(IStreamServerEndpoint, BorrowedSocket(endpoint))
