"""Reaches the verdict of an exchange from what was sent, received and waited for."""

from __future__ import annotations

from echoproto.probe.wire.comparison import verdict_at
from echoproto.probe.wire.inbound import Inbound
from echoproto.probe.wire.messages import (
    delayed_message,
    reset_message,
    timed_out,
    truncated_message,
)
from echoproto.probe.wire.outbound import Outbound
from echoproto.probe.wire.verdict import Fault, Verdict
from echoproto.probe.wire.waiting import Waiting

__all__ = ["Judge"]


class Judge:
    """The verdicts of one exchange.

    Args:
        stream: all bytes that the conversation sends.
        outbound: what was sent.
        inbound: what was received.
        waiting: how long the path took.
    """

    def __init__(
        self, stream: bytes, outbound: Outbound, inbound: Inbound, waiting: Waiting
    ) -> None:
        self._stream = stream
        self._outbound = outbound
        self._inbound = inbound
        self._waiting = waiting

    def passed(self, message: str) -> Verdict:
        """Return the verdict on what came back complete, perhaps late."""
        if not self._waiting.too_long:
            return self._verdict(Fault.NONE, message)
        what = delayed_message(self._waiting.longest, self._waiting.waited_for)
        return self._verdict(Fault.DELAYED, f"{message}, but {what}")

    def refused(self, message: str) -> Verdict:
        """Return the verdict on a connection that could not be opened."""
        return self._verdict(Fault.REFUSED, message)

    def truncated(self) -> Verdict:
        """Return the verdict on an EOF that came too early."""
        received = self._inbound.received
        message = truncated_message(received, self._outbound.sent)
        return self._verdict(Fault.TRUNCATED, message, received)

    def reset(self, why: str) -> Verdict:
        """Return the verdict on an aborted connection.

        Args:
            why: the error.
        """
        received, sent = self._inbound.received, self._outbound.sent
        message = reset_message(received, sent, self._outbound.fin, why)
        return self._verdict(Fault.RESET, message, received if received < sent else None)

    def timed_out(self, waited: str, closing: bool) -> Verdict:
        """Return the verdict on a wait that failed.

        Args:
            waited: how long it was, in words.
            closing: whether only the EOF is missing.
        """
        received, sent = self._inbound.received, self._outbound.sent
        kind, message, offset = timed_out(waited, received, sent, len(self._stream), closing)
        return self._verdict(kind, message, offset)

    def different(self) -> Verdict:
        """Return the verdict on the first wrong byte; there must be one."""
        wrong = self._inbound.difference
        assert wrong is not None
        return self._verdict(wrong.kind, wrong.message, wrong.offset, wrong.got)

    def _verdict(
        self, kind: Fault, message: str, offset: int | None = None, got: bytes = b""
    ) -> Verdict:
        sent, received = self._outbound.sent, self._inbound.received
        return verdict_at(kind, message, self._stream, sent, received, offset, got)
