"""How a worker accepts for workers that are away.

Each TCP worker has a listening socket of its own, and the kernel spreads new clients over
all of them. It knows nothing of a worker that is dead, hangs, or has not started yet:
clients would wait in its accept queue. So every worker inherits the sockets of all, and
the parent tells it which queues to serve besides its own. Two processes can accept from
one socket at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.service import ListeningService
from echoproto.workers.settings import InheritedSocket

_log = Logger(namespace="echoproto")


@implementer(IStreamServerEndpoint)
class BorrowedSocket:
    """A socket whose accept queue belongs to another process.

    :ivar backlog: ``None``, as for every socket of another process: clients without a
        connection slot stay in the queue.
    """

    backlog: int | None = None

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        """Describe it.

        :param endpoint: listens on the socket.
        """
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen, once."""
        return self._endpoint.listen(protocolFactory)


class Cover:
    """Accepts from the sockets of other workers; the connections are those of this one."""

    def __init__(
        self,
        service: ListeningService,
        sockets: Sequence[InheritedSocket],
        number: int,
        endpoint: Callable[[InheritedSocket, int], IStreamServerEndpoint],
    ) -> None:
        """Describe it; nothing is accepted yet.

        :param service: this worker's.
        :param sockets: what this worker has inherited, its own sockets included.
        :param number: this worker's.
        :param endpoint: returns what listens on a descriptor, which it owns.
        """
        self._service = service
        self._number = number
        self._sockets = [each for each in sockets if not each.shared]
        self._endpoint = endpoint
        self._ports: dict[int, list[IListeningPort]] = {}

    def cover(self, workers: Collection[int]) -> None:
        """Accept for these workers, and for no other.

        :param workers: their numbers.
        """
        if not self._service.running:
            # When it stops, it closes these ports with its own.
            return
        for number in self._ports.keys() - set(workers):
            for port in self._ports.pop(number):
                self._service.close(port)
        for number in workers:
            if number not in self._ports:
                ports: list[IListeningPort] = []
                self._ports[number] = ports
                for each in self._sockets:
                    opened = self._open(each, number)
                    opened.addCallbacks(ports.append, partial(self._failed, number))

    def release(self) -> None:
        """Close the sockets of the other workers, which would listen as long as they are open."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            for descriptor in each.descriptors:
                if descriptor != each.of_worker(self._number):
                    os.close(descriptor)

    def _open(self, inherited: InheritedSocket, number: int) -> Deferred[IListeningPort]:
        descriptor = os.dup(inherited.of_worker(number))
        try:
            endpoint = self._endpoint(inherited, descriptor)
        except Exception:
            os.close(descriptor)
            return fail()
        return self._service.open(BorrowedSocket(endpoint))

    def _failed(self, number: int, failure: Failure) -> None:
        _log.error(
            "cannot serve the clients of worker {number}: {why}",
            number=number + 1,
            why=failure.getErrorMessage(),
        )
