"""A session that is taken step by step: between two steps its connection stays open."""

from __future__ import annotations

import dataclasses
import math
import select
import time

from echoproto.probe.script.conversation import Conversation, Send, Session, Step, Urgent
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.exchange import Exchange
from echoproto.probe.wire.judge import Judge
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.verdict import Outcome

__all__ = ["OpenSession"]


class OpenSession:
    """Conversations in turn, whose steps are given one by one.

    Args:
        connector: where to connect.
        limits: how long to wait. There is no limit for a whole conversation: it lasts as long as
            steps come.
    """

    def __init__(self, connector: Connector, limits: Limits) -> None:
        self._connector = connector
        self._limits = dataclasses.replace(limits, total=math.inf)
        self._began = time.monotonic()
        self._exchanges: list[_OpenExchange] = []

    def connect(self) -> Outcome | None:
        """Begin a conversation.

        Returns:
            None, or the outcome of the session so far if there is a fault.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory.
        """
        exchange = _OpenExchange(self._connector, self._limits, self._began)
        self._exchanges.append(exchange)
        exchange.start(time.monotonic())
        return self._proceed(exchange)

    def take(self, step: Step) -> Outcome | None:
        """Take a step of the conversation; nothing, if it is done.

        Args:
            step: to take, in a conversation in which it can follow.

        Returns:
            as :meth:`connect`.

        Raises:
            LocalError: as :meth:`connect`.
            TargetError: if the step cannot be taken with the target.
        """
        exchange = self._exchanges[-1]
        if exchange.done:
            return None
        exchange.add(step, self._connector)
        return self._proceed(exchange)

    def close(self) -> Outcome | None:
        """End the conversation as its last step would; nothing, if it is done.

        Returns:
            as :meth:`connect`.

        Raises:
            LocalError: as :meth:`connect`.
        """
        exchange = self._exchanges[-1]
        if exchange.done:
            return None
        exchange.end(time.monotonic())
        return self._proceed(exchange)

    def drop(self) -> None:
        """Release the socket, whatever the state."""
        for exchange in self._exchanges:
            exchange.drop()

    def _proceed(self, exchange: _OpenExchange) -> Outcome | None:
        """Wait until there is nothing left to do; return the outcome if there is a fault."""
        while not (exchange.done or exchange.idle):
            poll = select.poll()
            if mask := exchange.mask():
                poll.register(exchange.fd, mask)
            wait = max(0.0, exchange.wake() - time.monotonic())
            ready = poll.poll(int(wait * 1000) + 1)
            now = time.monotonic()
            for _, events in ready:
                exchange.on_ready(events, now)
            if not exchange.done:
                exchange.advance(now)
        if exchange.verdict is None or exchange.verdict.ok:
            return None
        return self._outcome()

    def _outcome(self) -> Outcome:
        exchanges = self._exchanges
        return Outcome(
            session=Session(tuple(e.conversation for e in exchanges), sequential=True),
            verdicts=tuple(e.verdict for e in exchanges if e.verdict is not None),
            timelines=tuple(e.timeline.events() for e in exchanges),
            seconds=time.monotonic() - self._began,
        )


class _OpenExchange(Exchange):
    """An exchange whose steps are not all known when it begins.

    Where the others end, after the last step so far, it is idle: nothing is read, and no time
    counts.
    """

    def __init__(self, connector: Connector, limits: Limits, began: float) -> None:
        super().__init__(Conversation(), connector, limits, began, alone=True)
        self._ending = False

    @property
    def conversation(self) -> Conversation:
        """The steps so far."""
        return Conversation(self._steps)

    @property
    def idle(self) -> bool:
        """Whether all steps so far are taken."""
        taken = self.under_way and self._index == len(self._steps)
        return taken and not self._ending and not self._channel.wants_write

    def add(self, step: Step, connector: Connector) -> None:
        """Take a step next.

        Raises:
            TargetError: if the target cannot be sent it.
        """
        steps = Conversation((*self._steps, step))
        connector.check(Session.of(steps))
        if isinstance(step, Send):
            self._outbound.extend(step.payload, isinstance(step, Urgent))
            self._inbound.extend(step.payload)
            self.stream += step.payload
            self._judge = Judge(self.stream, self._outbound, self._inbound, self.waiting)
        self._steps = steps.steps
        now = time.monotonic()
        self.waiting.moved(now)
        self.advance(now)

    def end(self, now: float) -> None:
        """Begin to close."""
        self._ending = True
        self.waiting.moved(now)
        self.advance(now)

    def _last_step(self, now: float) -> bool:
        return super()._last_step(now) if self._ending else False
