"""What a parent and its workers say to each other: a JSON object a line.

The parent writes to a worker's standard input, a worker to a pipe of its own
(:data:`FROM_WORKER`), so that nothing that is printed by accident is taken for
a message. What a message means is a matter of those who :meth:`Messages.on` it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

# The descriptors of a worker: orders come in on one, reports go out on the other.
TO_WORKER = 0
FROM_WORKER = 3
# A worker's listening sockets come after these and its standard streams.
FIRST_SOCKET = 4

Handler = Callable[..., None]


def encode(kind: str, **members: Any) -> bytes:
    """Write a message.

    :param kind: what it is about.
    :param members: what it says, as JSON takes it.
    """
    return json.dumps({"kind": kind, **members}, separators=(",", ":")).encode() + b"\n"


class Messages:
    """One direction of a pipe: cuts bytes into messages, and hands each to its handler."""

    def __init__(self) -> None:
        self._rest = b""
        self._handlers: dict[str, Handler] = {}

    def on(self, kind: str, handler: Handler) -> None:
        """Name who handles the messages of a kind.

        :param kind: the kind.
        :param handler: called with a message's members as named arguments.
        """
        self._handlers[kind] = handler

    def receive(self, data: bytes) -> None:
        """Take what came, and handle the messages that are complete.

        :param data: any piece of what the other end wrote.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self._handlers[message.pop("kind")](**message)
