"""What a parent and its workers say to each other: one JSON object per line.

The parent writes to a worker's standard input. A worker writes to a pipe of its own
(:data:`FROM_WORKER`), so that nothing that is printed by accident is taken for a
message. What a message means is up to its handlers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

# The descriptors of a worker: orders arrive on one, reports leave on the other.
TO_WORKER = 0
FROM_WORKER = 3
# A worker's listening sockets come after these and its standard streams.
FIRST_SOCKET = 4

Handler = Callable[..., object]


class Channel:
    """One end: sends messages, and hands each that arrives to its handler."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Make an end without handlers.

        :param write: writes bytes to the other end.
        """
        self._write = write
        self._rest = b""
        self._handlers: dict[str, Handler] = {}

    def send(self, kind: str, **members: Any) -> None:
        """Send a message.

        :param kind: what it is about.
        :param members: what it says, as JSON can hold it.
        """
        line = json.dumps({"kind": kind, **members}, separators=(",", ":"))
        self._write(line.encode() + b"\n")

    def on(self, kind: str, handler: Handler) -> None:
        """Choose what handles the messages of a kind.

        :param kind: the kind.
        :param handler: called with a message's members as named arguments.
        """
        self._handlers[kind] = handler

    def receive(self, data: bytes) -> None:
        """Take what arrived, and handle the messages that are complete.

        :param data: any piece of what the other end wrote.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self._handlers[message.pop("kind")](**message)
