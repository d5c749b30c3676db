"""One of several processes on one port: ``python -m echoproto.workers.worker SETTINGS``.

The parent (:mod:`echoproto.workers.parent`) starts it. It inherits its listening sockets
from the parent, and takes orders on standard input
(:mod:`echoproto.workers.channel`); the end of input means that the parent is gone.
SIGTERM begins the drain, and a second SIGTERM changes nothing: a service manager may
send it to every process of a service, and the parent sends it too. SIGINT, which a
terminal sends to all of them, is left to the parent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny
from zope.interface import implementer

from echoproto.base.clock import use_monotonic_clock
from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from echoproto.net.ports import adopt
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.proxy_protocol.gate import ProxyHeaders
from echoproto.service import EchoService
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report
from echoproto.workers.channel import FIRST_SOCKET, FROM_WORKER, TO_WORKER, Channel
from echoproto.workers.log_relay import relaying_observer
from echoproto.workers.reports import REPORT_INTERVAL
from echoproto.workers.settings import InheritedSocket, WorkerSettings
from echoproto.workers.shared_limits import WorkerLimits

# Seconds for which sources are reported after the parent has asked for them: the page
# asks each second as long as it is open.
_SOURCES_FOR = 5.0


@implementer(IStreamServerEndpoint)
class InheritedEndpoint:
    """A listening socket that the parent has opened.

    :ivar backlog: the length of the accept queue that the parent was asked for.
    """

    def __init__(self, reactor: Any, descriptor: int, backlog: int | None) -> None:
        """Describe it.

        :param reactor: an ``IReactorSocket``.
        :param descriptor: the socket's.
        :param backlog: what the parent was asked for, in connections; ``None`` if it
            has inherited the socket too.
        """
        self._reactor = reactor
        self._descriptor = descriptor
        self.backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen, once; the result is there at once."""
        return maybeDeferred(adopt, self._reactor, self._descriptor, protocolFactory)


def _endpoint(
    reactor: Any, descriptor: int, inherited: InheritedSocket
) -> InheritedEndpoint | StringEndpoint:
    """Return what listens on a socket of the parent's."""
    if inherited.wrapper is None:
        return InheritedEndpoint(reactor, descriptor, inherited.backlog)
    return StringEndpoint(
        reactor, inherited.wrapper, backlog=inherited.backlog or 0, inherited=descriptor
    )


def _write_to_parent(data: bytes) -> None:
    # A parent that is gone has ended standard input too.
    with contextlib.suppress(BrokenPipeError):
        message = memoryview(data)
        while message:
            message = message[os.write(FROM_WORKER, message) :]


@implementer(IReadDescriptor)
class ParentLink:
    """Takes the parent's orders, and stops the worker."""

    def __init__(self, reactor: Any, service: EchoService, channel: Channel) -> None:
        """Describe it; orders are taken once the reactor reads it.

        :param reactor: the worker's.
        :param service: the worker's.
        :param channel: to the parent.
        """
        self._reactor = reactor
        self._service = service
        self._channel = channel
        self._stopping = False
        self._skip_delay = False
        self._abort = False
        channel.on("close", self._close_now)
        channel.on("abort", self._abort_now)

    def fileno(self) -> int:
        """Return the descriptor on which orders arrive."""
        return TO_WORKER

    def logPrefix(self) -> str:
        """Return what the reactor names a line after."""
        return "-"

    def doRead(self) -> None:  # noqa: N802
        """Take an order."""
        data = os.read(TO_WORKER, 65536)
        if data:
            self._channel.receive(data)
        else:
            self._reactor.removeReader(self)
            self._orphaned()

    def connectionLost(self, reason: Failure) -> None:
        """Handle the end of the pipe as some reactors report it, or the reactor's shutdown."""
        self._orphaned()

    def drain(self) -> Deferred[None]:
        """Let the connections finish, unless the order to abort them came first."""
        over = self._service.stopService()
        if self._skip_delay:
            self._service.skip_delay()
        if self._abort:
            self._service.abort()
        return over

    def stop(self) -> None:
        """Begin the drain, unless it has begun."""
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()

    def _orphaned(self) -> None:
        # The next parent may want the port.
        self._skip_delay = True
        self.stop()

    def _close_now(self) -> None:
        self._skip_delay = True
        self._service.skip_delay()

    def _abort_now(self) -> None:
        self._abort = True
        self._service.abort()


class Reporter:
    """Reports to the parent each second, and once more at the end."""

    def __init__(self, reactor: Any, factory: EchoFactory, channel: Channel) -> None:
        """Describe it.

        :param reactor: the worker's.
        :param factory: what it reports on.
        :param channel: to the parent.
        """
        self._reactor = reactor
        self._factory = factory
        self._channel = channel
        self._lag = LoopLag(reactor)
        self._sources_until = float("-inf")
        self._loop = LoopingCall(self._report)
        self._loop.clock = reactor
        channel.on("sources", self._want_sources)

    def start(self) -> None:
        """Report from now on."""
        self._lag.start()
        self._loop.start(REPORT_INTERVAL)
        # When the drain is over; the counts of a worker that ends cleanly are complete.
        self._reactor.addSystemEventTrigger("during", "shutdown", self._send)

    def _want_sources(self) -> None:
        self._sources_until = self._reactor.seconds() + _SOURCES_FOR

    def _report(self) -> None:
        # A parent that is stopped reads nothing. It must not stop its workers too, so
        # without room in the pipe this report is skipped.
        if select.select([], [FROM_WORKER], [], 0)[1]:
            self._send()

    def _send(self) -> None:
        sources = self._reactor.seconds() < self._sources_until
        report = Report.of(self._factory, self._lag, sources)
        self._channel.send("report", **report.as_dict())


def main(settings: WorkerSettings) -> None:
    """Serve until told to stop.

    :param settings: what the parent says.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    namedAny(settings.reactor).install()
    from twisted.internet import reactor

    running: Any = reactor
    use_monotonic_clock(running)
    channel = Channel(_write_to_parent)
    globalLogBeginner.beginLoggingTo([relaying_observer(channel.send)])
    factory = EchoFactory(
        protocol=namedAny(settings.protocol),
        log=settings.log,
        limits=WorkerLimits(Limits(**settings.limits), channel),
        proxy_headers=ProxyHeaders(**settings.proxy_headers) if settings.proxy_headers else None,
        reactor=running,
    )
    service = EchoService(
        [_endpoint(running, FIRST_SOCKET + n, each) for n, each in enumerate(settings.sockets)],
        factory,
        reactor=running,
        drain_timeout=settings.drain_timeout,
        drain_delay=settings.drain_delay,
        fast_lane=settings.fast_lane,
    )
    link = ParentLink(running, service, channel)
    reporter = Reporter(running, factory, channel)
    # Before the parent hears that this one listens. The parent has held back a SIGTERM
    # that came earlier.
    signal.signal(signal.SIGTERM, lambda *_: running.callFromThread(link.stop))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    service.when_ready().addCallback(lambda _: channel.send("ready"))
    service.startService()
    running.callWhenRunning(reporter.start)
    running.addSystemEventTrigger("before", "shutdown", link.drain)
    running.addReader(link)
    running.run(installSignalHandlers=False)


if __name__ == "__main__":
    try:
        main(WorkerSettings.from_json(sys.argv[1]))
    except ListenError as refusal:
        # A key that this user may not read, or that has been removed meanwhile.
        Logger(namespace="echoproto").critical("cannot serve {refusal}", refusal=refusal)
        sys.exit(1)
