"""Who is in, and what was carried."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from echoproto.address import format_address, source
from echoproto.protocol import Echo
from echoproto.proxy_protocol import ProxyHeaders
from echoproto.tally import Tally

# The upper bounds of the histogram of durations, in seconds.
DURATION_BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)

# A chunk's first bytes tell what it is; the whole would drown the log.
_PREVIEW = 32


class LogDetail(str, Enum):
    """How much is logged of conversations."""

    LISTENING = "listening"
    """Nothing of conversations."""
    CONNECTIONS = "connections"
    """Each one opened and closed, if it says anything."""
    CHUNKS = "chunks"
    """Also each chunk received and each end of input."""

    def __str__(self) -> str:
        return self.value


class Conversation(Echo):
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

    def connectionMade(self) -> None:
        super().connectionMade()
        self.opened = time.monotonic()
        if self.client is None:
            self.client = self.transport.getPeer()
        self.factory._opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory._closed(self, reason)


class _ToldConversation(Conversation):
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


class _LoggedConversation(_ToldConversation):
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
        if self.told:
            self.factory._log.info("end of input from {client}", client=self.factory._client(self))
        super().readConnectionLost()


class EchoFactory(ServerFactory):
    """Makes conversations and knows those that are live.

    :ivar conversations: the live ones.
    :ivar accepted: how many there have been, with the live ones.
    :ivar failed: how many of those that are over ended in an error: a reset, a
        time-out, an abort.
    :ivar silent: how many of those that are over never sent a byte, as health
        probes do.
    :ivar refused: how many clients were turned away, by reason.
    :ivar durations: how many of those that are over lasted up to each of
        :data:`DURATION_BOUNDS` and longer than the one before; last, those that
        lasted longer than all.
    :ivar seconds: how long those lasted, in all.
    :ivar bytes_discarded: bytes that came too late in a drain to be returned.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        log: LogDetail | str = LogDetail.LISTENING,
        proxy_headers: ProxyHeaders | None = None,
        clock: Any = None,
    ) -> None:
        """Make a factory without conversations.

        :param log: how much to log of each conversation.
        :param proxy_headers: takes the headers off conversations that a
            balancer passes on; ``None`` if none does.
        :param clock: an ``IReactorTime``, for what has to come in time; the
            global reactor if none is given.
        :raises ValueError: when there is no such detail.
        """
        detail = LogDetail(log)
        self.conversations: set[Conversation] = set()
        self.accepted = 0
        self.failed = 0
        self.silent = 0
        self.refused: Counter[str] = Counter()
        self.durations = [0] * (len(DURATION_BOUNDS) + 1)
        self.seconds = 0.0
        self.bytes_discarded = 0
        self._bytes_of_closed = 0
        self._conversation = _CONVERSATIONS[detail]
        self._proxy_headers = proxy_headers
        self._clock = clock
        self._tally: Tally | None = None
        self._waiting_for_empty: list[Deferred[None]] = []

    @property
    def live(self) -> int:
        """How many conversations there are now."""
        return len(self.conversations)

    @property
    def bytes_echoed(self) -> int:
        """Bytes returned in all, those of the live conversations included."""
        return self._bytes_of_closed + sum(each.bytes_echoed for each in self.conversations)

    def buildProtocol(self, addr: IAddress | None) -> Conversation:  # type: ignore[override]
        """Make the server's end of a new conversation."""
        conversation = self._conversation()
        conversation.factory = self
        conversation.client = addr
        return conversation

    def top_sources(self, count: int) -> list[tuple[str, int]]:
        """Return the sources with the most live conversations, and how many each has.

        :param count: how many sources at the most.
        """
        sources = Counter(source(each.client) for each in self.conversations)
        del sources[None]
        return [(name, live) for name, live in sources.most_common(count) if name is not None]

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires once no conversation is live."""
        if not self.conversations:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_empty.append(waiting)
        return waiting

    def refuse(self, conversation: Conversation, reason: str, why: str) -> None:
        """Turn a client away, and say so at most once a second for each reason.

        :param conversation: what it has begun.
        :param reason: what it is counted under in ``refused``.
        :param why: the same for people.
        """
        conversation.refused = reason
        self.refused[reason] += 1
        if self._tally is None:
            self._tally = Tally(self._log, self._time())
        self._tally.tell(
            reason, "refused {client}: {why}", client=self._client(conversation), why=why
        )
        transport = conversation.transport
        transport.unregisterProducer()
        transport.pauseProducing()
        transport.loseConnection()

    def _time(self) -> Any:
        if self._clock is None:
            from twisted.internet import reactor

            self._clock = reactor
        return self._clock

    def _opened(self, conversation: Conversation) -> None:
        self.accepted += 1
        self.conversations.add(conversation)
        if self._proxy_headers is not None:
            self._proxy_headers.take(
                conversation, self._time(), self._identified, self._refuse_header
            )

    def _identified(self, conversation: Conversation, payload: bytes) -> None:
        """It is known whose the conversation is; what has come of its payload is taken now."""
        if payload:
            conversation.dataReceived(payload)

    def _refuse_header(self, conversation: Conversation, why: str) -> None:
        self.refuse(conversation, "proxy", why)

    def _tell_opened(self, conversation: Conversation) -> None:
        if conversation.via is None:
            self._log.info("opened {client}", client=self._client(conversation))
        else:
            self._log.info(
                "opened {client} via {via}",
                client=self._client(conversation),
                via=format_address(conversation.via),
            )

    def _closed(self, conversation: Conversation, reason: Failure) -> None:
        self.conversations.discard(conversation)
        self._bytes_of_closed += conversation.bytes_echoed
        self.bytes_discarded += conversation.bytes_discarded
        failed = not (conversation.refused or isinstance(reason.value, ConnectionDone))
        self.failed += failed
        if not (conversation.bytes_echoed or conversation.bytes_discarded or conversation.refused):
            self.silent += 1
        seconds = time.monotonic() - conversation.opened
        self.seconds += seconds
        self.durations[bisect_left(DURATION_BOUNDS, seconds)] += 1
        if conversation.told:
            self._log.info(
                "closed {client}: {bytes} bytes in {seconds:.3f} s{error}",
                client=self._client(conversation),
                bytes=conversation.bytes_echoed,
                seconds=seconds,
                error=f", {reason.getErrorMessage()}" if failed else "",
            )
        if not self.conversations:
            waiting, self._waiting_for_empty = self._waiting_for_empty, []
            for each in waiting:
                each.callback(None)

    @staticmethod
    def _client(conversation: Conversation) -> str:
        assert conversation.client is not None
        return format_address(conversation.client)


_CONVERSATIONS = {
    LogDetail.LISTENING: Conversation,
    LogDetail.CONNECTIONS: _ToldConversation,
    LogDetail.CHUNKS: _LoggedConversation,
}
