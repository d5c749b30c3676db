"""What is logged of connections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from echoproto.base.address import format_address

_log = Logger(namespace="echoproto")

# The first bytes of a chunk show what it is; the whole of it would drown the log.
_PREVIEW = 32


class LogDetail(str, Enum):
    """How much is logged of connections."""

    LISTENING = "listening"
    """Nothing."""
    CONNECTIONS = "connections"
    """A line when a connection sends its first byte, and one when it closes."""
    CHUNKS = "chunks"
    """Also each chunk received and each end of input."""

    def __str__(self) -> str:
        return self.value


class Logged(Protocol):
    """What the log reads of a connection."""

    client: IAddress | None
    via: IAddress | None
    bytes_echoed: int


def client_of(connection: Logged) -> str:
    """Return the client's address as log lines show it."""
    assert connection.client is not None
    return format_address(connection.client)


@dataclass(frozen=True)
class ConnectionLog:
    """Logs connections that send something; health checks do not.

    :ivar chunks: whether each chunk gets a line.
    """

    chunks: bool

    def opened(self, connection: Logged) -> None:
        """Log a connection; its first bytes have arrived."""
        client, via = client_of(connection), connection.via
        if via is None:
            _log.info("opened {client}", client=client)
        else:
            _log.info("opened {client} via {via}", client=client, via=format_address(via))

    def received(self, connection: Logged, data: bytes) -> None:
        """Log a chunk; to be called only if ``chunks`` is set."""
        _log.info(
            "chunk from {client}: {length} bytes {preview}",
            client=client_of(connection),
            length=len(data),
            preview=repr(data[:_PREVIEW])[1:] + ("..." if len(data) > _PREVIEW else ""),
        )

    def input_ended(self, connection: Logged) -> None:
        """Log that the client has closed its sending side; only if ``chunks`` is set."""
        _log.info("end of input from {client}", client=client_of(connection))

    def closed(self, connection: Logged, seconds: float, why: str | None) -> None:
        """Log the end; ``why`` is the error or the server's reason, if there is one."""
        _log.info(
            "closed {client}: {bytes} bytes in {seconds:.3f} s" + (", {error}" if why else ""),
            client=client_of(connection),
            bytes=connection.bytes_echoed,
            seconds=seconds,
            error=why,
        )
