"""Round trips over one connection, in the manner of ping(8), with every byte compared."""

from __future__ import annotations

import contextlib
import math
import select
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from echoproto.probe.script.vocabulary import fill
from echoproto.probe.script.words import plural
from echoproto.probe.wire.channel import NOT_NOW, Channel
from echoproto.probe.wire.comparison import first_difference
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.opening import open_now
from echoproto.probe.wire.reasons import reason, tls_reason
from echoproto.probe.wire.statistics import mean, percentile
from echoproto.probe.wire.verdict import Fault

__all__ = ["TIMEOUT", "Reply", "Statistics", "pings"]

_COUNTING = bytes(range(251))
TIMEOUT = 10.0
"""Seconds without a byte after which a ping is lost, as of ping(8) before the first answer."""
# Opening a connection takes more round trips than a ping: it is given at least so many seconds.
_MIN_OPEN = 5.0


@dataclass(frozen=True)
class Reply:
    """The result of one ping.

    Attributes:
        number: from 1.
        kind: ``Fault.NONE``, or why it counts as lost. None if it was still unanswered at the
            deadline, and so is not lost.
        seconds: from sending to the last byte; for the others, until it was given up.
        message: why, in words; empty for ``Fault.NONE``.
    """

    number: int
    kind: Fault | None
    seconds: float
    message: str = ""


@dataclass
class Statistics:
    """The summary of all replies so far.

    Attributes:
        sent: how many, whatever became of them.
        unanswered: how many were still unanswered at the deadline.
        seconds: the round trips of those answered.
    """

    sent: int = 0
    unanswered: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        """Count one reply."""
        self.sent += 1
        self.unanswered += reply.kind is None
        if reply.kind is Fault.NONE:
            self.seconds.append(reply.seconds)

    @property
    def lost(self) -> int:
        """How many did not come back complete and right."""
        return self.sent - self.received - self.unanswered

    @property
    def received(self) -> int:
        """How many came back complete and right."""
        return len(self.seconds)

    def milliseconds(self) -> dict[str, float]:
        """Return min, avg, p50, p99, max and mdev of the round trips; empty if there are none.

        mdev is the standard deviation, as ping(8) computes it.
        """
        if not self.seconds:
            return {}
        ordered = sorted(1000 * seconds for seconds in self.seconds)
        average = mean(ordered)
        variance = mean([value * value for value in ordered]) - average * average
        return {
            "min": ordered[0],
            "avg": average,
            "p50": percentile(ordered, 50),
            "p99": percentile(ordered, 99),
            "max": ordered[-1],
            "mdev": math.sqrt(max(0.0, variance)),
        }


def pings(
    connector: Connector,
    count: int | None = None,
    interval: float = 1.0,
    size: int = 56,
    timeout: float = TIMEOUT,
    deadline: float | None = None,
) -> Iterator[Reply]:
    """Send and await, again and again.

    All go over one connection; after a loss, the next one opens a new connection.

    Args:
        connector: where to connect.
        count: how many to send; with a deadline, how many answers to wait for, as ping(8). None
            for no limit.
        interval: seconds from the start of one to the start of the next.
        size: bytes in each.
        timeout: seconds without a byte after which one is lost.
        deadline: seconds after which to stop.
    """
    connection = _Connection(connector, timeout)
    until = math.inf if deadline is None else time.monotonic() + deadline
    number = counted = 0
    try:
        while (count is None or counted < count) and time.monotonic() < until:
            began = time.monotonic()
            number += 1
            reply = connection.ping(number, size, until)
            yield reply
            counted += deadline is None or reply.kind is Fault.NONE
            wait = min(began + interval, until) - time.monotonic()
            if wait > 0 and (count is None or counted < count):
                time.sleep(wait)
    finally:
        connection.close()


class _LostError(Exception):
    def __init__(self, kind: Fault, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _StoppedError(Exception):
    """The deadline came before the answer."""


class _Connection:
    """The connection that pings share; opened when one is needed."""

    def __init__(self, connector: Connector, timeout: float) -> None:
        self._connector = connector
        self._timeout = timeout
        self._channel: Channel | None = None

    def ping(self, number: int, size: int, until: float) -> Reply:
        """Send the payload of this number and read it back.

        Args:
            number: from 1.
            size: of the payload, in bytes.
            until: when to stop, in ``time.monotonic`` seconds.
        """
        payload = fill(size + number % len(_COUNTING), _COUNTING)[number % len(_COUNTING) :]
        kind: Fault | None = Fault.NONE
        message = ""
        # Opening the connection is no part of the round trip.
        sent = time.monotonic()
        try:
            if self._channel is None:
                self._channel = _open(self._connector, self._timeout, until)
            sent = time.monotonic()
            _round_trip(self._channel, payload, self._timeout, until)
        except _LostError as lost:
            kind, message = lost.kind, str(lost)
        except _StoppedError:
            kind, message = None, "no answer yet at the deadline"
        except OSError as error:  # ssl.SSLError is one
            kind, message = Fault.RESET, reason(error, self._timeout)
            if isinstance(error, ssl.SSLError):
                message = f"TLS: {tls_reason(error)}"
        seconds = time.monotonic() - sent
        if kind is not Fault.NONE and self._channel is not None:
            self._channel.abort()
            self._channel = None
        return Reply(number, kind, seconds, message)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._channel is not None:
            self._channel.close()


def _open(connector: Connector, timeout: float, until: float) -> Channel:
    """Open a connection.

    Raises:
        _StoppedError: if ``until`` came first.
        _LostError: if it cannot be opened.
        LocalError: if this machine is out of ports, descriptors or memory.
    """
    opening = open_now(connector, max(timeout, _MIN_OPEN), until)
    if opening.channel is not None:
        return opening.channel
    if not opening.error:
        raise _StoppedError
    raise _LostError(Fault.RESET if opening.aborted else Fault.REFUSED, opening.error)


def _wait(channel: Channel, deadline: float, writing: bool = False) -> None:
    left = max(0.0, deadline - time.monotonic())
    events = select.POLLIN | (select.POLLOUT if writing or channel.wants_write else 0)
    poll = select.poll()
    poll.register(channel.sock, events)
    poll.poll(math.ceil(left * 1000))


def _round_trip(channel: Channel, payload: bytes, timeout: float, until: float) -> None:
    """Send the payload and read it back.

    Raises:
        _LostError: if it does not come back complete and right.
        _StoppedError: if ``until`` came first.
        OSError: if the connection is gone.
    """
    view = memoryview(payload)
    sent = received = 0
    deadline = time.monotonic() + timeout
    while received < len(payload):
        moved = 0
        with contextlib.suppress(*NOT_NOW):
            if sent < len(payload):
                moved = channel.send(view[sent:])
                sent += moved
            elif channel.wants_write:
                channel.flush()
        with contextlib.suppress(*NOT_NOW):
            count = _receive(channel, payload, received)
            received += count
            moved += count
        if moved:
            deadline = time.monotonic() + timeout
        elif time.monotonic() >= until:
            raise _StoppedError
        elif time.monotonic() >= deadline:
            back = f"{received} of {plural(len(payload), 'byte')} came back"
            raise _LostError(Fault.STALLED, f"nothing for {timeout:g} s, {back}")
        else:
            _wait(channel, min(deadline, until), sent < len(payload))


def _receive(channel: Channel, payload: bytes, received: int) -> int:
    """Read once and compare; return how many bytes came.

    Raises:
        _LostError: if they are wrong, or the connection is closed.
    """
    data = channel.recv(65536)
    if not data:
        message = f"closed after {received} of {plural(len(payload), 'byte')}"
        raise _LostError(Fault.TRUNCATED, message)
    end = received + len(data)
    if payload[received:end] == data:
        return len(data)
    if end > len(payload) and data.startswith(payload[received:]):
        raise _LostError(Fault.EXTRA, f"{plural(end - len(payload), 'byte')} more than sent")
    wrong = first_difference(payload, len(payload), received, data)
    raise _LostError(wrong.kind, wrong.message)
