"""The command line of ``twistd echo``: its words become objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from echoproto.base.clock import use_monotonic_clock
from echoproto.command import pid_file
from echoproto.command.errors import CannotStartError, option_error
from echoproto.command.hints import log_hints
from echoproto.command.log_file import LogFile, log_path
from echoproto.command.options import Options
from echoproto.command.program import Program
from echoproto.command.settings import Settings
from echoproto.core.factory import EchoFactory
from echoproto.net import bind_errors
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.net.tcp_endpoint import TCPEndpoint
from echoproto.service import EchoService
from echoproto.workers.parent import WorkersService

if TYPE_CHECKING:
    from echoproto.status.server import StatusServer

__all__ = ["Options", "makeService"]


def _explain(error: Exception, settings: Settings) -> str:
    """Say which option cannot be had, why, and what is allowed."""
    if isinstance(error, ListenError):
        option = error.option or "listen"
        return option_error(option, error.description, error.reason, error.allowed)
    port, interface = settings.port, settings.interface
    found = bind_errors.explain(error, address=interface)
    if found is None:
        reason = f"cannot listen on port {port} ({bind_errors.text_of(error)})"
        return option_error("interface", interface, reason, "an address that can be bound")
    return option_error(
        found.subject, getattr(settings, found.subject), found.reason, found.allowed
    )


def _check_pid_file(program: Mapping[str, Any]) -> None:
    """Refuse in one line a pid file that twistd cannot write.

    :param program: the options of the program that runs this.
    :raises CannotStartError: when it cannot be written.
    """
    why = pid_file.why_not_writable(program)
    if why is not None:
        allowed = "a path with room for a file of a few bytes; or --pidfile= for none"
        raise CannotStartError(option_error("pidfile", program["pidfile"], why, allowed))


def _open_log_file(program: Mapping[str, Any]) -> LogFile | None:
    """Open the file that twistd logs to; return ``None`` if the log goes elsewhere.

    :param program: the options of the program that runs this.
    :raises CannotStartError: when it cannot be written.
    """
    path = log_path(program)
    try:
        return None if path is None else LogFile(path)
    except OSError as error:
        allowed = "a path that this user may write to; or -n with --logfile=- for standard output"
        reason = f"cannot be written ({error.strerror})"
        raise CannotStartError(option_error("logfile", path, reason, allowed)) from None


def _endpoints(settings: Settings, reactor: Any) -> list[TCPEndpoint | StringEndpoint]:
    """Return where to listen.

    :raises ListenError: when an endpoint string is wrong.
    """
    sockets: dict[str, Any] = {
        "backlog": settings.backlog,
        "reuse_address": settings.reuse_address,
        "reuse_port": settings.reuse_port,
    }
    endpoints: list[TCPEndpoint | StringEndpoint] = []
    if settings.port is not None:
        endpoints.append(TCPEndpoint(reactor, settings.port, settings.interface, **sockets))
    for description in settings.listen:
        endpoints.append(StringEndpoint(reactor, description, tls=settings.tls, **sockets))
    return endpoints


def _echo(settings: Settings, reactor: Any) -> EchoService | WorkersService:
    """Return the echo service.

    :raises ListenError: when an endpoint string is wrong.
    """
    endpoints = _endpoints(settings, reactor)
    if settings.workers > 1:
        return WorkersService(
            endpoints,
            settings.workers,
            reactor=reactor,
            log=settings.log,
            limits=settings.limits,
            proxy_headers=settings.proxy_headers,
            drain_timeout=settings.drain_timeout,
            drain_delay=settings.drain_delay,
            fast_lane=settings.fast_lane,
            worker_timeout=settings.worker_timeout,
            keepalive=settings.keepalive,
        )
    factory = EchoFactory(
        log=settings.log,
        limits=settings.limits,
        proxy_headers=settings.proxy_headers,
        reactor=reactor,
    )
    return EchoService(
        endpoints,
        factory,
        reactor=reactor,
        drain_timeout=settings.drain_timeout,
        drain_delay=settings.drain_delay,
        fast_lane=settings.fast_lane,
        keepalive=settings.keepalive,
    )


def _status(
    where: str, echo: EchoService | WorkersService, settings: Settings, reactor: Any
) -> StatusServer:
    """Return what serves the status.

    :raises ListenError: when there is no such endpoint.
    :raises CannotStartError: when something is not installed.
    """
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
    endpoint = status_endpoint(reactor, where)
    members = (reactor, settings.shown, settings.limits.max_connections)
    hosts = settings.status_hosts
    if isinstance(echo, EchoService):
        return StatusServer(endpoint, ProcessCollector(echo, *members), reactor, hosts)
    return StatusServer(endpoint, WorkersCollector(echo, *members), reactor, hosts)


def _explain_status(error: Exception, settings: Settings) -> str:
    """Say why the status cannot be served where it should be."""
    if isinstance(error, ListenError):
        allowed = f"a TCP port, or a Twisted endpoint: {error.allowed}"
        return option_error("status", settings.status, error.reason, allowed)
    return option_error(
        "status", settings.status, str(error), "an endpoint that listens immediately"
    )


def makeService(options: Options, reactor: Any = None) -> Program:
    """Make the service that the command line describes.

    :param options: parsed.
    :param reactor: the one to listen with; the global one if none is given.
    :raises CannotStartError: when an endpoint string is wrong, or twistd could not write
        its pid file or its log.
    """
    parent_options: Mapping[str, Any] = options.parent or {}
    _check_pid_file(parent_options)
    log_file = _open_log_file(parent_options)
    if reactor is None:
        from twisted.internet import reactor

        use_monotonic_clock(reactor)
    settings = Settings.from_options(options)
    log_hints(settings)
    try:
        echo = _echo(settings, reactor)
    except ListenError as error:
        raise CannotStartError(_explain(error, settings)) from None
    try:
        status = None
        if settings.status is not None:
            status = _status(settings.status, echo, settings, reactor)
    except ListenError as error:
        raise CannotStartError(_explain_status(error, settings)) from None
    return Program(
        echo,
        status,
        reactor=reactor,
        log_format=settings.log_format,
        log_file=log_file,
        parent_options=parent_options,
        explain=lambda error: _explain(error, settings),
        explain_status=lambda error: _explain_status(error, settings),
    )
