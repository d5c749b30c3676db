"""The parent of workers, with processes and ports that are played."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import socket
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ProcessDone, ProcessTerminated
from twisted.internet.protocol import ServerFactory

from echoproto import TCPEndpoint
from echoproto.core.protocol import Echo
from echoproto.core.stats import Stats
from echoproto.limits.limits import Limits
from echoproto.net import ports
from echoproto.net.string_endpoint import StringEndpoint
from echoproto.status.report import Report
from echoproto.status.snapshot import Process
from echoproto.workers import process as worker_process
from echoproto.workers.parent import WorkersService
from tests.fakes import FakeEndpoint, FakePort
from tests.logs import logged
from tests.workers.fakes import FakeReactor, encode, fake_port, pass_time, report, say

NO_TLS = {"client_ca": None, "min_version": None}


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> FakeReactor:
    # So that its listenTCP is called with an older Twisted too.
    monkeypatch.setattr(ports, "_make_binding", lambda *args, **named: 0)
    return FakeReactor()


@pytest.fixture
def started(reactor: FakeReactor) -> WorkersService:
    service = WorkersService(
        TCPEndpoint(reactor, 0, backlog=5), 3, drain_timeout=2, reactor=reactor
    )
    service.privilegedStartService()
    service.startService()
    return service


def test_each_worker_has_a_socket_of_its_own_and_inherits_all(
    reactor: FakeReactor, started: WorkersService
) -> None:
    assert [port.reading for port in reactor.ports] == [False] * 3
    for number, process in enumerate(reactor.processes):
        assert process.descriptors == {0: "w", 1: "r", 2: "r", 3: "r", 4: 100, 5: 101, 6: 102}
        assert process.settings == {
            "protocol": "echoproto.core.protocol.Echo",
            "log": "listening",
            "proxy_headers": None,
            "limits": dataclasses.asdict(Limits()),
            "drain_timeout": 2,
            "fast_lane": True,
            "keepalive": 60.0,
            "drain_delay": 0.0,
            "sockets": [{"backlog": 5, "wrapper": None, "descriptors": [4, 5, 6], "tls": NO_TLS}],
            "reactor": "tests.workers.fakes",
            "number": number,
            "version": importlib.metadata.version("echoproto"),
        }


def test_an_endpoint_of_another_kind_has_one_socket_for_all(reactor: FakeReactor) -> None:
    shared = fake_port(55)
    endpoints = [TCPEndpoint(reactor, 0), FakeEndpoint(succeed(shared))]
    service = WorkersService(endpoints, 2, reactor=reactor)
    service.startService()
    assert [process.descriptors[6] for process in reactor.processes] == [55, 55]
    sockets = reactor.processes[0].settings["sockets"]
    assert [(each["backlog"], each["descriptors"]) for each in sockets] == [
        (1024, [4, 5]),
        (None, [6]),
    ]


def test_a_worker_that_dies_young_is_replaced_with_a_growing_delay(
    reactor: FakeReactor, started: WorkersService
) -> None:
    say(reactor.processes[0], "ready")
    for delay in (0.1, 0.2, 0.4):
        say(reactor.processes[-1], "ready")
        with logged() as log:
            reactor.processes[-1].end(ProcessTerminated(signal=9))
        assert log.lines_of("warn") == [
            f"worker 3 ended (killed by signal 9); a new one starts in {delay} s"
        ]
        count = len(reactor.processes)
        reactor.advance(delay)
        assert len(reactor.processes) == count + 1
        # However long its start takes.
        pass_time(reactor, 5, *reactor.processes)


def test_one_that_lived_is_replaced_at_once(reactor: FakeReactor, started: WorkersService) -> None:
    say(reactor.processes[0], "ready")
    pass_time(reactor, 5, *reactor.processes)
    with logged() as log:
        reactor.processes[0].end(ProcessTerminated(exitCode=1))
    assert log.lines_of("warn") == ["worker 1 ended (exit code 1); a new one starts in 0.0 s"]
    reactor.advance(0)
    assert len(reactor.processes) == 4


def test_stopping_closes_the_ports_and_waits_for_every_worker(
    reactor: FakeReactor, started: WorkersService
) -> None:
    over: list[Any] = []
    started.stopService().addBoth(over.append)
    assert not any(port.open for port in reactor.ports)
    assert [process.signals for process in reactor.processes] == [["TERM"]] * 3
    for process in reactor.processes:
        assert not over
        process.end(ProcessDone(0))
    assert over == [None]
    assert len(reactor.processes) == 3


def test_a_worker_that_hangs_is_killed_after_its_drain(
    reactor: FakeReactor, started: WorkersService
) -> None:
    started.stopService()
    reactor.advance(2)
    assert reactor.processes[0].signals == ["TERM"]
    reactor.advance(5)
    assert reactor.processes[0].signals == ["TERM", "KILL"]


def test_an_abort_is_passed_on(reactor: FakeReactor, started: WorkersService) -> None:
    started.stopService()
    reactor.processes[1].end(ProcessDone(0))
    started.abort()
    close, abort = encode("close"), encode("abort")
    told = [close + abort, close, close + abort]
    assert [process.told for process in reactor.processes] == told


def test_it_is_ready_when_every_worker_is(reactor: FakeReactor, started: WorkersService) -> None:
    ready = started.when_ready()
    for process in reactor.processes:
        assert not ready.called
        say(process, "ready")
    assert ready.called
    assert started.when_ready().called


def test_for_the_delay_the_workers_serve_on(reactor: FakeReactor) -> None:
    service = WorkersService(
        TCPEndpoint(reactor, 0), 2, drain_timeout=3, drain_delay=2, reactor=reactor
    )
    service.startService()
    first, second = reactor.processes
    report(first, live=3, echoed=100)
    report(second, live=4, echoed=100)
    assert (service.live, service.bytes_echoed) == (7, 200)
    with logged("echoproto.progress") as log:
        over: list[Any] = []
        service.stopService().addBoth(over.append)
        assert service.draining
        # One that dies meanwhile is replaced.
        first.end(ProcessTerminated(signal=9))
        reactor.advance(1)
        assert len(reactor.processes) == 3
        assert all(port.open for port in reactor.ports)
        assert [process.signals for process in reactor.processes] == [[], [], []]
        reactor.advance(1)
        assert not any(port.open for port in reactor.ports)
        assert [process.signals for process in reactor.processes] == [[], ["TERM"], ["TERM"]]
        report(second, live=1, echoed=150)
        reactor.advance(1)
    assert service.bytes_echoed == 250
    for process in reactor.processes[1:]:
        assert not over
        process.end(ProcessDone(0))
    assert over == [None]
    assert not service.draining
    assert log.lines == [
        "draining: still accepting connections for 2 s; 7 connections",
        "draining: still accepting connections for 1 s; 4 connections",
        "draining: 1 connection left, 50 bytes echoed in the last second, 2 s to the deadline",
    ]


def test_an_abort_ends_the_delay(reactor: FakeReactor) -> None:
    service = WorkersService(TCPEndpoint(reactor, 0), 1, drain_delay=60, reactor=reactor)
    service.startService()
    service.stopService()
    service.abort()
    (process,) = reactor.processes
    assert process.told == encode("abort") + encode("close")
    assert process.signals == ["TERM"]
    assert not reactor.ports[0].open


def test_a_worker_is_told_of_a_wrapper(
    reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StringEndpoint, "wrapper", "tls:")
    endpoint = StringEndpoint(reactor, "tcp:0")
    service = WorkersService(endpoint, 1, reactor=reactor)
    service.startService()
    (process,) = reactor.processes
    (inherited,) = process.settings["sockets"]
    assert inherited == {"backlog": 1024, "wrapper": "tls:", "descriptors": [4], "tls": NO_TLS}


def test_start_stop_start_again(reactor: FakeReactor, started: WorkersService) -> None:
    started.stopService()
    for process in tuple(reactor.processes):
        process.end(ProcessDone(0))
    started.startService()
    assert len(reactor.processes) == 6


def test_stop_before_start(reactor: FakeReactor) -> None:
    service = WorkersService(TCPEndpoint(reactor, 0), 2, reactor=reactor)
    service.privilegedStartService()
    over: list[Any] = []
    service.stopService().addBoth(over.append)
    assert over == [None]
    assert not any(port.open for port in reactor.ports)


def test_a_failed_listen_leaves_nothing_open(reactor: FakeReactor) -> None:
    refused = fail(CannotListenError("192.0.2.1", 7, OSError("no")))
    endpoints = [TCPEndpoint(reactor, 0), FakeEndpoint(refused)]
    service = WorkersService(endpoints, 2, reactor=reactor)
    with pytest.raises(CannotListenError):
        service.startService()
    assert len(reactor.ports) == 2
    assert not any(port.open for port in reactor.ports)


def test_an_endpoint_that_takes_its_time_is_refused(reactor: FakeReactor) -> None:
    service = WorkersService(FakeEndpoint(Deferred()), 2, reactor=reactor)
    with pytest.raises(RuntimeError, match="does not listen at once"):
        service.startService()


def test_a_second_signal_is_watched_for_during_shutdown(
    reactor: FakeReactor, started: WorkersService
) -> None:
    (trigger,) = reactor.triggers["before"]["shutdown"]
    trigger[0]()
    over: list[Any] = []
    started.stopService().addBoth(over.append)
    for process in reactor.processes:
        process.end(ProcessDone(0))
    assert over == [None]


def test_the_port_must_be_free(reactor: FakeReactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = TCPEndpoint(reactor, taken.getsockname()[1])
        with pytest.raises(CannotListenError):
            endpoint.listen_many(None, 2)  # type: ignore[arg-type]
    assert not reactor.ports


def test_cores() -> None:
    assert worker_process.cores() >= 1


def test_running_workers_and_open_files_can_be_seen(
    reactor: FakeReactor, started: WorkersService
) -> None:
    assert started.count == 3
    assert started.pids == {f"worker {n}": 4711 for n in (1, 2, 3)}
    assert list(started.ports) == list[Any](reactor.ports)
    reactor.processes[1].end(ProcessTerminated(signal=9))
    assert set(started.pids) == {"worker 1", "worker 3"}
    started.stopService()
    assert started.ports == []


def test_a_report_counts_while_it_is_fresh(reactor: FakeReactor, started: WorkersService) -> None:
    assert not any(each.answering for each in started.processes())
    for process in reactor.processes:
        say(process, "ready")
        report(process, live=1, echoed=10)
    assert started.processes()[0] == Process(
        "worker 1", 4711, True, Report(4711, 1, Stats(bytes_echoed=10))
    )
    reactor.advance(2.9)
    report(reactor.processes[1], live=2, echoed=20)
    reactor.advance(0.2)
    assert [each.answering for each in started.processes()] == [False, True, False]
    # What was reported last stays in the totals.
    assert (started.live, started.bytes_echoed) == (4, 40)


def test_totals_never_go_backwards(reactor: FakeReactor, started: WorkersService) -> None:
    for process in reactor.processes:
        report(process, live=1, echoed=10)
    reactor.processes[0].end(ProcessTerminated(signal=9))
    assert (started.live, started.bytes_echoed) == (2, 30)
    assert started.processes()[0] == Process("worker 1", 0, False, Report())
    reactor.advance(1)
    report(reactor.processes[-1], live=5, echoed=1, pid=4712)
    assert (started.live, started.bytes_echoed) == (7, 31)


def test_sources_are_reported_on_request(reactor: FakeReactor, started: WorkersService) -> None:
    started.processes()
    assert {process.told for process in reactor.processes} == {b""}
    started.processes(sources=True)
    assert {process.told for process in reactor.processes} == {encode("sources")}


class Wrapping(ServerFactory):
    """What an endpoint that adds a layer gives its port."""


def test_an_endpoint_that_adds_a_layer_is_refused(reactor: FakeReactor) -> None:
    port: Any = FakePort(descriptor=55)
    port.factory = Wrapping()
    service = WorkersService(FakeEndpoint(succeed(port)), 2, reactor=reactor)
    with pytest.raises(TypeError, match=r"adds a layer, as TLS.*StringEndpoint"):
        service.startService()
    assert not port.open


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"count": 0}, "count=0; allowed: 1 or more"),
        ({"drain_timeout": -1}, "drain_timeout=-1; allowed: 0 to 31536000 seconds"),
        ({"drain_delay": float("nan")}, "drain_delay=nan; allowed"),
        ({"log": "all"}, "'all' is not a valid LogDetail"),
    ],
)
def test_what_it_is_given_is_validated(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        WorkersService([], **{"count": 2, **arguments})


class Shout(Echo):
    """A protocol that workers can import."""


def test_a_protocol_is_passed_on_by_name(reactor: FakeReactor) -> None:
    service = WorkersService(TCPEndpoint(reactor, 0), 1, protocol=Shout, reactor=reactor)
    service.startService()
    assert reactor.processes[0].settings["protocol"] == f"{__name__}.Shout"


def test_a_protocol_that_workers_cannot_import_is_refused() -> None:
    class Local(Echo):
        """Only this function has it."""

    for protocol, why in ((Local, "cannot be imported by workers"), (int, "cannot be composed")):
        with pytest.raises(TypeError, match=why):
            WorkersService([], 2, protocol=protocol)  # type: ignore[arg-type]
