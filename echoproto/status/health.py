"""Whether a server serves, at one moment: what a balancer asks all the time."""

from __future__ import annotations

from dataclasses import dataclass

from echoproto.base.words import counted


@dataclass(frozen=True)
class Health:
    """What decides whether a server gets clients, and whether it is restarted.

    :ivar listening: whether a port is open.
    :ivar draining: whether the service is stopping.
    :ivar serving: how many processes serve.
    :ivar answering: how many of them answer.
    """

    listening: bool
    draining: bool
    serving: int
    answering: int

    @property
    def not_healthy(self) -> str | None:
        """Why the server should be restarted; ``None`` if it should not."""
        if self.answering or self.draining:
            return None
        return "no worker answers"

    @property
    def not_ready(self) -> str | None:
        """Why no client should be sent to this server; ``None`` if it is ready."""
        if self.draining:
            return "draining"
        if not self.listening:
            return "not listening"
        return self.not_healthy

    @property
    def impaired(self) -> str | None:
        """Which part of the server does not work, although it is ready; ``None`` if all does."""
        away = self.serving - self.answering
        if not away:
            return None
        return f"{away} of {counted(self.serving, 'worker')} not answering"
