"""Notifications to the service manager: ``sd_notify(3)``.

A manager that expects notifications passes the address of a datagram socket in
``NOTIFY_SOCKET``. The service reports that it is ready (``READY=1``), that it is
stopping (``STOPPING=1``), and its status as text (``STATUS=``). An error here
never affects the service.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from echoproto.base.words import counted

_log = Logger(namespace="echoproto")


class Notifier:
    """Sends states to the socket of a service manager."""

    def __init__(self, address: str) -> None:
        """Create a notifier. Nothing is sent yet.

        :param address: an absolute path, or ``@`` and a name in the abstract namespace
            (``unix(7)``).
        """
        self._address = address
        self._warned = False
        # States that did not fit into the manager's queue.
        self._unsent: dict[str, str] = {}

    def send(self, **states: str) -> None:
        """Send states, together with those that could not be sent before.

        If the manager's queue is full, the states are kept for the next call. After any
        other error they are discarded, and the first such error is logged.

        :param states: for example ``READY="1"``. Without states, only those that could
            not be sent before are sent.
        """
        self._unsent.update(states)
        if not self._unsent:
            return
        message = "".join(f"{name}={value}\n" for name, value in self._unsent.items())
        address = self._address
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        try:
            if not self._address.startswith(("/", "@")):
                raise ValueError("neither an absolute path nor @name")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), address)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._warn_once(error)
        self._unsent.clear()

    def _warn_once(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _log.warn(
                "cannot send to NOTIFY_SOCKET {address}: {why}", address=self._address, why=error
            )


def take_notifier(environ: MutableMapping[str, str]) -> Notifier | None:
    """Remove ``NOTIFY_SOCKET`` from the environment and return a notifier for it.

    It is removed because child processes inherit the environment, and they must not
    send notifications for the service.

    :param environ: the environment of this process.
    :returns: ``None`` if the variable is not set.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    return Notifier(address) if address else None


class Readiness:
    """Reports the state of a service to its manager, from the start to the end of the drain."""

    def __init__(self, notifier: Notifier, clock: Any, service: Any) -> None:
        """Send ``READY=1`` when the service is ready.

        :param notifier: sends the states.
        :param clock: an ``IReactorTime``.
        :param service: an :class:`echoproto.EchoService` or
            :class:`echoproto.WorkersService`.
        """
        self._notifier = notifier
        self._clock = clock
        self._service = service
        self._reported = ""
        self._next: Any = None
        ready: Deferred[None] = service.when_ready()
        ready.addCallback(lambda _: self._report(READY="1"))

    def stopping(self) -> None:
        """Report that the drain begins."""
        self._report(STOPPING="1")

    def stopped(self) -> None:
        """Stop reporting."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _report(self, **states: str) -> None:
        """Send states now, and check each second whether the status has changed."""
        self.stopped()
        status = self._status()
        if status != self._reported:
            states["STATUS"] = self._reported = status
        self._notifier.send(**states)
        self._next = self._clock.callLater(1, self._report)

    def _status(self) -> str:
        connections = counted(self._service.live, "connection")
        return f"draining: {connections} left" if self._service.draining else connections
