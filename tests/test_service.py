"""The service, with fake ports and reactors, and with real ones."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.error import CannotListenError, ConnectionAborted
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto import (
    EchoFactory,
    EchoService,
    Limits,
    ProxyHeaders,
    Stats,
    TCPEndpoint,
    echo,
)
from echoproto.base.lifecycle import CLOSE_TIMEOUT
from echoproto.core.connection import Connection
from echoproto.core.protocol import Echo
from echoproto.drain.drain import FLUSH_TIME, LAST_TIME
from tests.descriptors import no_descriptor_left
from tests.fakes import FakeEndpoint, FakePort
from tests.logs import logged
from tests.reactors import run


def is_over(deferred: Deferred[Any]) -> bool:
    """It has fired, and waits for no other that a callback has returned."""
    return bool(deferred.called) and not deferred.paused


def refusal() -> CannotListenError:
    return CannotListenError("192.0.2.1", 7, OSError(98, "Address already in use"))


@pytest.fixture
def clock() -> MemoryReactorClock:
    return MemoryReactorClock()


def test_its_interface() -> None:
    verifyObject(IService, EchoService([]))


def test_it_serves_and_stops_and_serves_again(clock: MemoryReactorClock) -> None:
    ports = [FakePort(clock), FakePort(clock)]
    endpoint = FakeEndpoint(*map(succeed, ports))
    service = EchoService(endpoint, reactor=clock)
    for port in ports:
        service.privilegedStartService()
        assert service.ports == [port]
        service.startService()
        assert service.ports == [port]
        assert service.running
        assert endpoint.factory is service.connections
        over = service.stopService()
        assert not service.running
        assert service.ports == []
        clock.advance(0)
        assert is_over(over)
        assert not port.open
    assert clock.getDelayedCalls() == []


def test_it_listens_without_a_privileged_start_too(clock: MemoryReactorClock) -> None:
    service = EchoService(FakeEndpoint(succeed(FakePort(clock))), reactor=clock)
    service.startService()
    assert len(service.ports) == 1


def test_the_log_says_where_it_listens_once_the_reactor_runs(clock: MemoryReactorClock) -> None:
    service = EchoService(FakeEndpoint(succeed(FakePort(clock))), reactor=clock)
    with logged() as log:
        service.privilegedStartService()
        assert not log.lines
        clock.run()
    (line,) = log.lines
    assert line.startswith("listening on 192.0.2.1:7; accept queue length unknown (inherited, ")


def test_the_global_reactor_is_the_default(
    clock: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted.internet.reactor", clock, raising=False)
    endpoint = FakeEndpoint(succeed(FakePort(clock)))
    service = EchoService(endpoint, drain_timeout=5)
    service.startService()
    endpoint.accept()
    over = service.stopService()
    clock.advance(0)
    assert not is_over(over)
    assert max(call.getTime() for call in clock.getDelayedCalls()) == 5


def test_when_one_of_several_endpoints_fails_none_is_left_open(clock: MemoryReactorClock) -> None:
    first, last = FakePort(clock), FakePort(clock)
    pending: Deferred[Any] = Deferred()
    endpoints = [
        FakeEndpoint(result) for result in (succeed(first), fail(refusal()), pending, succeed(last))
    ]
    service = EchoService(endpoints, reactor=clock)
    with pytest.raises(CannotListenError):
        service.privilegedStartService()
    clock.advance(0)
    assert (first.open, last.open) == (False, False)
    assert service.ports == []
    # What was still to open is called off, too.
    assert pending.called


def test_when_all_fail_the_first_failure_is_raised() -> None:
    endpoints = [FakeEndpoint(fail(error)) for error in (refusal(), ValueError("other"))]
    with pytest.raises(CannotListenError):
        EchoService(endpoints).privilegedStartService()


def test_an_endpoint_that_raises() -> None:
    class Broken(FakeEndpoint):
        def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:  # noqa: N803
            raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        EchoService(Broken()).startService()


def test_after_a_failed_start_it_can_be_started(clock: MemoryReactorClock) -> None:
    port = FakePort(clock)
    service = EchoService(FakeEndpoint(fail(refusal()), succeed(port)), reactor=clock)
    with pytest.raises(CannotListenError):
        service.startService()
    assert not service.running
    service.startService()
    assert service.ports == [port]


def test_a_failure_that_comes_later_is_logged(clock: MemoryReactorClock) -> None:
    pending: Deferred[Any] = Deferred()
    service = EchoService(FakeEndpoint(pending), reactor=clock)
    service.startService()
    with logged() as log:
        pending.errback(Failure(refusal()))
    assert log.lines_of("critical") == ["cannot listen"]
    service.stopService()


def test_a_port_that_opens_later(clock: MemoryReactorClock) -> None:
    pending: Deferred[Any] = Deferred()
    port = FakePort(clock)
    service = EchoService(FakeEndpoint(pending), reactor=clock)
    service.privilegedStartService()
    service.startService()
    assert service.ports == []
    pending.callback(port)
    assert service.ports == [port]
    service.stopService()
    clock.advance(0)
    assert not port.open


def test_a_stop_calls_off_what_is_still_to_open(clock: MemoryReactorClock) -> None:
    called_off: list[bool] = []
    pending: Deferred[Any] = Deferred(lambda _: called_off.append(True))
    service = EchoService(FakeEndpoint(pending), reactor=clock)
    service.startService()
    with logged() as log:
        over = service.stopService()
    assert is_over(over)
    assert called_off == [True]
    assert log.lines == []


def test_a_stop_between_the_two_starts(
    clock: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted.internet.reactor", clock, raising=False)
    port = FakePort(clock)
    service = EchoService(FakeEndpoint(succeed(port)))
    service.privilegedStartService()
    over = service.stopService()
    clock.advance(0)
    assert is_over(over)
    assert not port.open


def test_a_stop_before_any_start() -> None:
    assert EchoService(FakeEndpoint()).stopService().called


def test_connections_drain(clock: MemoryReactorClock) -> None:
    port = FakePort(clock)
    endpoint = FakeEndpoint(succeed(port))
    service = EchoService(endpoint, drain_timeout=3, reactor=clock)
    service.startService()
    transport = endpoint.accept()
    (connection,) = service.factory.connections
    over = service.stopService()
    clock.advance(0)
    assert not port.open
    clock.advance(2.9)
    assert transport.calls == []
    clock.advance(0.1)
    assert "loseWriteConnection" in transport.calls
    clock.advance(1)
    assert "abortConnection" in transport.calls
    assert not is_over(over)
    connection.connectionLost(Failure(ConnectionAborted()))
    assert is_over(over)
    assert clock.getDelayedCalls() == []


def test_for_the_delay_it_still_accepts_connections(clock: MemoryReactorClock) -> None:
    port = FakePort(clock)
    endpoint = FakeEndpoint(succeed(port))
    service = EchoService(endpoint, drain_timeout=3, drain_delay=5, reactor=clock)
    service.startService()
    endpoint.accept()
    assert not service.draining
    over = service.stopService()
    assert service.draining
    assert not service.running
    clock.advance(4.9)
    assert port.open
    transport = endpoint.accept()
    assert service.live == 2
    clock.advance(0.1)
    clock.advance(0)
    assert not port.open
    # Only now the time of the drain begins.
    clock.advance(2.9)
    assert transport.calls == []
    for connection in tuple(service.factory.connections):
        assert service.draining
        connection.connectionLost(Failure(ConnectionAborted()))
    assert is_over(over)
    assert not service.draining
    assert clock.getDelayedCalls() == []


def test_an_abort_ends_the_delay_too(clock: MemoryReactorClock) -> None:
    port = FakePort(clock)
    endpoint = FakeEndpoint(succeed(port))
    service = EchoService(endpoint, drain_timeout=60, drain_delay=60, reactor=clock)
    service.startService()
    transport = endpoint.accept()
    (connection,) = service.factory.connections
    over = service.stopService()
    service.abort()
    assert "abortConnection" in transport.calls
    connection.connectionLost(Failure(ConnectionAborted()))
    clock.advance(0)
    assert not port.open
    assert is_over(over)
    assert clock.getDelayedCalls() == []


def test_it_is_ready_when_all_listen_and_the_reactor_runs(clock: MemoryReactorClock) -> None:
    pending: Deferred[Any] = Deferred()
    endpoints = [FakeEndpoint(succeed(FakePort(clock))), FakeEndpoint(pending)]
    service = EchoService(endpoints, reactor=clock)
    ready = service.when_ready()
    service.startService()
    clock.run()
    assert not ready.called
    pending.callback(FakePort(clock))
    clock.run()
    assert ready.called
    assert service.when_ready().called


def test_it_does_not_start_while_it_drains(clock: MemoryReactorClock) -> None:
    endpoint = FakeEndpoint(succeed(FakePort(clock)), succeed(FakePort(clock)))
    service = EchoService(endpoint, reactor=clock)
    service.startService()
    endpoint.accept()
    (connection,) = service.factory.connections
    service.stopService()
    clock.advance(0)
    with pytest.raises(RuntimeError, match="drain"):
        service.startService()
    assert not service.running
    connection.connectionLost(Failure(ConnectionAborted()))
    service.startService()
    assert service.running


class RaisingAtItsEnd(Echo):
    def connectionLost(self, reason: Any = None) -> None:
        raise ValueError("of the user's")


def lose(service: EchoService) -> None:
    """Report the end of each connection, as a reactor does after an abort."""
    for connection in tuple(service.connections.connections):
        with suppress(ValueError):
            connection.connectionLost(Failure(ConnectionAborted()))


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("protocol", [Echo, RaisingAtItsEnd])
@pytest.mark.parametrize("drain_timeout", [0, 3])
def test_a_stop_always_ends(
    clock: MemoryReactorClock, protocol: type[Echo], reported: bool, drain_timeout: float
) -> None:
    endpoint = FakeEndpoint(succeed(FakePort(clock)))
    factory = EchoFactory(protocol=protocol, reactor=clock)
    service = EchoService(endpoint, factory, drain_timeout=drain_timeout, reactor=clock)
    service.startService()
    transports = [endpoint.accept() for _ in range(2)]
    left = tuple(service.connections.connections)
    with logged() as log:
        over = service.stopService()
        clock.advance(0)
        if drain_timeout:
            clock.advance(drain_timeout)
            clock.advance(FLUSH_TIME)
        assert all("abortConnection" in each.calls for each in transports)
        if reported:
            lose(service)
        clock.advance(LAST_TIME)
    assert is_over(over)
    assert clock.getDelayedCalls() == []
    gave_up = "gave up on 2 connections that did not close"
    assert (gave_up in log.lines_of("error")) == (not reported)
    assert factory.stats.dropped == (0 if reported else 2)
    assert factory.live == 0
    # An end that is reported later changes nothing.
    counted = factory.stats
    for connection in left:
        with suppress(ValueError):
            connection.connectionLost(Failure(ConnectionAborted()))
    assert factory.stats == counted
    assert not service.draining


class StuckPort(FakePort):
    """A port that never reports that it is closed."""

    def stopListening(self) -> Deferred[None]:
        return Deferred()


class RaisingPort(FakePort):
    """A port that cannot be closed."""

    def stopListening(self) -> Deferred[None]:
        raise ValueError("of the endpoint's")


@pytest.mark.parametrize("kind", [StuckPort, RaisingPort])
def test_a_stop_ends_whatever_a_port_does(clock: MemoryReactorClock, kind: type[FakePort]) -> None:
    service = EchoService(FakeEndpoint(succeed(kind(clock))), reactor=clock)
    service.startService()
    with logged() as log:
        over = service.stopService()
        clock.advance(0)
        clock.advance(CLOSE_TIMEOUT)
    assert is_over(over)
    assert [line.partition(":")[0] for line in log.lines_of("error")] == ["a port did not close"]
    assert clock.getDelayedCalls() == []


def test_a_drain_leaves_the_connections_of_another_service_alone(
    clock: MemoryReactorClock,
) -> None:
    factory = EchoFactory(reactor=clock)
    endpoints = [FakeEndpoint(succeed(FakePort(clock))) for _ in range(2)]
    first, second = (
        EchoService(endpoint, factory, drain_timeout=1, reactor=clock) for endpoint in endpoints
    )
    for service in (first, second):
        service.startService()
    ended, kept = (endpoint.accept() for endpoint in endpoints)
    over = first.stopService()
    clock.advance(0)
    clock.advance(1)
    clock.advance(FLUSH_TIME)
    assert "abortConnection" in ended.calls
    lose(first)
    assert is_over(over)
    assert kept.calls == []
    assert (first.live, second.live, factory.live) == (0, 1, 1)


@pytest.mark.parametrize("name", ["drain_timeout", "drain_delay"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_times_are_validated(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}=.*; allowed: 0 to 31536000 seconds"):
        EchoService([], **{name: value})  # type: ignore[arg-type]


class StoppingReactor(MemoryReactorClock):
    """A reactor that shuts down as a real one does, as far as it is asked here."""

    def __init__(self) -> None:
        super().__init__()
        self.before_shutdown: dict[int, Callable[[], Any]] = {}
        self.stops = 0

    def addSystemEventTrigger(self, *what: Any) -> Any:  # type: ignore[override]
        *when, trigger = what
        assert when == ["before", "shutdown"]
        number = len(self.before_shutdown)
        self.before_shutdown[number] = trigger
        return number

    def removeSystemEventTrigger(self, triggerID: int) -> None:  # noqa: N803
        del self.before_shutdown[triggerID]

    def sigInt(self, number: int, frame: Any = None) -> None:
        self.stops += 1

    def sigTerm(self, number: int, frame: Any = None) -> None:
        self.stops += 1

    def callFromThread(self, function: Callable[[], None]) -> None:
        self.callLater(0, function)

    def shut_down(self) -> None:
        triggers = dict(self.before_shutdown)
        self.before_shutdown.clear()
        for trigger in triggers.values():
            trigger()


@pytest.fixture
def reactor() -> Any:
    reactor = StoppingReactor()
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, reactor.sigInt)
    signal.signal(signal.SIGTERM, reactor.sigTerm)
    yield reactor
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_a_stopped_service_leaves_no_trigger(reactor: StoppingReactor) -> None:
    service = EchoService(FakeEndpoint(succeed(FakePort(reactor))), reactor=reactor)
    service.startService()
    assert len(reactor.before_shutdown) == 1
    service.stopService()
    reactor.advance(0)
    assert reactor.before_shutdown == {}


@pytest.mark.parametrize("shutdown_comes", ["first", "amid the drain"])
def test_two_services_drain_at_once_and_a_signal_aborts_both(
    reactor: StoppingReactor, shutdown_comes: str
) -> None:
    endpoints = [FakeEndpoint(succeed(FakePort(reactor))) for _ in range(2)]
    parent = MultiService()
    for endpoint in endpoints:
        EchoService(endpoint, drain_timeout=60, reactor=reactor).setServiceParent(parent)
    parent.privilegedStartService()
    parent.startService()
    transports = [endpoint.accept() for endpoint in endpoints]
    connections: list[Connection] = [
        each for endpoint in endpoints for each in endpoint.factory.connections
    ]
    if shutdown_comes == "first":
        reactor.shut_down()
        over = parent.stopService()
    else:
        over = parent.stopService()
        reactor.shut_down()
    reactor.advance(0)
    assert [each.calls for each in transports] == [[], []]
    signal.raise_signal(signal.SIGTERM)
    reactor.advance(0)
    assert all("abortConnection" in each.calls for each in transports)
    for connection in connections:
        assert not is_over(over)
        connection.connectionLost(Failure(ConnectionAborted()))
    assert is_over(over)
    assert reactor.stops == 0
    assert signal.getsignal(signal.SIGTERM) == reactor.sigTerm
    assert signal.getsignal(signal.SIGINT) == reactor.sigInt


def test_a_signal_is_left_alone_when_only_the_service_stops(reactor: StoppingReactor) -> None:
    endpoint = FakeEndpoint(succeed(FakePort(reactor)))
    service = EchoService(endpoint, reactor=reactor)
    service.startService()
    endpoint.accept()
    service.stopService()
    reactor.advance(0)
    signal.raise_signal(signal.SIGTERM)
    assert reactor.stops == 1


# With real sockets.


def tcp_port(service: EchoService) -> int:
    address = service.ports[0].getHost()
    assert isinstance(address, IPv4Address)
    return address.port


def test_it_serves_any_endpoint(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")

    async def main(reactor: Any) -> list[bytes]:
        endpoints = [
            serverFromString(reactor, "tcp:0:interface=127.0.0.1"),
            serverFromString(reactor, f"unix:{path}"),
        ]
        service = EchoService(endpoints, reactor=reactor)
        service.startService()
        port = tcp_port(service)
        try:
            return [
                await echo(clientFromString(reactor, f"tcp:127.0.0.1:{port}"), b"x" * 300_000),
                await echo(UNIXClientEndpoint(reactor, path), b"y" * 300_000),
            ]
        finally:
            await service.stopService()

    assert run(main) == [b"x" * 300_000, b"y" * 300_000]


def test_the_length_of_an_inherited_queue_is_not_what_twisted_would_have_asked() -> None:
    async def main(reactor: Any) -> list[str]:
        inherited = socket.create_server(("127.0.0.1", 0), backlog=7).detach()
        # It closes what it is given, once it has a copy.
        endpoint = AdoptedStreamServerEndpoint(reactor, inherited, socket.AF_INET)
        service = EchoService(endpoint, reactor=reactor)
        with logged() as log:
            service.startService()
        await service.stopService()
        return log.lines

    (line,) = run(main)
    assert "(inherited, net.core.somaxconn" in line


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("limits", [None, Limits(max_connections=2)])
@pytest.mark.parametrize("answer", [None, b"", bytes(20), bytes(136), b"\x0a" + bytes(135)])
def test_clients_in_the_accept_queue_are_accepted_before_the_port_closes(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, limits: Limits | None, fast_lane: bool
) -> None:
    """Whatever the kernel tells of its queue: gVisor answers with zeros, or too short."""
    if answer is not None:
        lying = socket.socket.getsockopt

        def getsockopt(self: socket.socket, level: int, option: int, *size: int) -> Any:
            asked = (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
            return answer[: size[0]] if asked else lying(self, level, option, *size)

        monkeypatch.setattr(socket.socket, "getsockopt", getsockopt)

    async def main(reactor: Any) -> tuple[list[bytes], int]:
        factory = EchoFactory(limits=limits, reactor=reactor)
        service = EchoService(
            TCPEndpoint(reactor, 0), factory, reactor=reactor, fast_lane=fast_lane
        )
        service.startService()
        address = ("127.0.0.1", tcp_port(service))
        clients = [socket.create_connection(address, 10) for _ in range(30)]
        try:
            for client in clients:
                client.sendall(b"data")
                client.shutdown(socket.SHUT_WR)
            # The reactor has had no turn to accept any of them.
            await service.stopService()
            return [client.recv(100) for client in clients], service.factory.stats.accepted
        finally:
            for client in clients:
                client.close()

    assert run(main) == ([b"data"] * 30, 30)


def test_clients_that_cannot_be_accepted_are_logged() -> None:
    async def main(reactor: Any) -> int:
        service = EchoService(TCPEndpoint(reactor, 0), reactor=reactor)
        service.startService()
        port = tcp_port(service)
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            with no_descriptor_left():
                await service.stopService()
        return port

    with logged() as log:
        port = run(main)
    assert log.lines_of("warn")[-1] == (
        f"closing 127.0.0.1:{port} with 3 clients still in the accept queue"
    )


class Goodbye(Echo):
    """Answer with much, and close in one of the ways that Twisted knows."""

    how = "transport"

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data * (8 << 20))
        if self.how == "transport":
            self.transport.loseConnection()
        else:
            self.close()


class GoodbyeByMethod(Goodbye):
    how = "method"


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("protocol", [Goodbye, GoodbyeByMethod])
def test_a_protocol_closes_a_connection_whose_client_reads_late(
    protocol: type[Echo], fast_lane: bool
) -> None:
    def ask(port: int) -> int:
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"x")
            # Not before the transport is full.
            client.recv(1, socket.MSG_PEEK)
            length = 0
            while chunk := client.recv(1 << 16):
                length += len(chunk)
            return length

    async def main(reactor: Any) -> int:
        factory = EchoFactory(protocol=protocol, reactor=reactor)
        service = EchoService(
            TCPEndpoint(reactor, 0), factory, reactor=reactor, fast_lane=fast_lane
        )
        service.startService()
        length = await deferToThreadPool(reactor, reactor.getThreadPool(), ask, tcp_port(service))
        await service.stopService()
        return length

    assert run(main) == 8 << 20


class Shout(Echo):
    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data.upper())


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("log", ["listening", "connections", "chunks"])
def test_a_protocol_of_the_users_with_everything(log: str, fast_lane: bool) -> None:
    payload = b"data" * 100_000

    def ask(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 5000 7\r\n")
            sender = threading.Thread(target=client.sendall, args=[payload])
            sender.start()
            back = bytearray()
            while len(back) < len(payload):
                back += client.recv(1 << 16)
            sender.join()
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            return bytes(back)

    async def main(reactor: Any) -> tuple[list[bytes], Stats]:
        factory = EchoFactory(
            protocol=Shout,
            log=log,
            limits=Limits(
                max_connections=2,
                max_per_source=2,
                idle_timeout=60,
                max_bytes_per_second=10_000_000,
            ),
            proxy_headers=ProxyHeaders("required"),
            reactor=reactor,
        )
        endpoint = TCPEndpoint(reactor, 0)
        service = EchoService(endpoint, factory, reactor=reactor, fast_lane=fast_lane)
        service.startService()
        port, pool = tcp_port(service), reactor.getThreadPool()
        asking = [deferToThreadPool(reactor, pool, ask, port) for _ in range(3)]
        back = [await each for each in asking]
        await service.stopService()
        return back, factory.stats

    with logged() as lines:
        back, stats = run(main)
    assert back == [payload.upper()] * 3
    assert (stats.accepted, stats.failed, stats.bytes_echoed) == (3, 0, 3 * len(payload))
    opened = [
        line for line in lines.lines if line.startswith("opened 192.0.2.7:5000 via 127.0.0.1:")
    ]
    assert len(opened) == (0 if log == "listening" else 3)
