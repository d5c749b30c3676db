"""The command line of ``twistd echo``: its words become objects."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python.components import Componentized

from echoproto.command import json_log as log_format
from echoproto.command import notify
from echoproto.command.options import CannotStartError, Options, told
from echoproto.core.factory import EchoFactory
from echoproto.core.service import EchoService
from echoproto.limits.per_source import Limits
from echoproto.net import bind_errors
from echoproto.net.clock import use_monotonic_clock
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.net.tcp_endpoint import TCPEndpoint
from echoproto.proxy_protocol.parser import ProxyHeaders
from echoproto.workers import parent as workers
from echoproto.workers.parent import WorkersService

if TYPE_CHECKING:
    from echoproto.status.server import StatusServer

__all__ = ["Options", "makeService"]


class _FromCommandLine:
    """Mixed into a service that twistd or twist runs.

    A failed start is told in the command line's words, and the log is written
    as the command line says. A service manager that wants to be told is told.
    """

    _options: Options
    _status: StatusServer | None = None
    _reactor: Any
    _readiness: notify.Readiness | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Stand under a parent, which is the application if a program runs this."""
        if isinstance(parent, Componentized):
            log_format.choose(self._options["log-format"], parent, self._options.parent)
        super().setServiceParent(parent)  # type: ignore[misc]

    def startService(self) -> None:
        """Start, and tell the service manager when it is ready."""
        # Before workers are started, which must not speak for the service.
        notifier = notify.take_notifier(os.environ)
        super().startService()  # type: ignore[misc]
        if notifier is not None:
            self._readiness = notify.Readiness(notifier, self._reactor, self)

    def stopService(self) -> Deferred[None]:
        """Drain; the service manager and the status are told until that is over."""
        over: Deferred[None] = super().stopService()  # type: ignore[misc]
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.stopping()
            over.addCallback(lambda _: readiness.stopped())
        if self._status is not None:
            over.addBoth(self._close_status)
        return over

    def _close_status(self, outcome: Any) -> Deferred[Any]:
        assert self._status is not None
        return self._status.close().addCallback(lambda _: outcome)

    def _listen(self) -> None:
        if self._status is not None:
            # First, so that nothing else is open when it cannot be had.
            try:
                self._status.open()
            except (ListenError, RuntimeError) as error:
                raise self._refusal(_explain_status(error, self._options)) from None
        try:
            super()._listen()  # type: ignore[misc]
        except BaseException as error:
            if self._status is not None:
                self._status.close()
            if isinstance(error, (CannotListenError, ListenError)):
                raise self._refusal(_explain(error, self._options)) from None
            raise

    def _refusal(self, line: str) -> CannotStartError:
        """Tell why it cannot start, where twistd would not."""
        refusal = CannotStartError(line)
        if sys.stderr is not sys.__stderr__:
            # twistd has taken standard error for its log, where the line
            # will stand, unless the log is on the terminal anyway.
            print(refusal, file=sys.__stderr__)
            parent: Mapping[str, Any] = self._options.parent or {}
            if parent.get("nodaemon") and parent.get("logfile") in (None, "-"):
                refusal.code = 1
        return refusal


class CommandLineService(_FromCommandLine, EchoService):
    """What ``twistd echo`` runs."""


class CommandLineWorkersService(_FromCommandLine, WorkersService):
    """What ``twistd echo --workers`` runs."""


def _explain(error: CannotListenError | ListenError, options: Options) -> str:
    """Say which option cannot be had, why, and what is allowed."""
    if isinstance(error, ListenError):
        return told("listen", error.description, error.reason, error.allowed)
    port, interface = options["port"], options["interface"]
    found = bind_errors.explain(error, address=interface)
    if found is None:
        reason = f"cannot listen on port {port} ({bind_errors.text_of(error)})"
        return told("interface", interface, reason, "another one")
    return told(found.subject, options[found.subject], found.reason, found.allowed)


def _check_pid_file(program: Mapping[str, Any]) -> None:
    """Write twistd's pid file and remove it, to refuse in one line where that cannot be done.

    twistd writes it after it has made the service, as a daemon's first act,
    and has a traceback for a failure.

    :param program: the options of the program that runs this; only twistd's has a pid file.
    :raises CannotStartError: when it cannot be written.
    """
    path = program.get("pidfile")
    # In another root, the path is that of another file.
    if not path or program.get("chroot") or os.path.lexists(path):
        return
    try:
        with open(path, "x") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        allowed = "a path with room for a file of a few bytes; or --pidfile= for none"
        reason = f"cannot be written ({error.strerror})"
        raise CannotStartError(told("pidfile", path, reason, allowed)) from None
    finally:
        with suppress(OSError):
            os.unlink(path)


def _endpoints(options: Options, reactor: Any) -> list[TCPEndpoint | StringEndpoint]:
    """Make what --port, --listen, and the options for sockets describe."""
    sockets = {
        "backlog": options["backlog"],
        "reuse_address": options["reuse-address"],
        "reuse_port": options["reuse-port"],
    }
    endpoints: list[TCPEndpoint | StringEndpoint] = []
    if options["port"] is not None:
        endpoints.append(TCPEndpoint(reactor, options["port"], options["interface"], **sockets))
    for description in options["listen"]:
        try:
            endpoints.append(StringEndpoint(reactor, description, **sockets))
        except ListenError as error:
            raise CannotStartError(_explain(error, options)) from None
    return endpoints


def _explain_status(error: ListenError | RuntimeError, options: Options) -> str:
    """Say why the status cannot be served where it should be."""
    if isinstance(error, RuntimeError):
        return told("status", options["status"], str(error), "an endpoint that does")
    allowed = f"a TCP port, or a Twisted endpoint: {error.allowed}"
    return told("status", options["status"], error.reason, allowed)


def _status_of(
    service: EchoService | WorkersService, options: Options, reactor: Any
) -> StatusServer:
    """Make what serves the status of a service.

    :raises CannotStartError: when there is no such endpoint, or something is
        not installed.
    """
    where = options["status"]
    try:
        # Both cost memory, and one of them is an extra.
        from echoproto.status.collector import ProcessCollector, WorkersCollector
        from echoproto.status.endpoint import status_endpoint
        from echoproto.status.server import StatusServer
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        needs = "needs prometheus-client: pip install 'echoproto[metrics]'"
        raise CannotStartError(f"--status {where}: {needs}") from None
    try:
        endpoint = status_endpoint(reactor, where)
    except ListenError as error:
        raise CannotStartError(_explain_status(error, options)) from None
    kind = ProcessCollector if isinstance(service, EchoService) else WorkersCollector
    collector = kind(service, reactor, _settings(options), options["max-connections"])
    return StatusServer(endpoint, collector, reactor)


def _settings(options: Options) -> dict[str, str]:
    """Return the options as the status shows them."""
    shown = {}
    for name, value in options.items():
        if value is None or value == []:
            continue
        if isinstance(value, bool):
            value = "on" if value else "off"
        words = value if isinstance(value, list) else [value]
        shown[name] = " ".join(str(each) for each in words)
    return shown


def makeService(options: Options, reactor: Any = None) -> EchoService | WorkersService:
    """Make the service that the command line describes.

    :param options: parsed.
    :param reactor: the one to listen with; the global one if none is given.
    :raises CannotStartError: when an endpoint string is wrong, or twistd could not write
        its pid file.
    """
    _check_pid_file(options.parent or {})
    if reactor is None:
        from twisted.internet import reactor

        use_monotonic_clock(reactor)
    endpoints = _endpoints(options, reactor)
    fast_lane = options["lane"] == "fast"
    proxy_headers = ProxyHeaders.of(options["proxy-protocol"], options["proxy-from"])
    limits = Limits(
        max_connections=options["max-connections"],
        max_per_source=options["max-per-source"],
        idle_timeout=options["idle-timeout"],
        max_bytes_per_second=options["max-bytes-per-second"],
    )
    service: CommandLineService | CommandLineWorkersService
    if options["workers"] == 1:
        service = CommandLineService(
            endpoints,
            EchoFactory(options["log"], proxy_headers, reactor, limits),
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=fast_lane,
            drain_delay=options["drain-delay"],
        )
    else:
        service = CommandLineWorkersService(
            endpoints,
            options["workers"] or workers.cores(),
            log=options["log"],
            proxy_headers=proxy_headers,
            limits=limits,
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=fast_lane,
            reports=options["status"] is not None,
            drain_delay=options["drain-delay"],
        )
    service._options = options
    if options["status"] is not None:
        service._status = _status_of(service, options, reactor)
    return service
