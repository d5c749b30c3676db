"""Limits that hold for several workers together.

The parent has them (:class:`LimitCoordinator`). A worker asks before it accepts
(:class:`LeasedSlots`), and before it admits a client whose source it knows
(:class:`RemoteSourceLimit`). Without these limits nothing is asked.

A slot is leased, and returned as soon as the connection closes. None is kept in
stock: otherwise a client could wait at one worker while another holds a slot that
it does not need. What a worker that dies holds is returned too.

The messages (:mod:`echoproto.workers.channel`): ``want`` (that many slots), answered
once by ``lease`` as soon as there is one; ``return``; ``acquire`` (may this source
have one more?), answered by ``answer``; ``release``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from echoproto.base.address import source
from echoproto.core.connection import GATE, Connection, Gate
from echoproto.core.factory import Clock, GateMaker
from echoproto.limits.idle import IdleSweep
from echoproto.limits.limits import Limits
from echoproto.limits.per_source import PerSourceLimit
from echoproto.limits.rate import RateLimit
from echoproto.limits.slots import ConnectionSlots, LimitedPort
from echoproto.workers.channel import Channel

# Slots that are wanted for a queue of unknown length, as that of a UNIX socket; those
# that are too many are returned at once.
_UNKNOWN_LENGTH = 16


class LimitCoordinator:
    """Leases slots and counts sources for all workers; the parent's end."""

    def __init__(self, limits: Limits) -> None:
        """Begin with all slots free.

        :param limits: for all workers together.
        """
        self._max_connections = limits.max_connections
        self._sources = PerSourceLimit(limits.max_per_source)
        self._channels: dict[str, Channel] = {}
        self._leased: Counter[str] = Counter()
        # The workers that wait for slots, in order, and for how many.
        self._wanted: dict[str, int] = {}
        self._acquired: dict[str, Counter[str]] = {}

    def connect(self, worker: str, channel: Channel) -> None:
        """Answer a worker.

        :param worker: its name.
        :param channel: to it.
        """
        self._channels[worker] = channel

        def want(number: int) -> None:
            self._wanted[worker] = number
            self._lease()

        def give_back(number: int) -> None:
            self._leased[worker] -= number
            self._lease()

        def acquire(asked: int, source: str) -> None:
            acquired = self._sources.acquire(source)
            if acquired:
                self._acquired.setdefault(worker, Counter())[source] += 1
            channel.send("answer", asked=asked, acquired=acquired)

        def release(source: str) -> None:
            ours = self._acquired[worker]
            ours[source] -= 1
            if not ours[source]:
                del ours[source]
            self._sources.release(source)

        channel.on("want", want)
        channel.on("return", give_back)
        channel.on("acquire", acquire)
        channel.on("release", release)

    @property
    def entries(self) -> int:
        """How many entries the tables of sources have: no more than there are connections."""
        return len(self._sources) + sum(len(each) for each in self._acquired.values())

    def forget(self, worker: str) -> None:
        """Take back what a worker had that has ended."""
        self._channels.pop(worker, None)
        for name in self._acquired.pop(worker, Counter()).elements():
            self._sources.release(name)
        self._wanted.pop(worker, None)
        self._leased.pop(worker, None)
        self._lease()

    def _lease(self) -> None:
        while self._wanted and (free := self._max_connections - self._leased.total()) > 0:
            worker = next(iter(self._wanted))
            number = min(self._wanted.pop(worker), free)
            self._leased[worker] += number
            self._channels[worker].send("lease", number=number)


class LeasedSlots(ConnectionSlots):
    """Slots that the parent leases; a worker's end."""

    def __init__(self, limit: int, live: Callable[[], int], channel: Channel) -> None:
        """Begin with none.

        :param limit: connections at once, of all workers together.
        :param live: returns how many connections are open here.
        :param channel: to the parent.
        """
        super().__init__(limit, live)
        self._channel = channel
        self._leased = 0
        self._asked = False
        channel.on("lease", self.lease)

    @property
    def available(self) -> int:
        return self._leased - self._live()

    def wait(self, port: LimitedPort) -> None:
        super().wait(port)
        self._ask()

    def park(self, sock: Any, start: Callable[[], None]) -> None:
        super().park(sock, start)
        self._ask()

    def release(self) -> None:
        self._return_rest()

    def lease(self, number: int) -> None:
        """Take slots: accept, and return those that no client takes.

        :param number: how many.
        """
        self._asked = False
        self._leased += number
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
        waiting = sum(_UNKNOWN_LENGTH if queued is None else queued for queued in queues)
        self._channel.send("want", number=max(1, waiting + self.waiting))

    def _return_rest(self) -> None:
        rest = self.available
        if rest > 0:
            self._leased -= rest
            self._channel.send("return", number=rest)


class RemoteSourceLimit(PerSourceLimit):
    """Sources that the parent counts; a worker's end."""

    def __init__(self, limit: int, channel: Channel) -> None:
        """Begin without a question.

        :param limit: connections at once from one source, of all workers together.
        :param channel: to the parent.
        """
        super().__init__(limit)
        self._channel = channel
        self._number = 0
        self._asked: dict[int, Callable[[bool], None]] = {}
        channel.on("answer", self.answer)

    def release(self, source: str) -> None:
        self._channel.send("release", source=source)

    def gate(self, connection: Connection) -> Gate | None:
        name = source(connection.client)
        if name is None:
            return None
        self._number += 1
        gate = _AskingGate(self, name, connection)
        self._asked[self._number] = gate.answered
        self._channel.send("acquire", asked=self._number, source=name)
        return gate

    def answer(self, asked: int, acquired: bool) -> None:
        """Handle the parent's answer to a question.

        :param asked: the number of the question.
        :param acquired: whether the source may have one more connection.
        """
        self._asked.pop(asked)(acquired)


class _AskingGate:
    """Stands before a connection, unread, until the parent has answered."""

    def __init__(self, limit: RemoteSourceLimit, source: str, connection: Connection) -> None:
        self._limit = limit
        self._source = source
        self._connection = connection
        self._closed = False
        connection.pause_reading(GATE)

    def answered(self, acquired: bool) -> None:
        if self._closed:
            if acquired:
                self._limit.release(self._source)
            return
        self._connection.resume_reading(GATE)
        self._limit.settle(self._source, self._connection, acquired)
        if acquired:
            self._connection.admit()

    def received(self) -> None:
        """Do nothing: the bytes are kept, no more than one read of them."""

    def input_ended(self) -> None:
        """Do nothing: the connection hands it on when it is admitted."""

    def close(self) -> None:
        self._closed = True


class WorkerLimits:
    """Makes what bounds the connections of a worker's factory."""

    def __init__(self, limits: Limits, channel: Channel) -> None:
        """Describe them.

        :param limits: for all workers together, as far as they bound a number.
        :param channel: to the parent.
        """
        self._limits = limits
        self._channel = channel

    def make_slots(self, live: Callable[[], int]) -> LeasedSlots | None:
        """Return slots that the parent leases; ``None`` without a limit."""
        limit = self._limits.max_connections
        return LeasedSlots(limit, live, self._channel) if limit else None

    def make_source_gate(self) -> GateMaker | None:
        """Return what asks the parent for each source; ``None`` without a limit."""
        limit = self._limits.max_per_source
        return RemoteSourceLimit(limit, self._channel).gate if limit else None

    def make_pacers(self, clock: Clock) -> Callable[[Connection], RateLimit] | None:
        """Return what limits the rate of each connection, which concerns no other worker."""
        return self._limits.make_pacers(clock)

    def make_sweep(
        self, live: Callable[[], Collection[Connection]], clock: Clock
    ) -> IdleSweep | None:
        """Return what closes idle connections, which concerns no other worker."""
        return self._limits.make_sweep(live, clock)
