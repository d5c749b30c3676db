"""The signals of the program: which stop it, which make it read files again, and the rest.

Handlers are set for a program that twistd or twist runs, and stay until the process ends:
a signal that arrives after the drain must not change how it ends. A function that an
application has set as a handler stays.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from echoproto.base.ending_signals import ending_signals, signal_name
from echoproto.base.rate_limited_log import RateLimitedLog

_log = Logger(namespace="echoproto")

# The reactor sets handlers for these when it runs.
_OF_REACTOR = ("SIGINT", "SIGTERM", "SIGBREAK")


class SignalHandlers:
    """The handlers of a program for all signals that would end it.

    SIGTERM, SIGINT and SIGQUIT stop it; the second of them aborts. SIGHUP reloads, SIGUSR1
    reopens the log. All others are logged, and ignored.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        abort: Callable[[], None],
        reload: Callable[[], None],
        reopen_log: Callable[[], None],
    ) -> None:
        """Describe them; :meth:`install` sets them.

        :param reactor: the one that runs the program. It calls everything below, in its
            own thread.
        :param abort: aborts the drain, or the one that is about to begin.
        :param reload: called for SIGHUP.
        :param reopen_log: called for SIGUSR1.
        """
        self._reactor = reactor
        self._abort = abort
        self._actions = {"SIGHUP": reload, "SIGUSR1": reopen_log}
        self._stopping = False
        self._warnings = RateLimitedLog(_log, lambda: reactor)

    def install(self) -> None:
        """Set the handlers; those that stop the program once the reactor has set its own."""
        for signum in ending_signals():
            name = signal_name(signum)
            if name in self._actions:
                # nohup(1) ignores SIGHUP, and a handler does not end the program either.
                _set(signum, self._act, signal.SIG_DFL, signal.SIG_IGN)
            elif name not in (*_OF_REACTOR, "SIGQUIT"):
                _set(signum, self._ignore, signal.SIG_DFL)
        self._reactor.callWhenRunning(self._handle_stops)

    def stopping(self) -> None:
        """Take the next signal as the second: the program stops for another reason."""
        self._stopping = True

    def _handle_stops(self) -> None:
        for name, of_reactor in (("SIGINT", "sigInt"), ("SIGTERM", "sigTerm")):
            _set(getattr(signal, name), self._stop, getattr(self._reactor, of_reactor, None))
        if hasattr(signal, "SIGQUIT"):
            # A shell without job control ignores it for a program that it starts with "&".
            _set(signal.SIGQUIT, self._stop, signal.SIG_DFL, signal.SIG_IGN)

    def _stop(self, signum: int, frame: Any) -> None:
        if self._stopping:
            # The reactor only logs a traceback for a second one (ReactorNotRunning). And a
            # handler may interrupt anything; leave that first.
            self._reactor.callFromThread(self._abort)
            return
        self._stopping = True
        if signum == signal.SIGINT:
            self._reactor.sigInt(signum, frame)
        else:
            if signum != signal.SIGTERM:
                self._reactor.callFromThread(_log.info, "SIGQUIT: stopping as at SIGTERM")
            # twistd ends by the signal that has stopped it. SIGQUIT would dump core.
            self._reactor.sigTerm(signal.SIGTERM, frame)

    def _act(self, signum: int, frame: object) -> None:
        self._reactor.callFromThread(self._actions[signal_name(signum)])

    def _ignore(self, signum: int, frame: object) -> None:
        name = signal_name(signum)
        self._reactor.callFromThread(self._warnings.warn, name, "ignored {signal}", signal=name)


def _set(signum: int, handler: Callable[[int, Any], None], *instead_of: Any) -> None:
    """Set a handler, unless another than these is set."""
    if signal.getsignal(signum) in instead_of:
        signal.signal(signum, handler)
