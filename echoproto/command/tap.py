"""The command line of ``twistd echo``: its words become objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from echoproto.base.clock import use_monotonic_clock
from echoproto.command.options import CannotStartError, Options, option_error
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
        return option_error("listen", error.description, error.reason, error.allowed)
    port, interface = settings.port, settings.interface
    found = bind_errors.explain(error, address=interface)
    if found is None:
        reason = f"cannot listen on port {port} ({bind_errors.text_of(error)})"
        return option_error("interface", interface, reason, "an address that can be bound")
    return option_error(
        found.subject, getattr(settings, found.subject), found.reason, found.allowed
    )


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
        raise CannotStartError(option_error("pidfile", path, reason, allowed)) from None
    finally:
        with suppress(OSError):
            os.unlink(path)


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
        endpoints.append(StringEndpoint(reactor, description, **sockets))
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
    if isinstance(echo, EchoService):
        return StatusServer(endpoint, ProcessCollector(echo, *members), reactor)
    return StatusServer(endpoint, WorkersCollector(echo, *members), reactor)


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
        its pid file.
    """
    parent_options: Mapping[str, Any] = options.parent or {}
    _check_pid_file(parent_options)
    if reactor is None:
        from twisted.internet import reactor

        use_monotonic_clock(reactor)
    settings = Settings.from_options(options)
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
        parent_options=parent_options,
        explain=lambda error: _explain(error, settings),
        explain_status=lambda error: _explain_status(error, settings),
    )
