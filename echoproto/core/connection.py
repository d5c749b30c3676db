"""A connection that its factory knows of, and what may be logged of one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.core.protocol import Echo

if TYPE_CHECKING:
    from echoproto.core.factory import EchoFactory

_log = Logger(namespace="echoproto")

# A chunk's first bytes tell what it is; the whole would drown the log.
_PREVIEW = 32


class Connection(Echo):
    """An Echo that its factory knows of; nothing is added per message."""

    factory: EchoFactory
    # Who made the connection, and by way of which balancer.
    client: IAddress | None
    via: IAddress | None = None
    opened: float
    # Whether it has said anything worth a line in the log.
    told = False
    # Why it was turned away, if it was.
    refused: str | None = None
    # Why the server ended it, if it did.
    ending: str | None = None
    # What its client is counted as, if sources are limited.
    source: str | None = None

    @property
    def throttled(self) -> bool:
        """Whether it is the server that lets nothing move."""
        return False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.opened = time.monotonic()
        if self.client is None:
            self.client = self.transport.getPeer()
        self.factory._opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory._closed(self, reason)


class Told(Connection):
    """One whose beginning and end are logged, unless it says nothing, as health probes do."""

    def connectionMade(self) -> None:
        # Until the first byte, and so at no cost to all that follow.
        self.dataReceived = self._first_received  # type: ignore[method-assign]
        super().connectionMade()

    def _first_received(self, data: bytes) -> None:
        del self.dataReceived
        self.told = True
        self.factory._tell_opened(self)
        self.dataReceived(data)


class ToldInFull(Told):
    """One that is also logged chunk by chunk."""

    def dataReceived(self, data: bytes) -> None:
        _log.info(
            "chunk from {client}: {length} bytes {preview}",
            client=self.factory._client(self),
            length=len(data),
            preview=repr(data[:_PREVIEW])[1:] + ("..." if len(data) > _PREVIEW else ""),
        )
        super().dataReceived(data)

    def readConnectionLost(self) -> None:
        if self.told:
            _log.info("end of input from {client}", client=self.factory._client(self))
        super().readConnectionLost()
