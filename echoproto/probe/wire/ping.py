"""Round trips over one connection, in the manner of ping(8), with every byte compared."""

from __future__ import annotations

import math
import select
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from echoproto.probe.script.vocabulary import fill
from echoproto.probe.wire.channel import Channel, Connector, reason
from echoproto.probe.wire.exchange import tls_reason
from echoproto.probe.wire.statistics import percentile
from echoproto.probe.wire.verdict import Fault

__all__ = ["Reply", "Statistics", "pings"]

_COUNTING = bytes(range(251))


@dataclass(frozen=True)
class Reply:
    """What became of one ping.

    Attributes:
        number: from 1.
        kind: ``Fault.NONE``, or why it counts as lost.
        seconds: from sending to the last byte; until it was given up, for a lost one.
        message: in words; empty if all is well.
    """

    number: int
    kind: Fault
    seconds: float
    message: str = ""


@dataclass
class Statistics:
    """The summary of all replies so far."""

    sent: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        """Count one reply."""
        self.sent += 1
        if reply.kind is Fault.NONE:
            self.seconds.append(reply.seconds)

    @property
    def lost(self) -> int:
        """How many did not come back whole and right."""
        return self.sent - len(self.seconds)

    def milliseconds(self) -> dict[str, float]:
        """min, avg, p50, p99, max and mdev (the standard deviation, as ping(8) has it) of the
        round trips; empty if there is none."""
        if not self.seconds:
            return {}
        ordered = sorted(1000 * seconds for seconds in self.seconds)
        mean = fmean(ordered)
        return {
            "min": ordered[0],
            "avg": mean,
            "p50": percentile(ordered, 50),
            "p99": percentile(ordered, 99),
            "max": ordered[-1],
            "mdev": math.sqrt(max(0.0, fmean(value * value for value in ordered) - mean * mean)),
        }


def pings(
    connector: Connector,
    count: int | None = None,
    interval: float = 1.0,
    size: int = 56,
    timeout: float = 1.0,
) -> Iterator[Reply]:
    """Send and await, again and again.

    All go over one connection; after a loss, the next goes over a new one.

    Args:
        connector: where to.
        count: how many; None for ever.
        interval: seconds from the start of one to the start of the next.
        size: bytes in each.
        timeout: seconds without a byte after which one is lost.
    """
    channel: Channel | None = None
    number = 0
    try:
        while count is None or number < count:
            began = sent = time.monotonic()
            number += 1
            payload = fill(size + number % 251, _COUNTING)[number % 251 :]
            kind, message = Fault.NONE, ""
            try:
                if channel is None:
                    channel = _open(connector, timeout)
                sent = time.monotonic()
                _round_trip(channel, payload, timeout)
            except _LostError as lost:
                kind, message = lost.kind, str(lost)
            except ssl.SSLError as error:
                kind = Fault.REFUSED if channel is None else Fault.RESET
                message = f"TLS: {tls_reason(error)}"
            except OSError as error:
                kind = Fault.REFUSED if channel is None else Fault.RESET
                message = reason(error, timeout)
            now = time.monotonic()
            if kind is not Fault.NONE and channel is not None:
                channel.abort()
                channel = None
            yield Reply(number, kind, now - sent, message)
            wait = began + interval - time.monotonic()
            if wait > 0 and (count is None or number < count):
                time.sleep(wait)
    finally:
        if channel is not None:
            channel.close()


class _LostError(Exception):
    def __init__(self, kind: Fault, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _open(connector: Connector, timeout: float) -> Channel:
    sock = connector.new_socket()
    try:
        sock.settimeout(max(timeout, 5.0))
        sock.connect(connector.where)
        sock.setblocking(False)
        channel = connector.channel(sock)
        deadline = time.monotonic() + max(timeout, 5.0)
        while not channel.handshake():
            if time.monotonic() >= deadline:
                raise TimeoutError
            _wait(channel, deadline)
    except BaseException:
        sock.close()
        raise
    return channel


def _wait(channel: Channel, deadline: float, writing: bool = False) -> None:
    left = max(0.0, deadline - time.monotonic())
    events = select.POLLIN | (select.POLLOUT if writing or channel.wants_write else 0)
    poll = select.poll()
    poll.register(channel.sock, events)
    poll.poll(math.ceil(left * 1000))


def _round_trip(channel: Channel, payload: bytes, timeout: float) -> None:
    """Send the payload and read it back.

    Raises:
        _LostError: if it does not come back whole and right.
        OSError: if the connection is gone.
    """
    view = memoryview(payload)
    sent = received = 0
    deadline = time.monotonic() + timeout
    while received < len(payload):
        moved = False
        try:
            if sent < len(payload):
                sent += channel.send(view[sent:])
                moved = True
            elif channel.wants_write:
                channel.flush()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            data = channel.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        else:
            if not data:
                raise _LostError(
                    Fault.TRUNCATED, f"closed after {received} of {len(payload)} bytes"
                )
            moved = True
            end = received + len(data)
            if payload[received:end] != data:
                extra = end > len(payload) and data.startswith(payload[received:])
                if extra:
                    raise _LostError(Fault.EXTRA, f"{end - len(payload)} bytes more than sent")
                at = next(i for i, byte in enumerate(data) if payload[received + i] != byte)
                raise _LostError(
                    Fault.CORRUPT,
                    f"byte {received + at} came back as {data[at]:02x}, "
                    f"sent was {payload[received + at]:02x}",
                )
            received = end
        if moved:
            deadline = time.monotonic() + timeout
        elif time.monotonic() >= deadline:
            raise _LostError(
                Fault.STALLED,
                f"nothing for {timeout:g} s, {received} of {len(payload)} bytes are back",
            )
        else:
            _wait(channel, deadline, sent < len(payload))
