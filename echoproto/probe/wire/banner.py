"""Drops what a server sends before anything was sent to it (``--skip-banner``).

No protocol says how a banner ends. The first connection to a target shows it: what comes until
nothing has come for a while. On each later connection, as many bytes are dropped, and more up to
the last byte of the first banner, so that a counter or a time in it may be longer. If fewer come,
the silence decides again.
"""

from __future__ import annotations

import math
import time

from echoproto.probe.wire.channel import NOT_NOW, Channel, HandshakeError, Layer
from echoproto.probe.wire.reasons import reason

__all__ = ["Banner", "BannerLayer"]

FIRST_BYTE = 5.0
"""Seconds to wait for a banner; after them there is none."""

SILENCE = 0.5
"""Seconds without a byte after which a banner is complete."""

_MOST = 65536
_SHOWN = 60


class Banner:
    """What the first connection of a target showed.

    Attributes:
        first: the first banner, which may be empty; None before.
    """

    def __init__(self) -> None:
        self.first: bytes | None = None

    def is_whole(self, data: bytes) -> bool:
        """Return whether the banner of a connection is complete."""
        if self.first is None:
            return False
        return len(data) >= len(self.first) and data.endswith(self.first[-1:])


class BannerLayer(Layer):
    """Reads and drops the banner as its handshake.

    Args:
        below: what it uses.
        banner: of the target.
    """

    def __init__(self, below: Channel, banner: Banner) -> None:
        super().__init__(below)
        self._banner = banner
        self._until = math.inf
        self._got = b""

    def peer(self) -> str:
        return "waiting for a banner"

    def wake(self) -> float:
        return min(self.below.wake(), self._until)

    def shake(self) -> bool:
        now = time.monotonic()
        if self._until == math.inf:
            self._until = now + FIRST_BYTE
        try:
            while data := self.below.recv(_MOST):
                self._got += data
                self._until = now + SILENCE
                if len(self._got) > _MOST:
                    raise HandshakeError(f"a banner of more than {_MOST} bytes")
            raise HandshakeError(f"the other side closed the connection after {self._text()}")
        except NOT_NOW:
            pass
        except HandshakeError:
            raise
        except OSError as error:
            raise HandshakeError(f"{reason(error)} after {self._text()}") from None
        if not self._banner.is_whole(self._got):
            if now < self._until:
                return False
            if self._banner.first is None:
                self._banner.first = self._got
        self._until = math.inf
        return True

    def _text(self) -> str:
        """Return the beginning of the banner, for people."""
        shown = self._got[:_SHOWN].decode("ascii", "backslashreplace")
        return f"its banner {shown!r}" if self._got else "no banner"
