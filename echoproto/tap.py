"""The command line of ``twistd echo``: its words become objects."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Mapping
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.python.components import Componentized

from echoproto import log_format, workers
from echoproto.clock import count_steadily
from echoproto.endpoint import TCPEndpoint
from echoproto.factory import EchoFactory
from echoproto.limits import Limits
from echoproto.options import CannotStartError, Options, told
from echoproto.proxy_protocol import ProxyHeaders
from echoproto.service import EchoService
from echoproto.workers import WorkersService

__all__ = ["Options", "makeService"]


class _FromCommandLine:
    """Mixed into a service that twistd or twist runs.

    A failed start is told in the command line's words, and the log is written
    as the command line says.
    """

    _options: Options

    def setServiceParent(self, parent: Any) -> None:
        """Stand under a parent, which is the application if a program runs this."""
        if isinstance(parent, Componentized):
            log_format.choose(self._options["log-format"], parent, self._options.parent)
        super().setServiceParent(parent)  # type: ignore[misc]

    def _listen(self) -> None:
        try:
            super()._listen()  # type: ignore[misc]
        except CannotListenError as error:
            refusal = CannotStartError(_explain(error, self._options))
            if sys.stderr is not sys.__stderr__:
                # twistd has taken standard error for its log, where the line
                # will stand, unless the log is on the terminal anyway.
                print(refusal, file=sys.__stderr__)
                parent: Mapping[str, Any] = self._options.parent or {}
                if parent.get("nodaemon") and parent.get("logfile") in (None, "-"):
                    refusal.code = 1
            raise refusal from None


class CommandLineService(_FromCommandLine, EchoService):
    """What ``twistd echo`` runs."""


class CommandLineWorkersService(_FromCommandLine, WorkersService):
    """What ``twistd echo --workers`` runs."""


def _explain(error: CannotListenError, options: Options) -> str:
    """Say which option cannot be had, why, and what is allowed."""
    port, interface, why = options["port"], options["interface"], error.socketError
    reason = getattr(why, "strerror", None) or str(why)
    code = getattr(why, "errno", None)
    if isinstance(why, (socket.gaierror, ValueError)):
        return told(
            "interface", interface, f"does not resolve ({reason})", "an address or a host name"
        )
    if code == errno.EADDRNOTAVAIL:
        return told(
            "interface", interface, "not an address of this machine", "one that `ip address` shows"
        )
    if code == errno.EINVAL:
        return told(
            "interface",
            interface,
            f"cannot be bound ({reason})",
            "one that `ip address` shows; a link-local one with its device, as in fe80::1%eth0",
        )
    if code == errno.EADDRINUSE:
        return told(
            "port",
            port,
            f"in use on {interface}",
            "a free port, or 0 to take one",
        )
    if code in (errno.EACCES, errno.EPERM):
        return told(
            "port",
            port,
            f"this user may not bind it ({reason})",
            "a port of net.ipv4.ip_unprivileged_port_start or above; or start as root, "
            "with twistd's --uid and --gid to serve as another user",
        )
    return told("interface", interface, f"cannot listen on port {port} ({reason})", "another one")


def makeService(options: Options, reactor: Any = None) -> EchoService | WorkersService:
    """Make the service that the command line describes.

    :param options: parsed.
    :param reactor: the one to listen with; the global one if none is given.
    """
    if reactor is None:
        from twisted.internet import reactor

        count_steadily(reactor)
    endpoint = TCPEndpoint(
        reactor,
        port=options["port"],
        interface=options["interface"],
        backlog=options["backlog"],
        reuse_address=options["reuse-address"],
        reuse_port=options["reuse-port"],
    )
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
            endpoint,
            EchoFactory(options["log"], proxy_headers, reactor, limits),
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=fast_lane,
        )
    else:
        service = CommandLineWorkersService(
            endpoint,
            options["workers"] or workers.cores(),
            log=options["log"],
            proxy_headers=proxy_headers,
            limits=limits,
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=fast_lane,
        )
    service._options = options
    return service
