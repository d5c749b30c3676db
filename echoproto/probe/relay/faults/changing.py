"""Two short ways to write a fault that changes bytes."""

from __future__ import annotations

from collections.abc import Callable

from echoproto.probe.relay.stage import MakeStage, Stage

__all__ = ["chunks", "stream"]


def chunks(change: Callable[[bytes], bytes]) -> MakeStage:
    """Return a stage that changes each chunk that is read, independently of the others."""

    class Changed(Stage):
        def client_sent(self, data: bytes) -> None:
            self.forward(data, change(data))

    return Changed


def stream(change: Callable[[int, bytes], bytes]) -> MakeStage:
    """Return a stage that changes what is sent, depending on its offset in the stream."""

    class Changed(Stage):
        def client_sent(self, data: bytes) -> None:
            self.forward(data, change(self.offset, data))

    return Changed
