"""One conversation under way on one socket, as a state machine that never blocks."""

from __future__ import annotations

import enum
import errno
import select
import socket
import ssl
from dataclasses import dataclass

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Pause,
    Reset,
    Send,
    SlowRead,
)
from echoproto.probe.wire.channel import Channel, Connector, LocalError, reason
from echoproto.probe.wire.verdict import Action, Fault, Verdict

__all__ = ["Exchange", "Limits"]

PREVIEW = 64
MAX_EVENTS = 400

# What a report shows before and after the first difference, in bytes.
_BEFORE, _AFTER = 8, 24

_READ = 65536
_READS_A_TURN = 16
_SLOW_TICK = 0.005
_UNIX_RETRY = 0.002
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class Limits:
    """How long to wait for what.

    Attributes:
        stall: seconds without a byte moving after which a wait has failed.
        half_close: whether the end is judged by EOF.
        connect: seconds for connecting, and for the TLS handshake.
        total: seconds for a whole conversation, beside its own pauses and slow reading.
        grace: seconds to watch for extra bytes once all are back, where EOF does not tell.
    """

    stall: float
    half_close: bool
    connect: float = 5.0
    total: float = 60.0
    grace: float = 0.002


class _State(enum.IntEnum):
    NEW = 0
    CONNECTING = 1
    HANDSHAKE = 2
    STEPS = 3
    WHOLE = 4  # steps done, bytes still missing
    TOGETHER = 5  # all back, waiting for the other conversations of the session
    CLOSING = 6  # own side closed, waiting for EOF
    GRACE = 7
    DONE = 8


class Exchange:
    """One conversation, from connect to its verdict.

    The owner calls :meth:`start`, then, in a loop, waits for :meth:`mask` on :attr:`fd` or for
    :meth:`wake`, calls :meth:`on_ready` for what is ready and :meth:`advance` in any case.
    Times are those of ``time.monotonic``, in seconds.

    Args:
        conversation: what to say.
        connector: where to.
        limits: how long to wait.
        began: when the session began, for the time line.
        alone: whether it need not wait for other conversations before it closes.
    """

    def __init__(
        self,
        conversation: Conversation,
        connector: Connector,
        limits: Limits,
        began: float,
        alone: bool,
    ) -> None:
        self.steps = conversation.steps
        self.stream = conversation.payload
        self.fd = -1
        self.verdict: Verdict | None = None
        self.tail = b""  # what came in from the first difference on, for cross-talk
        self.events: list[tuple[float, Action, int | None, int, int, bytes]] = []
        self.round_trips: list[tuple[int, float]] = []
        self.sent = 0
        self.received = 0
        self._view = memoryview(self.stream)
        self._connector = connector
        self._limits = limits
        self._began = began
        self._alone = alone
        self._sock: socket.socket | None = None
        self._channel: Channel | None = None
        self._state = _State.NEW
        self._index = 0
        self._write_end = 0
        self._blocked = False
        self._pause_until = 0.0
        self._last = began  # when something moved
        self._deadline = began
        self._burst: float | None = None  # when the first byte not yet awaited was sent
        self._awaited = 0
        self._eof = False
        self._fin = False
        self._broken = ""  # why sending failed
        self._rate = 0
        self._slow_since = 0.0
        self._slow_got = 0
        self._next_read = 0.0

    # What the owner asks.

    @property
    def done(self) -> bool:
        """Whether there is a verdict."""
        return self._state is _State.DONE

    @property
    def under_way(self) -> bool:
        """Whether it has connected and said what it could without waiting (or is done)."""
        return self._state >= _State.STEPS

    @property
    def at_end(self) -> bool:
        """Whether all is back and it only waits for the other conversations."""
        return self._state is _State.TOGETHER

    def mask(self) -> int:
        """The poll events to wait for; 0 for none."""
        if self._state is _State.CONNECTING:
            return 0 if self._pause_until else select.POLLOUT
        mask = 0
        if not self._eof and self._next_read <= self._last:
            mask = select.POLLIN
        assert self._channel is not None
        if (self._blocked and not self._broken) or self._channel.wants_write:
            mask |= select.POLLOUT
        return mask

    def wake(self) -> float:
        """When to call :meth:`advance` if nothing happens before."""
        if self._state <= _State.HANDSHAKE:
            return self._pause_until or self._deadline
        if self._state is _State.TOGETHER:
            wake = self._deadline
        elif self._pause_until:
            wake = self._pause_until
        else:
            wake = self._last + self._limits.stall
        if self._next_read > self._last:
            wake = min(wake, self._next_read)
        return min(wake, self._deadline)

    # What the owner tells.

    def start(self, now: float) -> None:
        """Begin to connect."""
        slow = any(isinstance(step, SlowRead) for step in self.steps)
        self._sock = self._connector.new_socket(slow)
        self.fd = self._sock.fileno()
        self._state = _State.CONNECTING
        self._deadline = now + self._limits.connect
        self._connect(now)

    def _connect(self, now: float) -> None:
        assert self._sock is not None
        error = self._connector.connect(self._sock)
        self._pause_until = 0.0
        if error == 0:
            self._connected(now)
        elif error == errno.EAGAIN:  # a UNIX socket's accept queue is full: no event tells
            self._pause_until = now + _UNIX_RETRY
        elif error != errno.EINPROGRESS:
            self._refused(OSError(error, ""), now)

    def _refused(self, error: OSError, now: float) -> None:
        if error.errno in _LOCAL:
            raise LocalError(f"out of resources: {reason(error)}")
        self._finish(Fault.REFUSED, f"no connection: {reason(error, self._limits.connect)}", now)

    def _connected(self, now: float) -> None:
        assert self._sock is not None
        try:
            self._channel = self._connector.channel(self._sock)
        except OSError as error:
            self._refused(error, now)
            return
        self._state = _State.HANDSHAKE
        self._handshake(now)

    def _handshake(self, now: float) -> None:
        assert self._channel is not None
        try:
            if not self._channel.handshake():
                return
        except ssl.SSLError as error:
            self._finish(Fault.REFUSED, f"no TLS: {tls_reason(error)}", now)
            return
        except OSError as error:
            self._finish(Fault.REFUSED, f"no TLS: {reason(error)}", now)
            return
        self._log(Action.CONNECTED, now)
        self._state = _State.STEPS
        self._last = now
        own = sum(step.ms / 1000 for step in self.steps if isinstance(step, Pause))
        own += sum(len(self.stream) / s.rate for s in self.steps if isinstance(s, SlowRead))
        self._deadline = now + self._limits.total + own
        self.advance(now)

    def on_ready(self, events: int, now: float) -> None:
        """The socket is ready for ``events``."""
        if self._state is _State.CONNECTING:
            assert self._sock is not None
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._refused(OSError(error, ""), now)
            else:
                self._connected(now)
        elif self._state > _State.HANDSHAKE and not self.done:
            self._blocked = False
            if events & ~select.POLLOUT and not self._eof:
                self._read(now)

    def advance(self, now: float) -> None:
        """Do what can be done now: steps, timers, and giving up."""
        if self._state <= _State.HANDSHAKE:
            if now >= self._deadline:
                self._refused(OSError(errno.ETIMEDOUT, ""), now)
            elif self._state is _State.HANDSHAKE:
                self._handshake(now)
            elif self._pause_until and now >= self._pause_until:
                self._connect(now)
            return
        if self._rate and not self._eof:
            if now >= self._next_read:
                self._read(now)
            else:
                self._last = max(self._last, min(now, self._next_read))
        while not self.done and self._step(now):
            pass
        if not self.done:
            self._give_up(now)

    def close_together(self, now: float) -> None:
        """All conversations of the session are at their end: close."""
        self._last = now
        self._end(now)
        self.advance(now)

    def drop(self) -> None:
        """Let go of the socket, whatever the state."""
        self._state = _State.DONE
        if self._sock is not None:
            self._sock.close()

    # Steps. Each returns whether to go on at once.

    def _step(self, now: float) -> bool:
        if self._broken:
            return False
        if self._channel is not None and self._channel.wants_write:
            try:
                self._channel.flush()
            except OSError as error:
                return self._cannot_send(error, now)
        if self._state is _State.STEPS:
            if self.sent < self._write_end:
                return self._write(now)
            if self._pause_until:
                if now < self._pause_until:
                    return False
                self._pause_until = 0.0
                self._last = max(self._last, now)
                self._index += 1
                return True
            if self._index == len(self.steps):
                return self._last_step(now)
            return self._next_step(now)
        if self._state is _State.WHOLE and self._is_whole(now):
            if self._alone:
                return self._end(now)
            self._state = _State.TOGETHER
            return False
        if self._state is _State.CLOSING and self._eof:
            if self._is_whole(now):
                self._finish(Fault.NONE, "all bytes came back", now)
        elif self._state is _State.GRACE and now >= self._pause_until:
            self._finish(Fault.NONE, "all bytes came back", now)
        return False

    def _next_step(self, now: float) -> bool:
        step = self.steps[self._index]
        match step:
            case Send():
                if self._burst is None:
                    self._burst = now
                self._write_end = self.sent + len(step.payload)
                return self._write(now)
            case Await():
                if not self._is_whole(now):
                    return False
                if self._burst is not None:
                    self.round_trips.append((self.sent - self._awaited, now - self._burst))
                    self._burst, self._awaited = None, self.sent
                self._log(Action.AWAITED, now, self._index)
            case Pause():
                self._log(Action.PAUSED, now, self._index)
                self._pause_until = now + step.ms / 1000
                return True
            case SlowRead():
                self._log(Action.SLOWED, now, self._index)
                self._rate, self._slow_since, self._slow_got = step.rate, now, 0
                self._next_read = now + max(1 / step.rate, _SLOW_TICK)
            case HalfClose():
                if not self._send_fin(now):
                    return False
            case Reset():
                self._read(now)
                if not self.done:
                    self._log(Action.SENT_RESET, now, self._index)
                    self._finish(Fault.NONE, "what came back before the reset is right", now)
                return False
        self._index += 1
        return True

    def _last_step(self, now: float) -> bool:
        self._last = max(self._last, now) if not self._fin else self._last
        if self._fin:
            self._state = _State.CLOSING
        elif self._alone and self._limits.half_close:
            return self._end(now)
        else:
            self._state = _State.WHOLE
        return True

    def _end(self, now: float) -> bool:
        if self._limits.half_close:
            self._state = _State.CLOSING
            return self._send_fin(now)
        self._state = _State.GRACE
        self._pause_until = now + self._limits.grace
        return True

    def _write(self, now: float) -> bool:
        assert self._channel is not None
        try:
            count = self._channel.send(self._view[self.sent : self._write_end])
        except _NOT_NOW:
            self._blocked = True
            return False
        except OSError as error:
            return self._cannot_send(error, now)
        start = self.sent
        self.sent += count
        self._last = now
        self._log(
            Action.SENT,
            now,
            self._index,
            start,
            count,
            self.stream[start : start + min(count, PREVIEW)],
        )
        if self.sent == self._write_end:
            self._index += 1
        return True

    def _send_fin(self, now: float) -> bool:
        assert self._channel is not None
        self._fin = True
        step = self._index if self._index < len(self.steps) else None
        self._log(Action.SENT_FIN, now, step)
        self._last = now
        try:
            self._channel.shutdown_write()
        except OSError as error:
            return self._cannot_send(error, now)
        return True

    def _cannot_send(self, error: OSError, now: float) -> bool:
        # What was received before the other side's RST is still there to be read and judged:
        # the verdict waits for it.
        self._broken = tls_reason(error) if isinstance(error, ssl.SSLError) else reason(error)
        self._last = now
        if self._eof:
            self._reset(now, self._broken)
        else:
            self._read(now)
        return False

    def _is_whole(self, now: float) -> bool:
        if self.received == self.sent:
            return True
        if self._eof:
            self._truncated(now)
        return False

    # What comes in.

    def _read(self, now: float) -> None:
        assert self._channel is not None
        for _ in range(_READS_A_TURN):
            size = _READ
            if self._rate:
                size = int((now - self._slow_since) * self._rate) - self._slow_got
                if size < 1:
                    self._next_read = now + max(1 / self._rate, _SLOW_TICK)
                    return
                size = min(size, _READ)
            try:
                data = self._channel.recv(size)
            except _NOT_NOW:
                self._next_read = 0.0  # nothing is there: the poll tells when
                return
            except ssl.SSLError as error:
                self._reset(now, f"TLS: {tls_reason(error)}")
                return
            except OSError as error:
                self._reset(now, reason(error))
                return
            if not data:
                self._on_eof(now)
                return
            if not self._judge(data, now):
                return
            if self._rate:
                self._slow_got += len(data)
                tick = max(1, int(self._rate * _SLOW_TICK))
                self._next_read = self._slow_since + (self._slow_got + tick) / self._rate
            if len(data) < size and self._channel.whole_reads:
                return

    def _judge(self, data: bytes, now: float) -> bool:
        start = self.received
        end = start + len(data)
        self._log(Action.RECEIVED, now, None, start, len(data), data[:PREVIEW])
        if end <= self.sent and self._view[start:end] == data:
            self.received = end
            self._last = now
            return True
        same = _common_prefix(self.stream[start : min(end, self.sent)], data)
        self.received = end
        self.tail = data[same : same + PREVIEW]
        offset = start + same
        if offset >= self.sent:
            kind = Fault.EXTRA
            message = f"{end - offset} more bytes came back than the {self.sent} sent"
        else:
            kind = Fault.CORRUPT
            message = (
                f"byte {offset} came back as {data[same]:02x}, sent was {self.stream[offset]:02x}"
            )
        before = max(0, offset - _BEFORE)
        got = self.stream[before:offset] + data[same : same + _AFTER]
        self._finish(kind, message, now, offset, got)
        return False

    def _on_eof(self, now: float) -> None:
        self._eof = True
        self._log(Action.GOT_EOF, now)
        if self._broken:
            self._reset(now, self._broken)
        elif self.received < self.sent or self.sent < self._write_end:
            self._truncated(now)

    # Verdicts.

    def _truncated(self, now: float) -> None:
        missing = self.sent - self.received
        self._finish(
            Fault.TRUNCATED,
            f"the path closed after {self.received} of {self.sent} bytes, {missing} are missing",
            now,
            self.received,
        )

    def _reset(self, now: float, why: str) -> None:
        self._log(Action.GOT_RESET, now)
        if self.received < self.sent:
            state = f"after {self.received} of {self.sent} bytes"
        elif self._fin:
            state = "instead of an orderly close, all bytes were back"
        else:
            state = f"all {self.sent} bytes were back"
        offset = self.received if self.received < self.sent else None
        self._finish(Fault.RESET, f"the path aborted the connection {state}: {why}", now, offset)

    def _give_up(self, now: float) -> None:
        if now < self._deadline and (
            self._state in (_State.TOGETHER, _State.GRACE)
            or self._pause_until
            or now < self._last + self._limits.stall
        ):
            return
        # The wait may be this process's own, not the path's: look once more.
        before = self.received, self._eof
        if not self._eof:
            self._read(now)
        if self.done or (now < self._deadline and (self.received, self._eof) != before):
            while not self.done and self._step(now):
                pass
            return
        for_ = f"nothing moved for {now - self._last:.3g} s"
        if now >= self._deadline:
            for_ = f"not done {now - self._began:.3g} s after the start"
        if self._broken:
            self._reset(now, self._broken)
            return
        self._log(Action.TIMED_OUT, now)
        if self.received < self.sent:
            message = f"{for_}, {self.received} of {self.sent} bytes are back"
            self._finish(Fault.STALLED, message, now, self.received)
        elif self._state is _State.CLOSING:
            message = f"all {self.sent} bytes are back, but no EOF: {for_}"
            self._finish(Fault.NEVER_CLOSED, message, now)
        else:
            message = f"{for_}, {len(self.stream) - self.sent} bytes could not be sent"
            self._finish(Fault.STALLED, message, now, self.received)

    def _finish(
        self, kind: Fault, message: str, now: float, offset: int | None = None, got: bytes = b""
    ) -> None:
        before = max(0, (offset or 0) - _BEFORE)
        expected = b"" if offset is None else self.stream[before : min(offset + _AFTER, self.sent)]
        if offset is not None and not got:
            got = self.stream[before:offset]
        self.verdict = Verdict(
            kind, message, self.sent, self.received, offset, before, expected, got
        )
        self._log(Action.CLOSED, now, last=True)
        self._state = _State.DONE
        if self._channel is None:
            assert self._sock is not None
            self._sock.close()
        elif kind in (Fault.STALLED, Fault.NEVER_CLOSED) or (
            kind is Fault.NONE and self.steps and isinstance(self.steps[-1], Reset)
        ):
            self._channel.abort()
        else:
            # Not with RST: on a path where a reset harms the next conversation, each failure
            # would bring about the next one, and a session that does no harm seem to.
            self._channel.close()

    def _log(
        self,
        action: Action,
        now: float,
        step: int | None = None,
        offset: int = 0,
        size: int = 0,
        data: bytes = b"",
        last: bool = False,
    ) -> None:
        if len(self.events) < MAX_EVENTS or last:
            self.events.append((now - self._began, action, step, offset, size, data))


# An echo without TLS sends the hello back, which is an unexpected message.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")


def tls_reason(error: ssl.SSLError) -> str:
    """What went wrong in TLS, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "the other side closed in the middle of the handshake"
    if error.reason in _NO_TLS:
        return f"the other side does not speak TLS ({error.reason})"
    return (error.reason or str(error)).replace("_", " ").lower()


def _common_prefix(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
