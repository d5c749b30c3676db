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

# How often a port of unknown queue length accepts at most before it closes. Linux allows
# a queue no more than this unless told otherwise (``net.core.somaxconn``).
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
        asked = self._backlogs[port]
        queue = listen_queue.accept_queue(port, asked)
        _log.info(
            "listening on {address}; {queue}",
            address=format_address(port.getHost()),
            queue=listen_queue.describe(asked, queue, listen_queue.read_limits()),
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
        _accept_waiting(port)
        # There may be no descriptor for them.
        left = listen_queue.accept_queue(port)
        if left is not None and left.queued and self._backlogs.get(port) is not None:
            _log.warn(
                "closing {address} with {clients} still in the accept queue",
                address=format_address(port.getHost()),
                clients=counted(left.queued, "client"),
            )


def _accept_waiting(port: Any) -> None:
    """Accept the clients that wait in the accept queue of a port."""
    queue = listen_queue.accept_queue(port)
    waiting = select.poll() if hasattr(select, "poll") else None
    if waiting is None:
        most = queue.queued if queue is not None else 0
    else:
        # What poll(2) tells needs no trust: some kernels report an empty queue always.
        waiting.register(port.fileno(), select.POLLIN)
        most = queue.queued if queue is not None and queue.queued else _UNKNOWN_LENGTH
    # A port may accept only one at a time; and clients that keep coming must not keep it
    # open.
    for _ in range(most):
        if waiting is not None and not waiting.poll(0):
            return
        port.doRead()
