"""What twistd runs: the echo, and around it the status, the service manager and the log."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.components import Componentized

from echoproto.command import json_log, notify
from echoproto.command.errors import CannotStartError
from echoproto.command.exit_code import exit_with_failure
from echoproto.command.log_file import LogFile
from echoproto.command.orphans import start_reaping
from echoproto.command.signals import SignalHandlers
from echoproto.net.string_endpoint import ListenError
from echoproto.net.unix_ports import UNIXPort
from echoproto.service import EchoService
from echoproto.workers.parent import WorkersService

if TYPE_CHECKING:
    # It needs an extra, and memory.
    from echoproto.status.server import StatusServer

_log = Logger(namespace="echoproto")


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
        log_file: LogFile | None,
        parent_options: Mapping[str, Any],
        explain: Callable[[Exception], str],
        explain_status: Callable[[Exception], str],
    ) -> None:
        """Describe a program.

        :param echo: the echo service.
        :param status: serves the status, if that was asked for.
        :param reactor: an ``IReactorTime``.
        :param log_format: how to log, if twistd or twist runs this.
        :param log_file: where to log, if that is a file.
        :param parent_options: the options of twistd or twist.
        :param explain: returns in one line why the echo cannot listen.
        :param explain_status: the same for the status.
        """
        self.echo = echo
        self.status = status
        self._reactor = reactor
        self._log_format = log_format
        self._log_file = log_file
        self._parent_options = parent_options
        self._explain = explain
        self._explain_status = explain_status
        self._listening = False
        self._readiness: notify.Readiness | None = None
        self._abort_wanted = False
        self._signals = SignalHandlers(
            reactor, abort=self.abort, reload=self.reload, reopen_log=self.reopen_log
        )
        self._reaping: LoopingCall | None = None

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
            program = self._parent_options or None
            json_log.choose(self._log_format, parent, program, self._log_file)
            if program is not None:
                # Before twistd sets one for SIGUSR1, which rotates the log itself.
                self._signals.install()
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
        self._give_files_away()
        self._listening = True

    def startService(self) -> None:
        """Serve, and tell the service manager when that is so; raises what listening raises."""
        # Before workers are started, which must not speak for the service.
        notifier = notify.take_notifier(os.environ)
        if not self._listening:
            self.privilegedStartService()
        super().startService()
        if isinstance(self.echo, WorkersService):
            self.echo.when_start_failed().addCallback(self._give_up)
        self.echo.startService()
        if notifier is not None:
            self._readiness = notify.Readiness(notifier, self._reactor, self.echo)
        if os.getpid() == 1:
            self._reaping = start_reaping(self._reactor)

    def stopService(self) -> Deferred[None]:
        """Drain; the service manager and the status report until that is over."""
        super().stopService()
        self._listening = False
        self._signals.stopping()
        if self._reaping is not None:
            self._reaping.stop()
            self._reaping = None
        over = self.echo.stopService()
        if self._abort_wanted:
            self.echo.abort()
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.stopping()
            over.addCallback(lambda _: readiness.stopped())
        if self.status is not None:
            over.addBoth(self._close_status)
        return over

    def _give_up(self, _: object) -> None:
        """End the program with exit code 1: no worker can start."""
        assert isinstance(self.echo, WorkersService)
        why = self.echo.start_failure
        _log.critical("no worker could start: {why}", why=why)
        if not self._logs_on_terminal:
            print(f"no worker could start: {why}", file=sys.__stderr__)
        exit_with_failure()
        # There is no client to wait for; this runs after the trigger that stops the service.
        self._reactor.addSystemEventTrigger("before", "shutdown", self.echo.skip_delay)
        self._reactor.stop()

    def abort(self) -> None:
        """Abort the drain, or the one that is about to begin."""
        self._abort_wanted = True
        self.echo.abort()

    def reload(self) -> None:
        """Read again what was read from files, and reopen the log."""
        self.echo.reload()
        if self.status is not None:
            self.status.reload()
        self._reopen_log("SIGHUP: {log}; the options are not read again, which takes a restart")

    def reopen_log(self) -> None:
        """Reopen the log, which something may have moved away."""
        self._reopen_log("SIGUSR1: {log}")

    def _reopen_log(self, line: str) -> None:
        if self._log_file is None:
            why = "the log is not a file, and is not reopened"
            _log.info(line, log=why, event="log_not_reopened")
            return
        path = self._log_file.path
        try:
            self._log_file.reopen()
        except OSError as error:
            why = f"cannot reopen {path} ({error.strerror}); the old log file stays open"
            _log.warn(line, log=why, event="log_not_reopened")
        else:
            _log.info(line, log=f"reopened {path}", event="log_reopened")

    def _open_status(self) -> None:
        if self.status is not None:
            try:
                self.status.open()
            except (ListenError, RuntimeError) as error:
                raise self._refusal(self._explain_status(error)) from None

    def _give_files_away(self) -> None:
        """Let the log and UNIX sockets belong to the user that twistd is about to become."""
        user, group = (self._parent_options.get(name) for name in ("uid", "gid"))
        if user is not None and group is None:
            # twistd does the same, and has no use for a user without an entry.
            with suppress(KeyError):
                group = pwd.getpwuid(user).pw_gid
        owner = (-1 if user is None else user, -1 if group is None else group)
        if owner == (-1, -1):
            return
        ports = (*self.ports, *(self.status.ports if self.status is not None else ()))
        files: list[Any] = [port for port in ports if isinstance(port, UNIXPort)]
        if self._log_file is not None:
            files.append(self._log_file)
        for each in files:
            # Without the right, twistd will not become that user either, and says so.
            with suppress(OSError):
                each.give_to(*owner)

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
        return CannotStartError(line, printed=self._logs_on_terminal)

    @property
    def _logs_on_terminal(self) -> bool:
        options = self._parent_options
        return bool(options.get("nodaemon")) and options.get("logfile") in (None, "-")
