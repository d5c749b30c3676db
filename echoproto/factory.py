"""Who is in, and what was carried."""

from __future__ import annotations

import time
from enum import Enum

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.address import format_address
from echoproto.protocol import Echo

# A chunk's first bytes tell what it is; the whole would drown the log.
_PREVIEW = 32


class LogDetail(str, Enum):
    """How much is logged of conversations."""

    LISTENING = "listening"
    """Nothing of conversations."""
    CONNECTIONS = "connections"
    """Each one opened and closed."""
    CHUNKS = "chunks"
    """Also each chunk received and each end of input."""

    def __str__(self) -> str:
        return self.value


class _Conversation(Echo):
    """An Echo that its factory knows of; nothing is added per message."""

    factory: EchoFactory
    opened: float

    def connectionMade(self) -> None:
        super().connectionMade()
        self.opened = time.monotonic()
        self.factory._opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory._closed(self, reason)


class _LoggedConversation(_Conversation):
    """One that is also logged chunk by chunk."""

    def dataReceived(self, data: bytes) -> None:
        self.factory._log.info(
            "chunk from {client}: {length} bytes {preview}",
            client=self.factory._client(self),
            length=len(data),
            preview=repr(data[:_PREVIEW])[1:] + ("..." if len(data) > _PREVIEW else ""),
        )
        super().dataReceived(data)

    def readConnectionLost(self) -> None:
        self.factory._log.info("end of input from {client}", client=self.factory._client(self))
        super().readConnectionLost()


class EchoFactory(ServerFactory):
    """Makes conversations and knows those that are live.

    :ivar conversations: the live ones.
    :ivar accepted: how many there have been, with the live ones.
    :ivar failed: how many of those that are over ended in an error: a reset, a
        time-out, an abort.
    :ivar bytes_discarded: bytes that came too late in a drain to be returned.
    """

    noisy = False
    _log = Logger()

    def __init__(self, log: LogDetail | str = LogDetail.LISTENING) -> None:
        """Make a factory without conversations.

        :param log: how much to log of each conversation.
        :raises ValueError: when there is no such detail.
        """
        detail = LogDetail(log)
        self.conversations: set[Echo] = set()
        self.accepted = 0
        self.failed = 0
        self.bytes_discarded = 0
        self._bytes_of_closed = 0
        self._log_connections = detail is not LogDetail.LISTENING
        self._conversation = _LoggedConversation if detail is LogDetail.CHUNKS else _Conversation
        self._waiting_for_empty: list[Deferred[None]] = []

    @property
    def live(self) -> int:
        """How many conversations there are now."""
        return len(self.conversations)

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in all, those of the live conversations included."""
        return self._bytes_of_closed + sum(each.bytes_echoed for each in self.conversations)

    def buildProtocol(self, addr: IAddress | None) -> Echo:
        """Make the server's end of a new conversation."""
        conversation = self._conversation()
        conversation.factory = self
        return conversation

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires once no conversation is live."""
        if not self.conversations:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_empty.append(waiting)
        return waiting

    def _opened(self, conversation: _Conversation) -> None:
        self.accepted += 1
        self.conversations.add(conversation)
        if self._log_connections:
            self._log.info("opened {client}", client=self._client(conversation))

    def _closed(self, conversation: _Conversation, reason: Failure) -> None:
        self.conversations.discard(conversation)
        self._bytes_of_closed += conversation.bytes_echoed
        self.bytes_discarded += conversation.bytes_discarded
        failed = not isinstance(reason.value, ConnectionDone)
        self.failed += failed
        if self._log_connections:
            self._log.info(
                "closed {client}: {bytes} bytes in {seconds:.3f} s{error}",
                client=self._client(conversation),
                bytes=conversation.bytes_echoed,
                seconds=time.monotonic() - conversation.opened,
                error=f", {reason.getErrorMessage()}" if failed else "",
            )
        if not self.conversations:
            waiting, self._waiting_for_empty = self._waiting_for_empty, []
            for each in waiting:
                each.callback(None)

    @staticmethod
    def _client(conversation: Echo) -> str:
        return format_address(conversation.transport.getPeer())
