"""One of several processes on one port: ``python -m echoproto.workers.worker SETTINGS``.

It is started by :mod:`echoproto.workers.parent`, from which it inherits its listening
sockets, and whose orders come on standard input (:mod:`echoproto.workers.channel`);
the end of input means that the parent is gone. SIGTERM begins the drain, and
sent again changes nothing: a service manager may send it to every process of a
service, and the parent sends it too. SIGINT, which a terminal sends to all, is
the parent's.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny
from zope.interface import implementer

from echoproto.command.json_log import fields
from echoproto.core.factory import EchoFactory
from echoproto.core.service import EchoService
from echoproto.limits.per_source import Limits
from echoproto.net.clock import use_monotonic_clock
from echoproto.net.ports import adopt
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.proxy_protocol.parser import ProxyHeaders
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report
from echoproto.workers.channel import FIRST_SOCKET, FROM_WORKER, TO_WORKER, Messages, encode
from echoproto.workers.shared_limits import LeasedSlots, RemoteSourceLimit


@implementer(IStreamServerEndpoint)
class InheritedEndpoint:
    """A listening socket that the parent has opened.

    :ivar backlog: the length of the accept queue that the parent was asked for.
    """

    def __init__(self, reactor: Any, descriptor: int, backlog: int | None) -> None:
        """Describe it.

        :param reactor: an ``IReactorSocket``.
        :param descriptor: the socket's.
        :param backlog: what the parent was asked for; ``None`` if it has inherited it too.
        """
        self._reactor = reactor
        self._descriptor = descriptor
        self.backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen, once; the result is there at once."""
        return maybeDeferred(adopt, self._reactor, self._descriptor, protocolFactory)


def _endpoint(
    reactor: Any, descriptor: int, backlog: int | None, description: str | None
) -> InheritedEndpoint | StringEndpoint:
    """Return what listens on a socket of the parent's.

    :param description: the endpoint string it was opened for, if that adds a layer,
        as TLS, of which the socket knows nothing.
    """
    if description is None:
        return InheritedEndpoint(reactor, descriptor, backlog)
    return StringEndpoint(reactor, description, backlog or 0, inherited=descriptor)


@implementer(IReadDescriptor)
class Parent:
    """The parent, as a worker hears it and tells it things."""

    def __init__(self, reactor: Any, service: EchoService) -> None:
        self._reactor = reactor
        self._service = service
        self._stopping = False
        self._close = False
        self._cut = False
        self.messages = Messages()
        self.messages.on("close", self._close_now)
        self.messages.on("cut", self._cut_short)

    def fileno(self) -> int:
        """Return where it speaks."""
        return TO_WORKER

    def logPrefix(self) -> str:  # noqa: N802
        """Return what the reactor names a line after."""
        return "-"

    def doRead(self) -> None:  # noqa: N802
        """Take an order."""
        data = os.read(TO_WORKER, 65536)
        if data:
            self.messages.receive(data)
        else:
            self._reactor.removeReader(self)
            self._orphaned()

    def connectionLost(self, reason: Failure) -> None:
        """The pipe is hung up, as some reactors tell its end; or the reactor shuts down."""
        self._orphaned()

    def drain(self) -> Deferred[None]:
        """Let the connections finish, unless the order to cut that short came first."""
        over = self._service.stopService()
        if self._close:
            self._service.skip_delay()
        if self._cut:
            self._service.cut()
        return over

    def stop(self) -> None:
        """Begin the drain, unless it has begun."""
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()

    def _orphaned(self) -> None:
        # Whoever follows the parent may want the port.
        self._close = True
        self.stop()

    def _close_now(self) -> None:
        self._close = True
        self._service.skip_delay()

    def _cut_short(self) -> None:
        self._cut = True
        self._service.cut()


def tell(kind: str, **members: Any) -> None:
    """Send a message to the parent.

    :param kind: what it is about.
    :param members: what it says.
    """
    # A parent that is gone has ended standard input too.
    with contextlib.suppress(BrokenPipeError):
        message = memoryview(encode(kind, **members))
        while message:
            message = message[os.write(FROM_WORKER, message) :]


@implementer(ILogObserver)
def _tell_of(event: LogEvent) -> None:
    tell(
        "log",
        level=event["log_level"].name,
        system=event["log_namespace"],
        text=eventAsText(event, includeTimestamp=False, includeSystem=False),
        fields=fields(event),
    )


def _observer() -> ILogObserver:
    """Return what has the parent log what is logged here."""
    # That Twisted has opened a port or ended a loop, the parent says too.
    levels = LogLevelFilterPredicate(LogLevel.warn)
    levels.setLogLevelForNamespace("echoproto", LogLevel.info)
    # And how far all are with the drain.
    levels.setLogLevelForNamespace("echoproto.progress", LogLevel.warn)
    return FilteringLogObserver(_tell_of, [levels])


def _report_on(factory: EchoFactory, parent: Parent, reactor: Any) -> None:
    """Tell the parent of the connections when it asks, and at the end."""
    lag = LoopLag(reactor)
    lag.start()

    def report(sources: bool = False) -> None:
        tell("report", **Report.of(factory, lag, sources).as_message())

    parent.messages.on("report", report)
    # The last word, when the drain is over and nobody can ask any more.
    reactor.addSystemEventTrigger("during", "shutdown", report)


def _report_each_second(reactor: Any, factory: EchoFactory, before: tuple[int, int]) -> None:
    """Tell the parent how many connections there are and what was carried, if that is new."""
    now = (factory.live, factory.bytes_echoed)
    if now != before:
        tell("carried", live=now[0], echoed=now[1])
    reactor.callLater(1, _report_each_second, reactor, factory, now)


def _share_limits(factory: EchoFactory, from_parent: Messages) -> None:
    """Let the limits hold for all workers together."""
    limits = factory.limits
    if limits.max_connections:
        places = LeasedSlots(limits, lambda: factory.live, tell)
        from_parent.on("lend", places.lend)
        factory.places = places
    if limits.max_per_source:
        sources = RemoteSourceLimit(limits, tell)
        from_parent.on("answer", sources.answer)
        factory.sources = sources


def main(settings: dict[str, Any]) -> None:
    """Serve until told to stop.

    :param settings: ``reactor``, a module that installs one; ``sockets``, for
        each of them the ``backlog`` that was asked for and the ``description`` of
        its layers, if it has any; ``log``, ``proxy_headers``, ``limits``,
        ``drain_timeout`` and ``drain_delay`` in seconds, ``fast_lane``, and
        ``reports``, as for
        :class:`echoproto.WorkersService`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    namedAny(settings["reactor"]).install()
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    globalLogBeginner.beginLoggingTo([_observer()])
    proxy_headers = ProxyHeaders.from_settings(settings["proxy_headers"])
    limits = Limits(**settings["limits"])
    factory = EchoFactory(settings["log"], proxy_headers, reactor, limits)
    service = EchoService(
        [
            _endpoint(reactor, FIRST_SOCKET + n, **each)
            for n, each in enumerate(settings["sockets"])
        ],
        factory,
        drain_timeout=settings["drain_timeout"],
        reactor=reactor,
        fast_lane=settings["fast_lane"],
        drain_delay=settings["drain_delay"],
    )
    parent = Parent(reactor, service)
    _share_limits(factory, parent.messages)
    running: Any = reactor
    # Before anybody is told that this one listens. The parent has held back what came earlier.
    signal.signal(signal.SIGTERM, lambda *_: running.callFromThread(parent.stop))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    service.when_ready().addCallback(lambda _: tell("ready"))
    service.startService()
    _report_each_second(reactor, service.factory, (0, 0))
    running.addSystemEventTrigger("before", "shutdown", parent.drain)
    if settings["reports"]:
        _report_on(service.factory, parent, running)
    running.addReader(parent)
    running.run(installSignalHandlers=False)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except ListenError as refusal:
        # A key that the user who serves may not read, or that has gone meanwhile.
        Logger(namespace="echoproto").critical("cannot serve {refusal}", refusal=refusal)
        sys.exit(1)
