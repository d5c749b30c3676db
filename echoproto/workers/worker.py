"""One of several processes on one port.

The parent (:mod:`echoproto.workers.parent`) starts it (:mod:`echoproto.workers.launch`).
It inherits the listening sockets from the parent, and takes orders on standard input
(:mod:`echoproto.workers.channel`); the end of input means that the parent is gone.
SIGTERM begins the drain, and a second SIGTERM changes nothing: a service manager may
send it to every process of a service, and the parent sends it too. All other signals are
left to the parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
from echoproto.base.words import counted
from echoproto.core.factory import EchoFactory
from echoproto.limits.limits import Limits
from echoproto.net.extensions import Certificates
from echoproto.net.ports import adopt
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.proxy_protocol.gate import ProxyHeaders
from echoproto.service import EchoService
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report
from echoproto.status.sources import SourceCount
from echoproto.workers.channel import FROM_WORKER, TO_WORKER, Channel
from echoproto.workers.cover import Cover
from echoproto.workers.log_relay import relaying_observer
from echoproto.workers.parent_pipe import ParentPipe
from echoproto.workers.reports import REPORT_INTERVAL
from echoproto.workers.settings import InheritedSocket, WorkerSettings
from echoproto.workers.shared_limits import WorkerLimits
from echoproto.workers.signals import leave_to_parent

# Seconds for which sources are reported after the parent has asked for them: the page
# asks each second as long as it is open.
_SOURCES_FOR = 5.0

_log = Logger(namespace="echoproto")


class VersionError(Exception):
    """Another version was installed while the server runs."""


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
    reactor: Any, inherited: InheritedSocket, descriptor: int, material: Any = None
) -> InheritedEndpoint | StringEndpoint:
    """Return what listens on a socket of the parent's.

    :param material: the certificates that this worker has loaded for the string already.
    :raises ListenError: when the endpoint string cannot be used any more.
    """
    if inherited.wrapper is None:
        return InheritedEndpoint(reactor, descriptor, inherited.backlog)
    return StringEndpoint(
        reactor,
        inherited.wrapper,
        backlog=inherited.backlog or 0,
        inherited=descriptor,
        tls=inherited.tls,
        material=material,
    )


class _Endpoints:
    """What a worker listens on.

    :ivar own: its own endpoints.
    """

    def __init__(self, reactor: Any, settings: WorkerSettings) -> None:
        """Make its own.

        :raises ListenError: as :func:`_endpoint`.
        """
        self._reactor = reactor
        self._sockets = settings.sockets
        self.own = [
            _endpoint(reactor, each, each.of_worker(settings.number)) for each in settings.sockets
        ]

    def borrow(self, inherited: InheritedSocket, descriptor: int) -> IStreamServerEndpoint:
        """Return what listens on the socket of another worker, with the same certificates.

        So a reload concerns it too, and a file that cannot be used by now does not.
        """
        own = self.own[self._sockets.index(inherited)]
        return _endpoint(self._reactor, inherited, descriptor, getattr(own, "material", None))


@implementer(IReadDescriptor)
class ParentLink:
    """Takes the parent's orders, and stops the worker."""

    def __init__(self, reactor: Any, service: EchoService, channel: Channel, cover: Cover) -> None:
        """Describe it; orders are taken once the reactor reads it.

        :param reactor: the worker's.
        :param service: the worker's.
        :param channel: to the parent.
        :param cover: accepts for other workers.
        """
        self._reactor = reactor
        self._service = service
        self._channel = channel
        self._cover = cover
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
        self._close_now()
        self.stop()

    def _close_now(self) -> None:
        self._skip_delay = True
        self._cover.release()
        self._service.skip_delay()

    def _abort_now(self) -> None:
        self._abort = True
        self._service.abort()


class Reporter:
    """Reports to the parent each second, as long as it reads."""

    def __init__(
        self, reactor: Any, factory: EchoFactory, channel: Channel, pipe: ParentPipe
    ) -> None:
        """Describe it.

        :param reactor: the worker's.
        :param factory: what it reports on.
        :param channel: to the parent.
        :param pipe: what the channel writes to.
        """
        self._reactor = reactor
        self._factory = factory
        self._channel = channel
        self._pipe = pipe
        self._lost_lines = 0
        self._lag = LoopLag(reactor)
        self._sources = SourceCount(factory, reactor, reactor.seconds)
        self._sources_until = float("-inf")
        self._loop = LoopingCall(self._report_if_read)
        self._loop.clock = reactor
        channel.on("sources", self._want_sources)

    def start(self) -> None:
        """Report from now on."""
        self._lag.start()
        self._loop.start(REPORT_INTERVAL)

    def log(self, kind: str, **members: Any) -> None:
        """Send a line of the log, unless the parent does not read: then count it."""
        if self._pipe.full:
            self._lost_lines += 1
        else:
            self._channel.send(kind, **members)

    def _want_sources(self) -> None:
        self._sources_until = self._reactor.seconds() + _SOURCES_FOR

    def _report_if_read(self) -> None:
        if self._pipe.full:
            return
        lost, self._lost_lines = self._lost_lines, 0
        if lost:
            _log.warn(
                "the parent did not read: lost {lines} of the log", lines=counted(lost, "line")
            )
        self.report()

    def report(self) -> None:
        """Report now."""
        wanted = self._reactor.seconds() < self._sources_until
        if wanted:
            self._sources.refresh()
        report = Report.of(self._factory, self._lag, self._sources.busiest if wanted else {})
        self._channel.send("report", **report.as_dict())


def _serve(
    settings: WorkerSettings, reactor: Any, channel: Channel, pipe: ParentPipe
) -> Callable[[], Deferred[None]]:
    """Begin to serve; the rest happens when the reactor runs.

    :returns: what drains the connections, and reports for the last time.
    :raises Exception: when it cannot serve.
    """
    factory = EchoFactory(
        protocol=namedAny(settings.protocol),
        log=settings.log,
        limits=WorkerLimits(Limits(**settings.limits), channel),
        proxy_headers=ProxyHeaders(**settings.proxy_headers) if settings.proxy_headers else None,
        reactor=reactor,
    )
    reporter = Reporter(reactor, factory, channel, pipe)
    globalLogBeginner.beginLoggingTo([relaying_observer(reporter.log)])
    endpoints = _Endpoints(reactor, settings)
    channel.on("reload", Certificates(endpoints.own).reload)
    service = EchoService(
        endpoints.own,
        factory,
        reactor=reactor,
        drain_timeout=settings.drain_timeout,
        drain_delay=settings.drain_delay,
        fast_lane=settings.fast_lane,
        keepalive=settings.keepalive,
    )
    cover = Cover(service, settings.sockets, settings.number, endpoints.borrow)
    channel.on("cover", cover.cover)
    link = ParentLink(reactor, service, channel, cover)
    # Before the parent hears that this one listens. The parent has held back what came
    # earlier.
    leave_to_parent(link.stop, reactor)
    service.when_ready().addCallback(lambda _: channel.send("ready"))
    service.startService()
    reactor.callWhenRunning(reporter.start)
    reactor.addReader(link)

    def finish() -> Deferred[None]:
        # The counts of a worker that ends cleanly are complete.
        return link.drain().addCallback(lambda _: reporter.report())

    return finish


def _one_line(error: Exception) -> str:
    """Return an error as one line; our own say everything themselves."""
    said = " ".join(str(error).split())
    if isinstance(error, (ListenError, VersionError)):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def run(text: str) -> int:
    """Serve until told to stop.

    :param text: the settings; see :class:`WorkerSettings`.
    :returns: the exit code: 1 if it could not begin to serve.
    """
    settings = WorkerSettings.from_json(text)
    namedAny(settings.reactor).install()
    from twisted.internet import reactor

    running: Any = reactor
    use_monotonic_clock(running)
    pipe = ParentPipe(running, FROM_WORKER)
    channel = Channel(pipe.write)
    try:
        if settings.version != WorkerSettings.version:
            raise VersionError(
                f"echoproto {WorkerSettings.version} is installed now, and the server is "
                f"{settings.version}: restart it"
            )
        finish = _serve(settings, running, channel, pipe)
    except Exception as error:
        channel.send("failed", why=_one_line(error))
        running.callWhenRunning(running.stop)
        running.addSystemEventTrigger("before", "shutdown", pipe.close)
        code = 1
    else:
        # In the next phase the reactor would discard what is still buffered.
        running.addSystemEventTrigger(
            "before", "shutdown", lambda: finish().addBoth(lambda _: pipe.close())
        )
        code = 0
    running.run(installSignalHandlers=False)
    return code
