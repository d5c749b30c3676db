"""Faults at the end of a conversation."""

from __future__ import annotations

from echoproto.probe.relay.arguments import BYTES, SIZE, TIME
from echoproto.probe.relay.delay_line import DelayLine
from echoproto.probe.relay.fault import Fault, plain, taking
from echoproto.probe.relay.stage import Place, Stage

__all__ = ["CLOSE_FAULTS"]

#: How late a forgotten close is, in milliseconds.
_FORGOTTEN_MS = 10_000


class EndNotPassedOn(Stage):
    """The client's FIN stays here: the server never hears of it."""

    def client_ended(self) -> None:
        self.note("did not pass on the client's FIN", action="lost")
        self.look()

    def look(self) -> None:
        """Reset when nothing comes back any more: the client may be gone, which nothing tells."""
        back = self.client.bytes_out

        def still() -> None:
            if self.client.bytes_out == back:
                self.connection.reset(f"muted by {self.name}")
            else:
                self.look()

        self.later(self.connection.shared.mute_ms, still)


class EndResets(Stage):
    """When the server has ended, the client is reset instead of closed."""

    def server_ended(self) -> None:
        self.reset("answered the server's FIN with RST")


class CloseAtFin(Stage):
    """Closes when the client closes, even if bytes are still on their way back.

    The way back takes a millisecond: long enough to lose the race every time.
    """

    def opened(self) -> None:
        self.line = DelayLine(self, self.connection.down, self.to_client, self.end_client)

    def server_sent(self, data: bytes) -> None:
        self.line.put(data, self.now() + 0.001)

    def server_ended(self) -> None:
        self.line.end()

    def client_ended(self) -> None:
        back = f"; {self.line.waiting} bytes on their way back were lost"
        self.close("closed both sides at the client's FIN" + (back if self.line.waiting else ""))


class BulkCutAtEnd(Stage):
    """Sends back in bursts, and at the end no more than a part of what is left."""

    def __init__(self, place: Place, most: int) -> None:
        super().__init__(place)
        self.most = most
        self.left = bytearray()

    def server_sent(self, data: bytes) -> None:
        if not self.left:
            self.later(2, self.burst)
        self.left += data
        self.connection.down.hold_back(len(data))

    def burst(self) -> None:
        """Send what is left."""
        data, self.left = bytes(self.left), bytearray()
        self.connection.down.hold_back(-len(data))
        self.to_client(data)

    def server_ended(self) -> None:
        lost = len(self.left) - self.most
        if lost > 0:
            self.note(f"lost the last {lost} bytes", action="lost", bytes=lost)
            del self.left[self.most :]
            self.connection.down.hold_back(-lost)
        self.burst()
        super().server_ended()


class ClosesUnread(Stage):
    """Has enough after so many bytes, and closes with the rest unread."""

    def __init__(self, place: Place, most: int) -> None:
        super().__init__(place)
        self.most = most

    def client_sent(self, data: bytes) -> None:
        self.to_server(data)
        if self.offset + len(data) > self.most:
            self.connection.up.stop(self, True)
            self.end_server()

    def server_ended(self) -> None:
        self.close("closed with the rest unread")


class OneAnswer(Stage):
    """Closes after the first answer, as if each conversation were one request."""

    answered = False

    def client_sent(self, data: bytes) -> None:
        if self.answered:
            self.close("closed at the second request")
        else:
            self.to_server(data)

    def server_sent(self, data: bytes) -> None:
        self.to_client(data)
        self.answered = True


class EmptyResets(Stage):
    """A client that closes before it has sent anything is reset."""

    def client_ended(self) -> None:
        if self.offset:
            super().client_ended()
        else:
            self.reset("reset a client that sent nothing")


class Trailer(Stage):
    """Says goodbye."""

    def __init__(self, place: Place, goodbye: bytes) -> None:
        super().__init__(place)
        self.goodbye = goodbye

    def server_ended(self) -> None:
        self.note(f"added {self.goodbye.hex(' ')}", action="inserted", bytes=len(self.goodbye))
        self.to_client(self.goodbye)
        super().server_ended()


class LingersAfter(Stage):
    """Forgets to close when more than so many bytes went through."""

    def __init__(self, place: Place, most: int) -> None:
        super().__init__(place)
        self.most = most

    def server_ended(self) -> None:
        if self.offset <= self.most:
            super().server_ended()
        else:
            self.note("did not pass on the server's FIN", action="lost")
            self.later(_FORGOTTEN_MS, self.close)


class CutAfterFin(Stage):
    """Closes both sides a while after the client's FIN, whatever is under way."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms

    def opened(self) -> None:
        self.client.keep_little()

    def client_ended(self) -> None:
        self.later(self.ms, lambda: self.close(f"closed both sides {self.ms:g} ms after FIN"))
        super().client_ended()


class DropsAtEnd(Stage):
    """A while after the server's FIN, it drops what the client has not taken by then."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.ms = ms

    def opened(self) -> None:
        self.client.keep_little()

    def server_ended(self) -> None:
        self.later(self.ms, self.drop)
        super().server_ended()

    def drop(self) -> None:
        """Close if anything waits."""
        if waiting := len(self.client.pending):
            self.close(f"dropped {waiting} bytes {self.ms:g} ms after the server's FIN")


CLOSE_FAULTS = (
    Fault("close-at-fin", "Closes both sides at the client's FIN; what is on its way back is lost.",
          "nginx stream without proxy_half_close, ncat -e, Twisted's wire.Echo.",
          plain(CloseAtFin)),
    Fault("cut-after-fin", "Closes both sides TIME after the client's FIN, whatever is under way.",
          "socat (-t, 0.5 s by default), HAProxy (timeout client-fin).",
          taking(TIME, lambda ms: lambda place: CutAfterFin(place, ms)), "TIME"),
    Fault("drops-at-end",
          "Drops TIME after the server's FIN what the client has not taken.",
          "A relay that splices, and gives up its pipe with what is in it.",
          taking(TIME, lambda ms: lambda place: DropsAtEnd(place, ms)), "TIME", "100ms"),
    Fault("end-not-passed-on", "Does not pass on the client's FIN.",
          "A tunnel over WebSocket, which has no half-close.", plain(EndNotPassedOn)),
    Fault("end-resets", "Answers the server's FIN with RST.",
          "A balancer that saves itself TIME_WAIT.", plain(EndResets)),
    Fault("bulk-cut-at-end", "Returns in bursts, and no more than BYTES of the last one.",
          "A TLS layer that drops what it has gathered when it is closed.",
          taking(SIZE, lambda most: lambda place: BulkCutAtEnd(place, most)), "BYTES", "32Ki"),
    Fault("closes-unread", "Closes after BYTES, with the rest unread.",
          "A server with a limit for the size of a request.",
          taking(SIZE, lambda most: lambda place: ClosesUnread(place, most)), "BYTES", "10000"),
    Fault("one-answer", "Closes when more comes after the first answer.",
          "A gateway for requests and answers, without keep-alive.", plain(OneAnswer)),
    Fault("empty-resets", "Resets a client that sends FIN before anything else.",
          "A balancer that takes a silent close for an error.", plain(EmptyResets)),
    Fault("trailer", "Adds HEX before the server's FIN.",
          "A wrapper that prints a line when its program has ended.",
          taking(BYTES, lambda goodbye: lambda place: Trailer(place, goodbye)), "HEX", "0d0a"),
    Fault("lingers-after", "Passes on the server's FIN 10 s late after more than BYTES.",
          "A relay that closes from a timer when a buffer was full.",
          taking(SIZE, lambda most: lambda place: LingersAfter(place, most)), "BYTES"),
)  # fmt: skip
"""Faults at the end of a conversation."""
