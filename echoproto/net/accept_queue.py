"""What a service does about the accept queues of its ports.

It logs their length when it listens, and accepts the clients that wait in them
before it closes them.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from echoproto.base.address import format_address
from echoproto.base.lifecycle import Extension
from echoproto.base.words import counted
from echoproto.net import listen_queue

_log = Logger(namespace="echoproto")

# The most that are accepted from a queue of unknown length. Linux allows a queue no
# more than this unless told otherwise (``net.core.somaxconn``).
_UNKNOWN_LENGTH = 4096


class AcceptQueues(Extension):
    """Logs the accept queue of each port, and empties it before the port closes."""

    def __init__(self) -> None:
        self._reactor: Any = None
        # What was asked for; None for a socket that another process has opened.
        self._backlogs: dict[IListeningPort, int | None] = {}

    def starting(self, reactor: Any) -> None:
        self._reactor = reactor

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        self._backlogs[port] = backlog

    def port_ready(self, port: IListeningPort) -> None:
        _log.info(
            "listening on {address}; {queue}",
            address=format_address(port.getHost()),
            queue=listen_queue.describe(
                self._backlogs[port], listen_queue.accept_queue(port), listen_queue.read_limits()
            ),
        )

    def port_closing(self, port: IListeningPort) -> None:
        # A port closes in the reactor's next turn, which would reset the clients in its
        # queue. So they are accepted right before. On an inherited socket no more are
        # accepted than there are slots: the others can wait there for the next process.
        self._reactor.callLater(0, self._empty, port)

    def port_closed(self, port: IListeningPort) -> None:
        self._backlogs.pop(port, None)

    def stopped(self) -> None:
        self._backlogs.clear()

    def _empty(self, port: Any) -> None:
        if not hasattr(port, "doRead"):
            # An endpoint's own kind of port, which the reactor does not read.
            return
        queue = listen_queue.accept_queue(port)
        if queue is None:
            _accept_from_unknown_queue(port)
            return
        # A port may accept only one at a time.
        for _ in range(queue.queued):
            port.doRead()
        # There may be no descriptor for them.
        left = listen_queue.accept_queue(port)
        if left is not None and left.queued and self._backlogs.get(port) is not None:
            _log.warn(
                "closing {address} with {clients} still in the accept queue",
                address=format_address(port.getHost()),
                clients=counted(left.queued, "client"),
            )


def _accept_from_unknown_queue(port: Any) -> None:
    """Accept the clients of a UNIX socket, which tells only whether there are any."""
    if not hasattr(select, "poll"):
        return
    waiting = select.poll()
    waiting.register(port.fileno(), select.POLLIN)
    # Clients that keep coming must not keep the port open.
    for _ in range(_UNKNOWN_LENGTH):
        if not waiting.poll(0):
            return
        port.doRead()
