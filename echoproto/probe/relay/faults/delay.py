"""Delay: every byte arrives, and in order, but later. A path may do all of it and be right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from echoproto.probe.relay.arguments import ONE_IN, SIZE, SLICES, TIME
from echoproto.probe.relay.delay_line import DelayLine
from echoproto.probe.relay.fault import Fault, taking
from echoproto.probe.relay.stage import MakeStage, Place, Stage

__all__ = ["DELAY_FAULTS"]

#: Bandwidth is given out in portions of this many seconds.
_PORTION = 0.02


class Delaying(Stage, ABC):
    """Holds back what goes in each direction."""

    def opened(self) -> None:
        self.random = self.draw()
        self.to_the_server = DelayLine(self, self.connection.up, self.to_server, self.end_server)
        self.to_the_client = DelayLine(self, self.connection.down, self.to_client, self.end_client)

    @abstractmethod
    def hold(self, line: DelayLine, data: bytes) -> None:
        """Put bytes into a line."""

    def end(self, line: DelayLine) -> None:
        """Put FIN into a line: behind what is in it."""
        line.end()

    def client_sent(self, data: bytes) -> None:
        self.hold(self.to_the_server, data)

    def client_ended(self) -> None:
        self.end(self.to_the_server)

    def server_sent(self, data: bytes) -> None:
        self.hold(self.to_the_client, data)

    def server_ended(self) -> None:
        self.end(self.to_the_client)


class Latency(Delaying):
    """A long way."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.seconds = ms / 1000

    def hold(self, line: DelayLine, data: bytes) -> None:
        self.note_once(f"delays by {1000 * self.seconds:g} ms", action="delayed")
        line.put(data, self.now() + self.seconds)

    def end(self, line: DelayLine) -> None:
        line.end(self.now() + self.seconds)


class Jitter(Delaying):
    """A way that is not always equally long."""

    def __init__(self, place: Place, ms: float) -> None:
        super().__init__(place)
        self.seconds = ms / 1000

    def hold(self, line: DelayLine, data: bytes) -> None:
        self.note_once(f"delays by up to {1000 * self.seconds:g} ms", action="delayed")
        line.put(data, self.now() + self.random.uniform(0, self.seconds))


class Bandwidth(Delaying):
    """A narrow way."""

    def __init__(self, place: Place, rate: int) -> None:
        super().__init__(place)
        self.rate = rate
        self.portion = max(1, round(rate * _PORTION))

    def hold(self, line: DelayLine, data: bytes) -> None:
        self.note_once(f"passes {self.rate} bytes per second", action="delayed")
        for start in range(0, len(data), self.portion):
            part = data[start : start + self.portion]
            line.put(part, max(self.now(), line.free) + len(part) / self.rate)


class OneIn(Delaying):
    """Delays one chunk in so many, at random, and what comes behind it."""

    def __init__(self, place: Place, count: int, ms: float) -> None:
        super().__init__(place)
        self.count, self.ms = count, ms

    def hold(self, line: DelayLine, data: bytes) -> None:
        now = self.now()
        if self.random.randrange(self.count):
            line.put(data, now)
        else:
            self.note(
                f"delayed a chunk of {len(data)} bytes by {self.ms:g} ms",
                action="delayed", bytes=len(data),
            )  # fmt: skip
            line.put(data, now + self.ms / 1000)


class Slice(Delaying):
    """Sends small segments."""

    def __init__(self, place: Place, size: int, ms: float) -> None:
        super().__init__(place)
        self.size, self.apart = size, ms / 1000

    def hold(self, line: DelayLine, data: bytes) -> None:
        if len(data) > self.size:
            self.note_once(f"sends segments of {self.size} bytes at most", action="sliced")
        for start in range(0, len(data), self.size):
            due = max(self.now(), line.free + self.apart)
            line.put(data[start : start + self.size], due)


def _one_in(argument: tuple[int, float]) -> MakeStage:
    count, ms = argument
    return lambda place: OneIn(place, count, ms)


def _of_time(stage: Callable[[Place, float], Stage]) -> Callable[[str], MakeStage]:
    return taking(TIME, lambda ms: lambda place: stage(place, ms))


DELAY_FAULTS = (
    Fault("latency", "Delays everything by TIME, in each direction.",
          "Any long way: 270ms is a geostationary satellite.", _of_time(Latency), "TIME"),
    Fault("jitter", "Delays each chunk by 0 to TIME, in each direction; the order is kept.",
          "Wi-Fi, mobile networks, a busy host.", _of_time(Jitter), "TIME"),
    Fault("bandwidth", "Passes BYTES per second, in each direction.",
          "A serial line: 960 is one of 9600 baud.",
          taking(SIZE, lambda rate: lambda place: Bandwidth(place, rate)), "BYTES"),
    Fault("delay-one-in", "Delays one chunk in N by TIME, in each direction, drawn with the seed.",
          "A lost segment that is sent again: 200ms at least on Linux.",
          taking(ONE_IN, _one_in), "N,TIME"),
    Fault("slice", "Sends segments of at most BYTES, TIME (1ms) apart, in each direction.",
          "Any path with small segments; a client must not take one for a message.",
          taking(SLICES, lambda slices: lambda place: Slice(place, *slices)), "BYTES[,TIME]"),
)  # fmt: skip
"""What delays."""
