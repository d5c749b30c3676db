"""Faults at the end of a conversation."""

from __future__ import annotations

from tests.probe.faulty_paths.faults import FaultyPath
from tests.probe.faulty_paths.relay import Relay


class EndNotPassedOn(Relay):
    """The client's end stays here: the echo never hears of it."""

    def client_ended(self) -> None:
        pass


class EndResets(Relay):
    """When the echo has ended, the client is reset instead of closed."""

    def echo_ended(self) -> None:
        self.reset()


class EndClosesBoth(Relay):
    """Closes when the client closes, even if bytes are still on their way back.

    The way back takes a millisecond: long enough to lose the race every time.
    """

    def echo_sent(self, data: bytes) -> None:
        self.later(1, lambda: self.to_client(data))

    def client_ended(self) -> None:
        self.close()


class BulkCutAtEnd(Relay):
    """Sends back in bursts, and at the end no more than 32 KiB of what is left."""

    def opened(self) -> None:
        self.left = bytearray()

    def echo_sent(self, data: bytes) -> None:
        if not self.left:
            self.later(2, self.burst)
        self.left += data

    def burst(self) -> None:
        data, self.left = bytes(self.left), bytearray()
        self.to_client(data)

    def echo_ended(self) -> None:
        del self.left[32768:]
        self.burst()
        super().echo_ended()


class ClosesUnread(Relay):
    """Has enough after 10000 bytes, and closes with the rest unread."""

    def client_sent(self, data: bytes) -> None:
        self.to_echo(data)
        if self.offset + len(data) > 10000:
            self.client.hold(True)
            self.echo.fin()

    def echo_ended(self) -> None:
        self.close()


class OneAnswer(Relay):
    """Closes after the first answer, as if each conversation were one request."""

    answered = False

    def client_sent(self, data: bytes) -> None:
        if self.answered:
            self.close()
        else:
            self.to_echo(data)

    def echo_sent(self, data: bytes) -> None:
        self.to_client(data)
        self.answered = True


class EmptyResets(Relay):
    """A client that closes before it has sent anything is reset."""

    def client_ended(self) -> None:
        if self.offset:
            super().client_ended()
        else:
            self.reset()


class Trailer(Relay):
    """Says goodbye."""

    def echo_ended(self) -> None:
        self.to_client(b"\r\n")
        super().echo_ended()


class LingersAfterBulk(Relay):
    """Forgets to close when more than 5000 bytes went through."""

    def echo_ended(self) -> None:
        if self.offset <= 5000:
            super().echo_ended()
        else:
            self.later(10_000, self.close)


CLOSE_FAULTS = [
    FaultyPath(name, "close", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        ("end-not-passed-on", "fin", "never-closed", EndNotPassedOn),
        ("end-resets", "fin", "reset", EndResets),
        ("end-closes-both", "send 00; fin", "truncated reset", EndClosesBoth),
        ("bulk-cut-at-end", "send 00*32769; fin", "truncated", BulkCutAtEnd),
        ("closes-unread", "send 00*10001; await; send 00", "truncated reset stalled", ClosesUnread),
        ("one-answer", "send 00; await; send 00", "truncated reset", OneAnswer),
        ("empty-resets", "fin", "reset", EmptyResets),
        ("trailer", "fin", "extra", Trailer),
        ("lingers-after-bulk", "send 00*5001; fin", "never-closed", LingersAfterBulk),
    ]
]
