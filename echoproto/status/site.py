"""The status port as HTTP: a few paths, one request a connection.

What is not needed is not there, for whoever reaches the port may send anything:
GET and HEAD alone, no body, paths compared byte by byte, and nothing decoded,
so that no two spellings name the same thing. A connection ends with the answer,
so that nothing that follows a request is ever taken for another; and it ends
ten seconds after it began at the latest.

Twisted's parser below refuses what is not HTTP/1.0 or 1.1 (RFC 9112). What it
takes and we do not: folded header lines, bodies, and a missing or a second Host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers
from zope.interface import implementer

from echoproto.status.collector import Collector
from echoproto.status.metrics import CONTENT_TYPE as METRICS
from echoproto.status.metrics import exposition
from echoproto.status.snapshot import Snapshot

_log = Logger(namespace="echoproto")

# Seconds from the connection to the end of the answer.
_TIME_LIMIT = 10.0

# More than those who watch one server ever are. One more, and the oldest goes:
# who holds connections open keeps nobody out.
_MOST_CONNECTIONS = 64

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What a request is answered.

    :ivar body: the whole of it.
    :ivar kind: its media type.
    :ivar code: the status.
    """

    body: bytes
    kind: str = _TEXT
    code: int = http.OK


def _verdict(trouble: str | None) -> Answer:
    if trouble is None:
        return Answer(b"ok\n")
    return Answer(f"{trouble}\n".encode(), code=http.SERVICE_UNAVAILABLE)


# What is told of a snapshot, by path.
_TOLD: Mapping[bytes, Callable[[Snapshot], Answer]] = {
    b"/metrics": lambda snapshot: Answer(exposition(snapshot), METRICS),
    b"/healthz": lambda snapshot: _verdict(snapshot.not_healthy),
    b"/readyz": lambda snapshot: _verdict(snapshot.not_ready),
    b"/status.json": lambda snapshot: Answer(
        json.dumps(snapshot.as_json()).encode(), "application/json"
    ),
}


def _page() -> dict[bytes, Answer]:
    """Read the page, which is the same for every server."""
    here = files("echoproto.status").joinpath("page")
    return {
        b"/": Answer(here.joinpath("index.html").read_bytes(), "text/html; charset=utf-8"),
        b"/page.css": Answer(here.joinpath("page.css").read_bytes(), "text/css; charset=utf-8"),
        b"/page.js": Answer(
            here.joinpath("page.js").read_bytes(), "text/javascript; charset=utf-8"
        ),
    }


class _Request(http.Request):
    """One request."""

    channel: _Channel

    def process(self) -> None:
        """Answer."""
        # Who is gone is not answered.
        self._gone = False
        self.notifyFinish().addErrback(self._lost)
        refusal = self._refusal()
        if refusal is not None:
            self._answer(refusal)
            return
        answering = maybeDeferred(self.channel.factory.answer, self.path)
        answering.addErrback(self._failed)
        answering.addCallback(self._answer)

    def _refusal(self) -> Answer | None:
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or (not hosts and self.clientproto == b"HTTP/1.1"):
            return Answer(b"one Host is needed\n", code=http.BAD_REQUEST)
        if self.method not in (b"GET", b"HEAD"):
            self.setHeader(b"Allow", b"GET, HEAD")
            return Answer(b"GET and HEAD only\n", code=http.NOT_ALLOWED)
        return None

    def _answer(self, answer: Answer) -> None:
        if self._gone:
            return
        self.setResponseCode(answer.code)
        for name, value in _HEADERS.items():
            self.setHeader(name, value)
        self.setHeader("Content-Type", answer.kind)
        self.setHeader("Content-Length", str(len(answer.body)))
        self.write(answer.body)
        self.finish()

    def _lost(self, _: Failure) -> None:
        self._gone = True

    def _failed(self, failure: Failure) -> Answer:
        _log.failure("cannot answer {path!r}", failure, path=self.path)
        return Answer(b"it failed; the log says why\n", code=http.INTERNAL_SERVER_ERROR)


class _Channel(http.HTTPChannel):
    """One connection, with one request."""

    requestFactory = _Request
    maxHeaders = 100
    totalHeadersSize = 16384
    factory: StatusSite
    transport: Any
    _end: IDelayedCall

    def connectionMade(self) -> None:
        """Begin to count the time."""
        super().connectionMade()
        self.factory.opened(self)
        self._end = self.callLater(_TIME_LIMIT, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        if self._end.active():
            self._end.cancel()
        self.factory.closed(self)
        super().connectionLost(reason)

    def lineReceived(self, line: bytes) -> None:
        """Refuse a folded header, which others read as a line of its own (RFC 9112, 5.2)."""
        if line[:1] in (b" ", b"\t"):
            self._refuse(http.BAD_REQUEST)
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line without an end."""
        self._refuse(http.REQUEST_URI_TOO_LONG)

    def headerReceived(self, line: bytes) -> bool:
        """Refuse a body, whichever way it is announced."""
        name, _, value = line.lower().partition(b":")
        value = value.strip(b" \t")
        if name == b"transfer-encoding":
            self._refuse(http.BAD_REQUEST)
            return False
        if name == b"content-length" and value.isdigit() and value.strip(b"0"):
            self._refuse(http.REQUEST_ENTITY_TOO_LARGE)
            return False
        return bool(super().headerReceived(line))

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """End the connection after the answer, and say so."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def _refuse(self, code: int) -> None:
        headers = Headers({"Connection": ["close"], "Content-Length": ["0"]})
        self.writeHeaders(b"HTTP/1.1", b"%d" % code, http.RESPONSES[code], headers)
        self.loseConnection()


@implementer(IProtocolNegotiationFactory)
class StatusSite(http.HTTPFactory):
    """Makes the connections of the status port, and bounds how many there are."""

    noisy = False
    # Twisted wraps its own, to switch to HTTP/2, and has no name for both.
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, collector: Collector, reactor: Any) -> None:
        """Make a site without connections.

        :param collector: gathers what there is to tell.
        :param reactor: counts the time.
        """
        # A connection counts its own time, from its begin and not from the last byte.
        super().__init__(timeout=None, reactor=reactor)  # type: ignore[arg-type]
        self._collector = collector
        self._page = _page()
        # In the order in which they came.
        self._channels: dict[_Channel, None] = {}

    def answer(self, path: bytes) -> Deferred[Answer]:
        """Return what a path says.

        :param path: as it was sent, without the query.
        """
        if path in self._page:
            return succeed(self._page[path])
        if path in _TOLD:
            collected = maybeDeferred(self._collector.collect, sources=path == b"/status.json")
            return collected.addCallback(_TOLD[path])
        return succeed(Answer(b"no such page\n", code=http.NOT_FOUND))

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make room for one more, and make it."""
        if len(self._channels) >= _MOST_CONNECTIONS:
            oldest = next(iter(self._channels))
            # It is closed in the reactor's next turn, before which more may come.
            self.closed(oldest)
            oldest.transport.abortConnection()
        return super().buildProtocol(addr)

    def opened(self, channel: _Channel) -> None:
        """Know a connection."""
        self._channels[channel] = None

    def closed(self, channel: _Channel) -> None:
        """Know it no more."""
        self._channels.pop(channel, None)

    def close(self) -> None:
        """End what connections there are, once what was answered is sent."""
        for channel in tuple(self._channels):
            channel.loseConnection()

    def acceptableProtocols(self) -> list[bytes]:
        """Return what a TLS client may choose.

        Without a word of this Twisted ends the handshake with every client that
        offers a choice (ALPN), as browsers do.
        """
        return [b"http/1.1"]

    # Twisted's would open an access log, and keep its time of day.

    def startFactory(self) -> None:
        """Do nothing."""

    def stopFactory(self) -> None:
        """Do nothing."""

    def log(self, request: http.Request) -> None:
        """Log nothing of a request: there is one each second for each page that is open."""
