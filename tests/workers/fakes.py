"""Worker processes and sockets that a test plays."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.stats import Stats
from echoproto.status.report import Report
from echoproto.workers.channel import Channel
from tests.fakes import FakePort


def fake_port(descriptor: int) -> FakePort:
    return FakePort(address=IPv4Address("TCP", "127.0.0.1", 4242), descriptor=descriptor)


class FakeProcess:
    """A worker as its parent sees it."""

    def __init__(self, protocol: Any, command: list[str], descriptors: dict[int, Any]) -> None:
        self.protocol = protocol
        self.settings = json.loads(command[3])
        self.descriptors = descriptors
        self.pid = 4711
        self.told = b""
        self.signals: list[str] = []
        protocol.makeConnection(self)

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == 0
        self.told += data

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def end(self, reason: Exception) -> None:
        self.protocol.processEnded(Failure(reason))


@implementer(IReactorProcess)
class FakeReactor(MemoryReactorClock):
    """Starts played processes, and opens played ports."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.ports: list[FakePort] = []

    def spawnProcess(  # type: ignore[override]
        self,
        protocol: Any,
        executable: Any,
        args: Any,
        childFDs: Any = None,  # noqa: N803
        **named: Any,
    ) -> FakeProcess:
        process = FakeProcess(protocol, args, childFDs)
        self.processes.append(process)
        return process

    def listenTCP(self, *args: Any, **named: Any) -> Any:
        self.ports.append(fake_port(100 + len(self.ports)))
        return self.ports[-1]


def encode(kind: str, **members: Any) -> bytes:
    written: list[bytes] = []
    Channel(written.append).send(kind, **members)
    return written[0]


def say(process: FakeProcess, kind: str, **members: Any) -> None:
    """Let a worker send its parent a message."""
    process.protocol.childDataReceived(3, encode(kind, **members))


def report(process: FakeProcess, live: int, echoed: int, pid: int = 4711) -> None:
    """Let a worker report."""
    members = Report(pid=pid, live=live, stats=Stats(bytes_echoed=echoed)).as_dict()
    say(process, "report", **members)


def pass_time(reactor: FakeReactor, seconds: int, *alive: FakeProcess) -> None:
    """Let time pass second by second, while some workers report."""
    for _ in range(seconds):
        reactor.advance(1)
        for process in alive:
            report(process, live=0, echoed=0)
