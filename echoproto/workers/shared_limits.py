"""Limits that hold for several workers together.

The parent has them (:class:`LimitCoordinator`). A worker asks before it accepts
(:class:`LeasedSlots`), and before it listens to a client whose source it knows
(:class:`RemoteSourceLimit`). Without these limits nothing is asked.

A place is lent, and goes back as soon as the connection is over: none is kept in
stock, or a client could wait at one worker while another has a place that nobody
needs. What a worker that dies has, goes back too.

The messages (:mod:`echoproto.workers.channel`): ``want`` (so many places), answered once by
``lend`` as soon as there is any; ``release``; ``enter`` (may this source have one
more?), answered by ``answer``; ``leave``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.limits.per_source import Limits, PerSourceLimit
from echoproto.limits.slots import ConnectionSlots, LimitedPort
from echoproto.workers.channel import Messages

# ConnectionSlots that are wanted for a queue whose length the kernel does not tell, as that of
# a UNIX socket; those that are too many go back at once.
_SOME = 16


class LimitCoordinator:
    """Lends places and counts sources for all workers; the parent's end."""

    def __init__(self, limits: Limits, tell: Callable[..., None]) -> None:
        """Begin with all places free.

        :param limits: for all workers together.
        :param tell: sends a message to a worker: its name, the kind, and the members.
        """
        self._most = limits.max_connections
        self._sources = PerSourceLimit(limits.max_per_source)
        self._tell = tell
        self._lent: Counter[str] = Counter()
        # Who waits for places, in order, and for how many.
        self._wanted: dict[str, int] = {}
        self._entered: dict[str, Counter[str]] = {}

    def listen_to(self, worker: str, messages: Messages) -> None:
        """Answer a worker.

        :param worker: its name.
        :param messages: what comes from it.
        """

        def want(number: int) -> None:
            self._wanted[worker] = number
            self._lend()

        def release(number: int) -> None:
            self._lent[worker] -= number
            self._lend()

        def enter(asked: int, source: str) -> None:
            admitted = self._sources.enter(source)
            if admitted:
                self._entered.setdefault(worker, Counter())[source] += 1
            self._tell(worker, "answer", asked=asked, admitted=admitted)

        def leave(source: str) -> None:
            self._entered[worker][source] -= 1
            self._sources.leave(source)

        messages.on("want", want)
        messages.on("release", release)
        messages.on("enter", enter)
        messages.on("leave", leave)

    def forget(self, worker: str) -> None:
        """Take back what a worker had, which has ended."""
        for source in self._entered.pop(worker, Counter()).elements():
            self._sources.leave(source)
        self._wanted.pop(worker, None)
        self._lent.pop(worker, None)
        self._lend()

    def _lend(self) -> None:
        while self._wanted and (free := self._most - self._lent.total()) > 0:
            worker = next(iter(self._wanted))
            number = min(self._wanted.pop(worker), free)
            self._lent[worker] += number
            self._tell(worker, "lend", number=number)


class LeasedSlots(ConnectionSlots):
    """ConnectionSlots that the parent lends; a worker's end."""

    def __init__(self, limits: Limits, live: Callable[[], int], tell: Callable[..., None]) -> None:
        """Begin with none.

        :param limits: for all workers together.
        :param live: returns how many connections there are here.
        :param tell: sends a message to the parent: the kind, and the members.
        """
        super().__init__(limits.max_connections, live)
        self._tell = tell
        self._lent = 0
        self._asked = False

    @property
    def available(self) -> int:
        return self._lent - self._live()

    def wait(self, port: LimitedPort) -> None:
        super().wait(port)
        self._ask()

    def park(self, sock: Any, start: Callable[[], None]) -> None:
        super().park(sock, start)
        self._ask()

    def release(self) -> None:
        self._return_rest()

    def lend(self, number: int) -> None:
        """Be lent places: accept, and give back what nobody takes."""
        self._asked = False
        self._lent += number
        self.fill()
        self._return_rest()
        if self.waiting or self.waiting_ports:
            self._ask()

    def _ask(self) -> None:
        if self._asked:
            # It will ask again, if that was not enough.
            return
        self._asked = True
        queues = [port.queued for port in self.waiting_ports]
        waiting = sum(_SOME if queued is None else queued for queued in queues)
        self._tell("want", number=max(1, waiting + self.waiting))

    def _return_rest(self) -> None:
        rest = self.available
        if rest > 0:
            self._lent -= rest
            self._tell("release", number=rest)


class RemoteSourceLimit(PerSourceLimit):
    """PerSourceLimit that the parent counts; a worker's end."""

    def __init__(self, limits: Limits, tell: Callable[..., None]) -> None:
        """Begin without a question.

        :param limits: for all workers together.
        :param tell: sends a message to the parent: the kind, and the members.
        """
        super().__init__(limits.max_per_source)
        self._tell = tell
        self._number = 0
        self._asked: dict[int, Callable[[bool], None]] = {}

    def leave(self, source: str) -> None:
        self._tell("leave", source=source)

    def ask(
        self,
        source: str,
        connection: Connection,
        payload: bytes,
        go_on: Callable[[Connection, bytes], None],
        refuse: Callable[[Connection, str], None],
    ) -> None:
        hold = _Hold(connection, payload)

        def answered(admitted: bool) -> None:
            if not hold.release():
                if admitted:
                    self.leave(source)
                return
            if not admitted:
                refuse(connection, source)
                return
            connection.source = source
            go_on(connection, bytes(hold.kept))
            hold.go_on()

        self._number += 1
        self._asked[self._number] = answered
        self._tell("enter", asked=self._number, source=source)

    def answer(self, asked: int, admitted: bool) -> None:
        """Be told whether a source may have one connection more."""
        self._asked.pop(asked)(admitted)


class _Hold:
    """Stands in front of a connection that may not begin yet.

    :ivar kept: what has come of it meanwhile, which is no more than one read: reading
        stops.
    """

    def __init__(self, connection: Any, payload: bytes) -> None:
        self._connection = connection
        self.kept = bytearray(payload)
        self._said_all = False
        self._over = False
        # Somebody else may stand there already.
        self._behind = vars(connection).get("dataReceived")
        vars(connection).update(
            dataReceived=self._received,
            readConnectionLost=self._ended,
            connectionLost=self._lost,
        )
        connection.transport.pauseProducing()

    def release(self) -> bool:
        """Step aside; return whether the connection can still begin."""
        if self._over:
            return False
        connection = self._connection
        del connection.readConnectionLost, connection.connectionLost
        if vars(connection).get("dataReceived") != self._received:
            # It is finishing (see Echo.finish): what comes now is dropped.
            connection.bytes_discarded += len(self.kept)
            self._over = True
            return False
        if self._behind is None:
            del connection.dataReceived
        else:
            connection.dataReceived = self._behind
        if not self._said_all:
            connection.transport.resumeProducing()
        return True

    def go_on(self) -> None:
        """Pass on the end of input, if it came meanwhile."""
        if self._said_all:
            self._connection.readConnectionLost()

    def _received(self, data: bytes) -> None:
        self.kept += data

    def _ended(self) -> None:
        self._said_all = True

    def _lost(self, reason: Failure) -> None:
        self.release()
        self._over = True
        self._connection.connectionLost(reason)
