"""The status port as HTTP: a few paths, one request per connection.

Anything may be sent to this port, so it takes only what it needs: GET and HEAD, no
body, paths compared byte by byte, and nothing decoded, so that no two spellings name the
same page. A connection ends with its answer, so that nothing that follows a request can
be mistaken for another one; and it ends ten seconds after it began at the latest.

Twisted's parser refuses what is not HTTP/1.0 or 1.1 (RFC 9112). What it accepts and this
site refuses: folded header lines, bodies, and a missing, second or unknown Host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from echoproto.status.collector import Collector
from echoproto.status.metrics import CONTENT_TYPE, exposition

_log = Logger(namespace="echoproto")

# Seconds from the connection to the end of the answer.
_TIME_LIMIT = 10.0

# More than ever watch one server. When there is one more, the oldest is closed, so that
# connections that are merely held open keep no other out.
_MAX_CONNECTIONS = 64

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_UNKNOWN_HOST = b"unknown Host; allowed: an IP address, localhost, and the names of --status-host\n"
# A port after the host, and the brackets of an IPv6 address (RFC 9110, 7.2; RFC 3986, 3.2.2).
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?", re.ASCII)
_TEXT = "text/plain; charset=utf-8"
_PAGE = {
    b"": ("index.html", "text/html; charset=utf-8"),
    b"page.css": ("page.css", "text/css; charset=utf-8"),
    b"page.js": ("page.js", "text/javascript; charset=utf-8"),
}


class _Text(Resource):
    """Answers a text, and has no children."""

    def __init__(self, body: bytes = b"", kind: str = _TEXT, code: int = http.OK) -> None:
        super().__init__()
        self._body = body
        self._kind = kind
        self._code = code

    def getChild(self, path: bytes, request: http.Request) -> Resource:
        """Return what every path below a page is: not found."""
        return _Text(b"no such page\n", code=http.NOT_FOUND)

    def render(self, request: Any) -> bytes:
        """Answer GET and HEAD with the text; refuse the other methods."""
        if request.method in (b"GET", b"HEAD"):
            code, kind, body = self._answer(request)
        else:
            request.setHeader("Allow", "GET, HEAD")
            code, kind, body = http.NOT_ALLOWED, _TEXT, b"GET and HEAD only\n"
        request.setResponseCode(code)
        request.responseHeaders.removeHeader("Server")
        for name, value in {**_HEADERS, "Content-Type": kind}.items():
            request.setHeader(name, value)
        if request.method != b"HEAD":
            return body
        # Twisted takes the length of what is returned only if that is not empty, and then
        # logs a warning.
        request.setHeader("Content-Length", str(len(body)))
        return b""

    def _answer(self, request: Any) -> tuple[int, str, bytes]:
        """Return the status, the media type and the body."""
        return self._code, self._kind, self._body


class _Live(_Text):
    """Answers with something that is found out for each request."""

    def __init__(self, answer: Callable[[], tuple[int, str, bytes]]) -> None:
        super().__init__()
        self._find_out = answer

    def _answer(self, request: Any) -> tuple[int, str, bytes]:
        try:
            return self._find_out()
        except Exception:
            _log.failure("cannot answer {path!r}", path=request.path)
            return http.INTERNAL_SERVER_ERROR, _TEXT, b"it failed; the log says why\n"


def _check(trouble: str | None, impaired: str | None) -> tuple[int, str, bytes]:
    if trouble is None:
        return http.OK, _TEXT, f"ok; {impaired}\n".encode() if impaired else b"ok\n"
    return http.SERVICE_UNAVAILABLE, _TEXT, f"{trouble}\n".encode()


def _pages(collector: Collector) -> Resource:
    """Return the root, with all pages."""
    root = _Text()
    here = files("echoproto.status").joinpath("page")
    for path, (name, kind) in _PAGE.items():
        root.putChild(path, _Text(here.joinpath(name).read_bytes(), kind))

    def metrics() -> tuple[int, str, bytes]:
        return http.OK, CONTENT_TYPE, exposition(collector.collect())

    def status() -> tuple[int, str, bytes]:
        shown = collector.collect(sources=True).as_json()
        return http.OK, "application/json", json.dumps(shown).encode()

    def healthz() -> tuple[int, str, bytes]:
        health = collector.health()
        return _check(health.not_healthy, health.impaired)

    def readyz() -> tuple[int, str, bytes]:
        health = collector.health()
        return _check(health.not_ready, health.impaired)

    root.putChild(b"metrics", _Live(metrics))
    root.putChild(b"status.json", _Live(status))
    root.putChild(b"healthz", _Live(healthz))
    root.putChild(b"readyz", _Live(readyz))
    return root


class _Request(Request):
    """One request."""

    channel: _Channel

    def process(self) -> None:
        """Answer with a page, unless the request is not plain."""
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or (not hosts and self.clientproto == b"HTTP/1.1"):
            self._render(_Text(b"one Host is needed\n", code=http.BAD_REQUEST))
        elif hosts and not self.channel.site.knows(hosts[0]):
            self._render(_Text(_UNKNOWN_HOST, code=http.FORBIDDEN))
        elif not self.path.startswith(b"/") or b"%" in self.path:
            # Twisted decodes what is between the slashes, and takes a path without one.
            self._render(_Text(b"no such page\n", code=http.NOT_FOUND))
        else:
            super().process()

    def _render(self, refusal: Resource) -> None:
        self.site = self.channel.site
        self.render(refusal)


class _Channel(http.HTTPChannel):
    """One connection, with one request.

    A subclass, since what it refuses never becomes a request that a resource could refuse.
    """

    maxHeaders = 100
    totalHeadersSize = 16384
    site: StatusSite
    transport: Any
    _end: IDelayedCall

    def connectionMade(self) -> None:
        """Begin to count the time."""
        super().connectionMade()
        self.site.opened(self)
        self._end = self.callLater(_TIME_LIMIT, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        if self._end.active():
            self._end.cancel()
        self.site.closed(self)
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
        """Refuse a body, in whichever way it is announced, and a line break within a line."""
        if re.search(rb"[\r\n\0]", line):
            # Twisted does so from 25.5 on.
            self._refuse(http.BAD_REQUEST)
            return False
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
class StatusSite(Site):
    """The site of a service's status; it bounds how many connections there are."""

    noisy = False
    # Twisted wraps its own, to switch to HTTP/2, and has no name for both.
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, collector: Collector, reactor: Any, hosts: Iterable[str] = ()) -> None:
        """Make a site without connections.

        :param collector: gathers what there is to show.
        :param reactor: counts the time.
        :param hosts: the names of this server, besides its addresses and ``localhost``.
        """
        self._hosts = {"localhost", *(each.lower().rstrip(".") for each in hosts)}
        # A connection counts its own time, from its begin and not from the last byte.
        super().__init__(_pages(collector), _Request, timeout=None, reactor=reactor)
        # In the order in which they were opened.
        self._channels: dict[_Channel, None] = {}

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make room for one more connection, and make it."""
        if len(self._channels) >= _MAX_CONNECTIONS:
            oldest = next(iter(self._channels))
            # It is closed in the reactor's next turn, before which more may come.
            self.closed(oldest)
            oldest.transport.abortConnection()
        return super().buildProtocol(addr)

    def opened(self, channel: _Channel) -> None:
        """Add a connection."""
        self._channels[channel] = None

    def closed(self, channel: _Channel) -> None:
        """Remove a connection."""
        self._channels.pop(channel, None)

    def knows(self, host: bytes) -> bool:
        """Tell whether a ``Host`` is one of this server.

        A page of any name can have its browser send requests here, if the name is made
        to resolve to this server (DNS rebinding). It cannot do that with an address.

        :param host: the value of the header, with or without a port.
        """
        match = _HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            return False
        bracketed, name = match.groups()
        return bool(
            isIPv6Address(bracketed)
            if bracketed is not None
            else isIPAddress(name) or name.lower().rstrip(".") in self._hosts
        )

    def close(self) -> None:
        """End all connections, once what was answered is sent."""
        for channel in tuple(self._channels):
            channel.loseConnection()

    def acceptableProtocols(self) -> list[bytes]:
        """Return what a TLS client may choose.

        Without an answer Twisted ends the handshake with every client that offers a
        choice (ALPN), as browsers do.
        """
        return [b"http/1.1"]

    # Twisted's would open an access log, and keep its time of day.

    def startFactory(self) -> None:
        """Do nothing."""

    def stopFactory(self) -> None:
        """Do nothing."""

    def log(self, request: http.Request) -> None:
        """Log nothing of a request: there is one each second for each page that is open."""
