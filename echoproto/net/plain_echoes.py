"""Plain echoes of small messages: read, counted and written without a call of any object.

A connection is here while nothing but the echo sees its bytes, nothing is queued for its
client, and its client sends little at a time. Its transport adds it, and takes it out
with the first change of the transport; a change of the protocol is seen before each read.
All else takes the ordinary way, through ``doRead`` and ``dataReceived``.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from typing import Any

# The size of one read while it suffices, in bytes: allocating a large buffer to receive
# little costs more than the little does.
MIN_READ = 4 * 1024

EPOLLIN: int = getattr(select, "EPOLLIN", 0)

Event = tuple[int, int]


class PlainEchoes:
    """The connections of a lane that are plain echoes of small messages, by descriptor."""

    def __init__(self, otherwise: Callable[[int, bytes | None, int], None]) -> None:
        """Hold none.

        :param otherwise: called where a read was no small message that the kernel took back as
            a whole: with the descriptor, what was read (``None`` if reading failed), and how
            many bytes of it were sent.
        """
        self._otherwise = otherwise
        self._echoes: dict[int, Any] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._echoes

    def add(self, fd: int, echo: Any) -> None:
        """Add a connection with nothing queued.

        :param fd: its descriptor.
        :param echo: its protocol, an :class:`echoproto.core.protocol.Echo`.
        """
        self._echoes[fd] = echo

    def discard(self, fd: int) -> None:
        """Let a connection take the ordinary way, if it is here."""
        self._echoes.pop(fd, None)

    def clear(self) -> None:
        """Let all connections take the ordinary way."""
        self._echoes.clear()

    def serve(self, events: Iterable[Event]) -> list[Event]:
        """Return one small message to each connection that is here and has input.

        :param events: descriptors and their events, as ``select.epoll`` returns them.
        :returns: the events of others, in order.
        """
        echoes, read, write = self._echoes, os.read, os.write
        others = []
        for event in events:
            fd, what = event
            if not (
                what == EPOLLIN
                and fd in echoes
                and (echo := echoes[fd]).dataReceived is echo.plain_echo
                and echo.transport is echo.plain_transport
            ):
                others.append(event)
                continue
            data, sent = None, 0
            try:
                data = read(fd, MIN_READ)
                length = len(data)
                if 0 < length < MIN_READ:
                    echo.bytes_echoed += length
                    sent = write(fd, data)
                    if sent == length:
                        continue
            except BlockingIOError:
                if data is None:
                    continue
            except OSError:
                # Of a write, the next read or write reports it.
                pass
            self._otherwise(fd, data, sent)
        return others
