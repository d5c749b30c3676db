"""What the service tells its service manager, if that listens: ``sd_notify(3)``.

A manager that wants to be told gives a datagram socket in ``NOTIFY_SOCKET``. It
learns when the service is ready (``READY=1``), that it stops (``STOPPING=1``), and
in words how it is (``STATUS=``). Nothing that goes wrong here touches the service.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

_log = Logger(namespace="echoproto")


class Notifier:
    """Sends states to a manager's socket."""

    def __init__(self, address: str) -> None:
        """Describe it; nothing is sent yet.

        :param address: an absolute path, or a name of the abstract namespace (``unix(7)``)
            after an ``@``.
        """
        self._address = address
        self._complained = False
        # What the manager's queue had no room for.
        self._unsent: dict[str, str] = {}

    def send(self, **states: str) -> None:
        """Send states, and with them what could not be sent before.

        :param states: as ``READY="1"``; with none, try again.
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
            self._complain(error)
        self._unsent.clear()

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.warn(
                "cannot tell NOTIFY_SOCKET {address}: {why}", address=self._address, why=error
            )


def take_notifier(environ: MutableMapping[str, str]) -> Notifier | None:
    """Return who tells the manager, and take the address from the environment.

    What this process starts is not the service that the manager knows, and must not speak
    for it.

    :param environ: this process's.
    :returns: ``None`` if no manager wants to be told.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    return Notifier(address) if address else None


class Readiness:
    """Tells a manager how a service is, from its start to the end of its drain."""

    def __init__(self, notifier: Notifier, clock: Any, service: Any) -> None:
        """Tell the manager as soon as the service is ready.

        :param notifier: tells the manager.
        :param clock: an ``IReactorTime``.
        :param service: an :class:`echoproto.EchoService` or
            :class:`echoproto.WorkersService`.
        """
        self._notifier = notifier
        self._clock = clock
        self._service = service
        self._said = ""
        self._next: Any = None
        ready: Deferred[None] = service.when_ready()
        ready.addCallback(lambda _: self._tell(READY="1"))

    def stopping(self) -> None:
        """Tell that the drain begins."""
        self._tell(STOPPING="1")

    def stopped(self) -> None:
        """Tell no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _tell(self, **states: str) -> None:
        """Tell something now, and from then on each second what has changed."""
        self.stopped()
        status = self._status()
        if status != self._said:
            states["STATUS"] = self._said = status
        self._notifier.send(**states)
        self._next = self._clock.callLater(1, self._tell)

    def _status(self) -> str:
        live = self._service.live
        if self._service.draining:
            return f"draining: {live} connections left"
        return f"{live} connections"
