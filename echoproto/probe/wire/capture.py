"""Keeps what comes back on one connection, also after the first wrong byte."""

from __future__ import annotations

from echoproto.probe.wire.comparison import Difference

__all__ = ["Capture"]


class Capture:
    """The bytes received by one conversation, in order, to compare them as a whole.

    Args:
        room: how many bytes to keep; 0 to keep none, and to end at the first wrong byte.

    Attributes:
        data: what was received, at most ``room`` bytes.
        difference: the first wrong byte, held back while the conversation goes on; None as long
            as all are right, and without room.
    """

    def __init__(self, room: int = 0) -> None:
        self.data = bytearray()
        self.difference: Difference | None = None
        self._room = room

    def add(self, data: bytes) -> None:
        """Keep what was received, as far as there is room."""
        if self._room:
            self.data += data[: self._room - len(self.data)]

    def holds_back(self, difference: Difference) -> bool:
        """Return whether to go on reading after a wrong byte.

        Args:
            difference: what is wrong; the first one is kept.
        """
        if not self._room:
            return False
        self.difference = self.difference or difference
        # A path that floods would otherwise be read for ever.
        return len(self.data) < self._room
