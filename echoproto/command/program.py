"""What twistd runs: the echo, and around it the status, the service manager and the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.components import Componentized

from echoproto.command import json_log, notify
from echoproto.command.options import CannotStartError
from echoproto.net.string_endpoint import ListenError
from echoproto.service import EchoService
from echoproto.workers.parent import WorkersService

if TYPE_CHECKING:
    # It needs an extra, and memory.
    from echoproto.status.server import StatusServer


class Program(Service):
    """Starts and stops the echo and what belongs to it, in order.

    :ivar echo: the echo service.
    :ivar status: serves the status, if that was asked for.
    """

    def __init__(
        self,
        echo: EchoService | WorkersService,
        status: StatusServer | None,
        *,
        reactor: Any,
        log_format: json_log.LogFormat,
        parent_options: Mapping[str, Any],
        explain: Callable[[Exception], str],
        explain_status: Callable[[Exception], str],
    ) -> None:
        """Describe a program.

        :param echo: the echo service.
        :param status: serves the status, if that was asked for.
        :param reactor: an ``IReactorTime``.
        :param log_format: how to log, if twistd or twist runs this.
        :param parent_options: the options of twistd or twist.
        :param explain: returns in one line why the echo cannot listen.
        :param explain_status: the same for the status.
        """
        self.echo = echo
        self.status = status
        self._reactor = reactor
        self._log_format = log_format
        self._parent_options = parent_options
        self._explain = explain
        self._explain_status = explain_status
        self._listening = False
        self._readiness: notify.Readiness | None = None

    @property
    def ports(self) -> Sequence[IListeningPort]:
        """The ports that the echo listens on now."""
        return self.echo.ports

    @property
    def live(self) -> int:
        """How many connections are open."""
        return self.echo.live

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires once the echo listens everywhere and the reactor runs."""
        return self.echo.when_ready()

    def setServiceParent(self, parent: Any) -> None:
        """Stand under a parent, which is the application if a program runs this."""
        if isinstance(parent, Componentized):
            json_log.choose(self._log_format, parent, self._parent_options or None)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Listen, while the process still has the right to take any port.

        :raises CannotStartError: when a port cannot be had; then none is left open.
        """
        super().privilegedStartService()
        # First, so that nothing else is open when it cannot be had.
        self._open_status()
        try:
            self.echo.privilegedStartService()
        except BaseException as error:
            if self.status is not None:
                self.status.close()
            if isinstance(error, (CannotListenError, ListenError)):
                raise self._refusal(self._explain(error)) from None
            raise
        self._listening = True

    def startService(self) -> None:
        """Serve, and tell the service manager when that is so; raises what listening raises."""
        # Before workers are started, which must not speak for the service.
        notifier = notify.take_notifier(os.environ)
        if not self._listening:
            self.privilegedStartService()
        super().startService()
        self.echo.startService()
        if notifier is not None:
            self._readiness = notify.Readiness(notifier, self._reactor, self.echo)

    def stopService(self) -> Deferred[None]:
        """Drain; the service manager and the status report until that is over."""
        super().stopService()
        self._listening = False
        over = self.echo.stopService()
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.stopping()
            over.addCallback(lambda _: readiness.stopped())
        if self.status is not None:
            over.addBoth(self._close_status)
        return over

    def _open_status(self) -> None:
        if self.status is not None:
            try:
                self.status.open()
            except (ListenError, RuntimeError) as error:
                raise self._refusal(self._explain_status(error)) from None

    def _close_status(self, outcome: Any) -> Deferred[Any]:
        assert self.status is not None
        return self.status.close().addCallback(lambda _: outcome)

    def _refusal(self, line: str) -> CannotStartError:
        """Print why it cannot start, where twistd would not, and return the error."""
        if sys.stderr is sys.__stderr__:
            return CannotStartError(line)
        # twistd has taken standard error for its log, which will have the line, unless the
        # log is on the terminal anyway.
        print(line, file=sys.__stderr__)
        options = self._parent_options
        on_terminal = options.get("nodaemon") and options.get("logfile") in (None, "-")
        return CannotStartError(line, printed=bool(on_terminal))
