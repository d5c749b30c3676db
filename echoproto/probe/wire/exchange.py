"""One conversation in progress on one socket, as a state machine that never blocks.

Connecting is done by :class:`Opening`, writing by :class:`Outbound`, reading and comparing by
:class:`Inbound`. What is here takes the steps in order, keeps the timers, and reaches the
verdict.
"""

from __future__ import annotations

import select

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Hold,
    Pause,
    Reset,
    Send,
    SlowRead,
)
from echoproto.probe.wire.capture import Capture
from echoproto.probe.wire.channel import Channel
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.inbound import Inbound
from echoproto.probe.wire.judge import Judge
from echoproto.probe.wire.limits import SLOWEST_LINK, Limits
from echoproto.probe.wire.opening import Opening
from echoproto.probe.wire.outbound import Outbound
from echoproto.probe.wire.stage import Stage
from echoproto.probe.wire.timeline import Timeline
from echoproto.probe.wire.verdict import Action, Fault, Verdict
from echoproto.probe.wire.waiting import Waiting

__all__ = ["Exchange"]


class Exchange:
    """One conversation, from connect to its verdict.

    The owner calls :meth:`start`, then, in a loop, waits for :meth:`mask` on :attr:`fd` or
    until :meth:`wake`, calls :meth:`on_ready` for what is ready and :meth:`advance` in any case.
    Times are those of ``time.monotonic``, in seconds.

    Args:
        conversation: the steps to take.
        connector: where to connect.
        limits: how long to wait.
        began: when the session began.
        alone: whether it may close without waiting for other conversations.

    Attributes:
        stream: all bytes that it sends.
        timeline: what happened when.
        round_trips: for each wait that was met, the bytes it covered and the seconds it took.
        waiting: how long it has waited.
        verdict: None until it is done.
        tail: what came in from the first difference on; it may be another conversation's.
    """

    def __init__(
        self,
        conversation: Conversation,
        connector: Connector,
        limits: Limits,
        began: float,
        alone: bool,
    ) -> None:
        self.stream = conversation.payload
        self.timeline = Timeline(began)
        self.round_trips: list[tuple[int, float]] = []
        self.waiting = Waiting(limits, began)
        self.verdict: Verdict | None = None
        self.tail = b""
        self._steps = conversation.steps
        self._limits = limits
        self._began = began
        self._alone = alone
        self._opening = Opening(connector, limits.connect)
        self._channel: Channel
        self._outbound = Outbound(self.stream, self.timeline, conversation.urgent)
        self.capture = Capture(limits.capture)
        self._inbound = Inbound(self.stream, self.timeline, self.capture)
        self._judge = Judge(self.stream, self._outbound, self._inbound, self.waiting)
        self._stage = Stage.OPENING
        self._index = 0  # of the current step
        self._pause_until = 0.0
        self._burst: float | None = None  # when the first byte not yet awaited was sent
        self._awaited = 0
        self._own_seconds = conversation.own_seconds + len(self.stream) / SLOWEST_LINK

    @property
    def fd(self) -> int:
        """The descriptor to poll."""
        return self._opening.fd

    @property
    def connection(self) -> int:
        """The number of its connection, of all to this target."""
        return self._opening.number

    @property
    def done(self) -> bool:
        """Whether there is a verdict."""
        return self._stage is Stage.DONE

    @property
    def under_way(self) -> bool:
        """Whether it has connected and sent what it could without waiting, or is done."""
        return self._stage >= Stage.STEPS

    def is_late(self, now: float) -> bool:
        """Return whether nothing has moved for longer than ``Limits.late``."""
        if self._stage in (Stage.TOGETHER, Stage.GRACE, Stage.DONE) or self._pause_until:
            return False
        return now >= self._inbound.next_read and self.waiting.is_late(now)

    @property
    def at_end(self) -> bool:
        """Whether all bytes are back and it only waits for the other conversations."""
        return self._stage is Stage.TOGETHER

    def mask(self) -> int:
        """Return the poll events to wait for; 0 for none."""
        if self._stage is Stage.OPENING:
            return self._opening.mask()
        mask = 0
        if not self._inbound.eof and self._inbound.next_read <= self.waiting.last:
            mask = select.POLLIN
        if (self._outbound.blocked and not self._outbound.error) or self._channel.wants_write:
            mask |= select.POLLOUT
        return mask

    def wake(self) -> float:
        """Return when to call :meth:`advance` if there is no event before."""
        if self._stage is Stage.OPENING:
            return self._opening.wake()
        waiting = self.waiting
        if self._stage is Stage.TOGETHER:
            wake = waiting.deadline
        else:
            wake = min(self._pause_until or waiting.wake(), waiting.deadline)
        next_read = self._inbound.next_read
        return min(wake, next_read) if next_read > waiting.last else wake

    def start(self, now: float) -> None:
        """Begin to connect.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory; so do
                :meth:`on_ready` and :meth:`advance`.
        """
        self.waiting.moved(now)
        self._opening.start(now, any(isinstance(s, SlowRead | Hold) for s in self._steps))
        self._check_opening(now)

    def on_ready(self, events: int, now: float) -> None:
        """Handle ``events`` of the socket."""
        if self._stage is Stage.OPENING:
            self._opening.on_ready()
            self._check_opening(now)
        elif not self.done:
            self._outbound.unblock()
            if events & ~select.POLLOUT and not self._inbound.eof:
                self._read(now)

    def advance(self, now: float) -> None:
        """Do what can be done now: take steps, end timers, give up."""
        if self._stage is Stage.OPENING:
            self._opening.advance(now)
            self._check_opening(now)
            return
        if self._inbound.paced and not self._inbound.eof:
            self.waiting.moved(min(now, self._inbound.next_read))
            if now >= self._inbound.next_read:
                self._read(now)
        while not self.done and self._step(now):
            pass
        if not self.done:
            self._give_up(now)

    def close_together(self, now: float) -> None:
        """Close, now that all conversations of the session are at their end."""
        self.waiting.moved(now)
        self._end(now)
        self.advance(now)

    def give_up(self, now: float) -> None:
        """Reach the verdict now: what is missing does not come."""
        if self._stage is Stage.OPENING:
            message = f"no connection in {now - self._began:.3g} s"
            self._finish(self._judge.refused(message), now)
        elif not self.done:
            self._timed_out(now)

    def drop(self) -> None:
        """Release the socket, whatever the state."""
        self._stage = Stage.DONE
        self._opening.drop()

    def _check_opening(self, now: float) -> None:
        if self._opening.aborted:
            self._reset(now, self._opening.error)
        elif self._opening.error:
            self._finish(self._judge.refused(self._opening.error), now)
        elif self._opening.channel is not None:
            self._channel = self._opening.channel
            self.timeline.add(Action.CONNECTED, now)
            self._stage = Stage.STEPS
            self.waiting.begin(now, self._own_seconds)
            self.advance(now)

    # Steps. Each method returns whether to continue at once.

    def _step(self, now: float) -> bool:
        if self._outbound.error:
            return False
        if self._channel.wants_write:
            self._outbound.flush(self._channel)
            if self._outbound.error:
                return self._cannot_send(now)
        if self._stage is Stage.STEPS:
            if self._outbound.sent < self._outbound.due:
                return self._write(now)
            if self._pause_until:
                return self._pause(now)
            if self._index == len(self._steps):
                return self._last_step(now)
            return self._next_step(now)
        if self._stage is Stage.WHOLE and self._is_whole(now):
            if self._alone:
                return self._end(now)
            self._stage = Stage.TOGETHER
        closed = self._stage is Stage.CLOSING and self._inbound.eof and self._is_whole(now)
        if closed or (self._stage is Stage.GRACE and now >= self._pause_until):
            self._finish(self._judge.passed("all bytes came back"), now)
        return False

    def _next_step(self, now: float) -> bool:
        step = self._steps[self._index]
        match step:
            case Send():
                if self._burst is None:
                    self._burst = now
                self._outbound.add(len(step.payload))
                return self._write(now)
            case Await():
                if not self._is_whole(now):
                    return False
                if self._burst is not None:
                    sent = self._outbound.sent
                    self.round_trips.append((sent - self._awaited, now - self._burst))
                    self._burst, self._awaited = None, sent
                self.timeline.add(Action.AWAITED, now, self._index)
            case Pause():
                self.timeline.add(Action.PAUSED, now, self._index)
                self._pause_until = now + step.ms / 1000
                return True
            case SlowRead():
                self.timeline.add(Action.SLOWED, now, self._index)
                self._inbound.slow_down(step.rate, now)
            case Hold():
                self.timeline.add(Action.HELD, now, self._index)
                self._inbound.hold(now + step.ms / 1000)
            case HalfClose():
                if self._channel.half_closes and not self._send_fin(now):
                    return False
            case Reset():
                self._read(now)
                if not self.done:
                    self.timeline.add(Action.SENT_RESET, now, self._index)
                    message = "all bytes received before the reset are right"
                    self._finish(self._judge.passed(message), now)
                return False
        self._index += 1
        return True

    def _pause(self, now: float) -> bool:
        if now < self._pause_until:
            return False
        self._pause_until = 0.0
        self.waiting.moved(now)
        self._index += 1
        return True

    def _last_step(self, now: float) -> bool:
        if not self._outbound.fin:
            self.waiting.moved(now)
        if self._outbound.fin:
            self._stage = Stage.CLOSING
        elif self._alone and self._limits.half_close:
            return self._end(now)
        else:
            self._stage = Stage.WHOLE
        return True

    def _end(self, now: float) -> bool:
        if self._limits.half_close:
            self._stage = Stage.CLOSING
            return self._send_fin(now)
        self._stage = Stage.GRACE
        self._pause_until = now + self._limits.grace
        return True

    def _write(self, now: float) -> bool:
        written = self._outbound.write(self._channel, now, self._index)
        if self._outbound.error:
            return self._cannot_send(now)
        if written:
            self.waiting.moved(now)
            if self._outbound.sent == self._outbound.due:
                self._index += 1
            if self._channel.pending:
                self._read(now)
        return written

    def _send_fin(self, now: float) -> bool:
        step = self._index if self._index < len(self._steps) else None
        self.waiting.moved(now)
        self._outbound.send_fin(self._channel, now, step)
        return self._cannot_send(now) if self._outbound.error else True

    def _cannot_send(self, now: float) -> bool:
        # What was received before the other side's RST can still be read and judged: the
        # verdict waits for it.
        self.waiting.moved(now)
        if self._inbound.eof:
            self._reset(now, self._outbound.error)
        else:
            self._read(now)
        return False

    def _is_whole(self, now: float) -> bool:
        if self._inbound.received == self._outbound.sent:
            return True
        if self._inbound.eof:
            self._finish(self._judge.truncated(), now)
        return False

    def _read(self, now: float) -> bool:
        inbound, before = self._inbound, self._inbound.received
        inbound.read(self._channel, now, self._outbound.sent)
        moved = inbound.received > before or inbound.eof
        if moved:
            action = Action.GOT_EOF if inbound.eof else Action.RECEIVED
            self.waiting.answered(now, action, self._stage is not Stage.TOGETHER)
        if inbound.difference is not None:
            self.tail = inbound.difference.tail
            self._finish(self._judge.different(), now)
        elif inbound.error:
            self._reset(now, inbound.error)
        elif inbound.eof:
            if self._outbound.error:
                self._reset(now, self._outbound.error)
            elif inbound.received < self._outbound.sent or self._outbound.sent < self._outbound.due:
                self._finish(self._judge.truncated(), now)
        return moved

    # Verdicts.

    def _reset(self, now: float, why: str) -> None:
        self.timeline.add(Action.GOT_RESET, now)
        self._finish(self._judge.reset(why), now)

    def _give_up(self, now: float) -> None:
        if now < self.waiting.deadline and (
            self._stage in (Stage.TOGETHER, Stage.GRACE)
            or self._pause_until
            or not self.waiting.is_over(now)
        ):
            return
        # This process itself may have been the one that waited: look once more.
        moved = not self._inbound.eof and self._read(now)
        if self.done or (now < self.waiting.deadline and moved):
            while not self.done and self._step(now):
                pass
        elif self._outbound.error:
            self._reset(now, self._outbound.error)
        else:
            self._timed_out(now)

    def _timed_out(self, now: float) -> None:
        self.timeline.add(Action.TIMED_OUT, now)
        waited = self.waiting.in_words(now)
        self._finish(self._judge.timed_out(waited, self._stage is Stage.CLOSING), now)

    def _finish(self, verdict: Verdict, now: float) -> None:
        self.verdict = verdict
        self.timeline.add(Action.CLOSED, now, last=True)
        opening, self._stage = self._stage is Stage.OPENING, Stage.DONE
        if opening:
            self._opening.close()
        elif verdict.kind in (Fault.STALLED, Fault.NEVER_CLOSED) or (
            verdict.ok and self._steps and isinstance(self._steps[-1], Reset)
        ):
            self._channel.abort()
        else:
            # No RST here: where a reset harms the next conversation, each failure would cause
            # the next one, and a harmless session would seem to fail.
            self._channel.close()
