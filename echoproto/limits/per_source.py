"""What one server gives at the most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from echoproto.core.connection import Conversation


@dataclass(frozen=True)
class Limits:
    """What one server gives at the most; 0 means without a limit.

    :ivar max_connections: conversations at once, in all.
    :ivar max_per_source: conversations at once with one source.
    :ivar idle_timeout: seconds without a byte in either direction after which
        a conversation ends.
    :ivar max_bytes_per_second: bytes that a conversation is read a second.
    """

    max_connections: int = 0
    max_per_source: int = 0
    idle_timeout: float = 0.0
    max_bytes_per_second: int = 0


class Sources:
    """How many conversations each source has, and whether it may have one more."""

    def __init__(self, most: int) -> None:
        """Begin with none.

        :param most: conversations at once with one source.
        """
        self._most = most
        self._live: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many sources have any."""
        return len(self._live)

    def enter(self, source: str) -> bool:
        """Count one more, if it may be; return whether."""
        if self._live[source] >= self._most:
            return False
        self._live[source] += 1
        return True

    def leave(self, source: str) -> None:
        """Count one less."""
        self._live[source] -= 1
        if not self._live[source]:
            del self._live[source]

    def ask(
        self,
        source: str,
        conversation: Conversation,
        payload: bytes,
        go_on: Callable[[Conversation, bytes], None],
        refuse: Callable[[Conversation, str], None],
    ) -> None:
        """Find out whether a conversation may go on.

        :param source: what its client is counted as; until :meth:`leave`, if it goes on.
        :param conversation: the one.
        :param payload: what has come of it.
        :param go_on: called with conversation and payload if it may.
        :param refuse: called with conversation and source if it may not.
        """
        if self.enter(source):
            conversation.source = source
            go_on(conversation, payload)
        else:
            refuse(conversation, source)
