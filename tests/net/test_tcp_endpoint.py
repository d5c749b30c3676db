"""The TCP endpoint: names, families, clamp, socket options."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto import EchoFactory, TCPEndpoint
from echoproto.net import listen_queue, ports
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.extensions import Lane
from echoproto.net.listen_queue import INT_MAX, ListenQueueLimits
from tests.logs import logged
from tests.reactors import run
from tests.twisted_versions import HAS_BINDINGS


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def listening(endpoint: TCPEndpoint) -> IListeningPort:
    """Listen; return the port, which is there at once."""
    ports: list[Any] = []
    endpoint.listen(EchoFactory()).addBoth(ports.append)
    (port,) = ports
    if isinstance(port, Failure):
        port.raiseException()
    return port  # type: ignore[no-any-return]


def test_its_interface(reactor: MemoryReactorClock) -> None:
    verifyObject(IStreamServerEndpoint, TCPEndpoint(reactor, 0))


def test_the_defaults(reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen_queue, "read_limits", lambda: ListenQueueLimits(4096))
    listening(TCPEndpoint(reactor, 7))
    ((_, factory, backlog, interface),) = reactor.tcpServers
    assert isinstance(factory, EchoFactory)
    assert (backlog, interface) == (1024, "127.0.0.1")


@pytest.mark.parametrize(
    ("asked", "limit", "given_", "warned"),
    [
        (1024, 4096, 1024, False),
        (1024, 128, 128, True),
        (-3, 128, 0, True),
        (10**30, 128, 128, True),
        (1024, None, 1024, False),
        # listen(2) takes an int, even if no limit is known.
        (10**30, None, INT_MAX, False),
    ],
)
def test_a_clamped_backlog_is_logged(
    reactor: MemoryReactorClock,
    monkeypatch: pytest.MonkeyPatch,
    asked: int,
    limit: int | None,
    given_: int,
    warned: bool,
) -> None:
    monkeypatch.setattr(listen_queue, "read_limits", lambda: ListenQueueLimits(limit))
    endpoint = TCPEndpoint(reactor, 7, backlog=asked)
    with logged() as log:
        listening(endpoint)
    assert reactor.tcpServers[0][2] == given_
    assert endpoint.backlog == asked
    assert [
        line.startswith(f"backlog {asked} ") and "clamped" in line for line in log.lines_of("warn")
    ] == ([True] if warned else [])


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::1", "::1"),
        ("::", "::"),
        ("*", "::"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_an_address_is_taken_as_it_is(
    reactor: MemoryReactorClock, interface: str, expected: str
) -> None:
    listening(TCPEndpoint(reactor, 7, interface))
    assert reactor.tcpServers[0][3] == expected


def test_of_a_name_the_first_ipv4_address_is_taken(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 7, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 7)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.2", 7)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: list(found))
    with logged() as log:
        listening(TCPEndpoint(reactor, 7, "echo.example"))
    assert log.lines == [
        "echo.example is 192.0.2.1, and also 192.0.2.2, 2001:db8::1: listening on the first"
    ]
    del found[1:]
    listening(TCPEndpoint(reactor, 7, "echo.example"))
    assert [server[3] for server in reactor.tcpServers] == ["192.0.2.1", "2001:db8::1"]


def test_a_link_local_address_keeps_its_scope(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 7, 0, 3))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: list(found))
    listening(TCPEndpoint(reactor, 7, "fe80::1%eth0"))
    assert reactor.tcpServers[0][3] == "fe80::1%3"


@given(interface=st.text(max_size=80))
def test_any_interface_is_listened_on_or_cannot_be(interface: str) -> None:
    def look_nothing_up(host: str, port: int, type: int) -> list[Any]:  # noqa: A002
        return list(_getaddrinfo(host, port, type=type, flags=socket.AI_NUMERICHOST))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_nothing_up)
        reactor = MemoryReactorClock()
        try:
            listening(TCPEndpoint(reactor, 7, interface))
        except CannotListenError:
            assert reactor.tcpServers == []
        else:
            assert len(reactor.tcpServers) == 1


_getaddrinfo = socket.getaddrinfo


@pytest.mark.parametrize("interface", ["", "\0", "a" * 70, "a..b", "\udcff", "x" * 100_000])
def test_names_that_do_not_resolve(reactor: MemoryReactorClock, interface: str) -> None:
    with pytest.raises(CannotListenError) as caught:
        listening(TCPEndpoint(reactor, 7, interface))
    assert isinstance(caught.value.socketError, (socket.gaierror, ValueError))
    assert caught.value.interface == interface


@pytest.mark.parametrize("interface", ["224.0.0.1", "255.255.255.255", "ff02::1"])
def test_an_address_that_no_client_can_connect_to(
    reactor: MemoryReactorClock, interface: str
) -> None:
    with pytest.raises(CannotListenError) as caught:
        listening(TCPEndpoint(reactor, 7, interface))
    assert caught.value.socketError.errno == errno.EADDRNOTAVAIL
    assert reactor.tcpServers == []


# With real sockets.


@pytest.fixture(params=["with makeBinding", "without makeBinding"])
def _each_way_of_binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twisted has ``tcp.makeBinding`` from 26.10 on."""
    if request.param == "without makeBinding":
        monkeypatch.setattr(ports, "_make_binding", None)
    elif not HAS_BINDINGS:
        pytest.skip("this Twisted has no makeBinding")


@pytest.mark.usefixtures("_each_way_of_binding")
@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("reuse_address", [True, False])
@pytest.mark.parametrize("reuse_port", [True, False])
def test_the_socket_options(reuse_address: bool, reuse_port: bool, interface: str) -> None:
    """All these ports serve in the lane."""

    async def main(reactor: Any) -> tuple[bool, bool]:
        endpoint = TCPEndpoint(
            reactor,
            0,
            interface,
            backlog=5,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
        )
        port: Any = await endpoint.listen(EchoFactory())
        lane = Lane(fast=True)
        lane.starting(reactor)
        lane.port_opened(port, None)
        try:
            assert isinstance(port.reactor, EpollLane) or not EpollLane.available()
            assert port.getHost().host == interface
            queue = listen_queue.accept_queue(port)
            assert queue is None or queue.limit == 5
            with socket.create_connection((interface, port.getHost().port)) as client:
                client.sendall(b"data")
                client.setblocking(False)
                while True:
                    try:
                        assert client.recv(10) == b"data"
                        break
                    except BlockingIOError:
                        await deferLater(reactor, 0.001)
            names = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
            address, port_shared = (
                bool(port.socket.getsockopt(socket.SOL_SOCKET, name)) for name in names
            )
            return address, port_shared
        finally:
            await port.stopListening()
            lane.stopped()

    assert run(main) == (reuse_address, reuse_port)


@pytest.mark.usefixtures("_each_way_of_binding")
def test_several_sockets_on_one_port() -> None:
    async def main(reactor: Any) -> None:
        opened: list[Any] = TCPEndpoint(reactor, 0).listen_many(EchoFactory(), 3)
        assert len({port.getHost().port for port in opened}) == 1
        for port in opened:
            await port.stopListening()

    run(main)


@pytest.mark.usefixtures("_each_way_of_binding")
@pytest.mark.parametrize("reuse_port", [True, False])
def test_a_port_in_use_is_refused_either_way(reuse_port: bool) -> None:
    """The other process does not share it."""

    async def main(reactor: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            number = other.getsockname()[1]
            await TCPEndpoint(reactor, number, reuse_port=reuse_port).listen(EchoFactory())

    with pytest.raises(CannotListenError) as caught:
        run(main)
    assert caught.value.socketError.errno == errno.EADDRINUSE


def test_a_port_in_use() -> None:
    async def main(reactor: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            await TCPEndpoint(reactor, other.getsockname()[1]).listen(EchoFactory())

    with pytest.raises(CannotListenError) as caught:
        run(main)
    assert caught.value.socketError.errno == errno.EADDRINUSE
    assert os.strerror(errno.EADDRINUSE) in str(caught.value)
