"""The status port as HTTP, on transports that are played."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from echoproto.status.site import StatusSite
from tests.logs import logged
from tests.status.played import REPORT, WELL, FakeCollector, snapshot


class Transport(StringTransport):
    """One whose end is noted, and told to the protocol as a reactor would."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


class Client:
    """One connection to the status port."""

    def __init__(self, site: StatusSite) -> None:
        self.transport = Transport()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def code(self) -> int:
        version, code, _ = self.transport.value().split(b" ", 2)
        assert version in (b"HTTP/1.1", b"HTTP/1.0")
        return int(code)

    @property
    def headers(self) -> dict[bytes, bytes]:
        head = self.transport.value().split(b"\r\n\r\n")[0]
        lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
        return {name.lower(): value for name, value in lines}

    @property
    def body(self) -> bytes:
        return bytes(self.transport.value().split(b"\r\n\r\n", 1)[1])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector() -> FakeCollector:
    return FakeCollector()


@pytest.fixture
def site(collector: Any, clock: Clock) -> StatusSite:
    return StatusSite(collector, clock, ["x"])


def ask(site: StatusSite, request: bytes) -> Client:
    client = Client(site)
    client.send(request)
    return client


def get(site: StatusSite, path: str, method: str = "GET") -> Client:
    return ask(site, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", b"text/html; charset=utf-8"),
        ("/page.css", b"text/css; charset=utf-8"),
        ("/page.js", b"text/javascript; charset=utf-8"),
        ("/status.json", b"application/json"),
        ("/metrics", b"text/plain; version=0.0.4; charset=utf-8"),
        ("/metrics?name=x", b"text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", b"text/plain; charset=utf-8"),
        ("/readyz", b"text/plain; charset=utf-8"),
    ],
)
def test_what_is_there(site: StatusSite, path: str, kind: bytes) -> None:
    client = get(site, path)
    assert client.code == 200
    assert client.headers[b"content-type"] == kind
    assert int(client.headers[b"content-length"]) == len(client.body) > 0
    assert client.headers[b"cache-control"] == b"no-store"
    assert client.headers[b"connection"] == b"close"
    assert client.headers[b"content-security-policy"].startswith(b"default-src 'none'; ")
    assert b"server" not in client.headers
    assert client.transport.disconnecting
    head = get(site, path, "HEAD")
    assert head.code == 200
    assert head.body == b""
    assert int(head.headers[b"content-length"]) > 0


def test_the_page_names_nothing_outside(site: StatusSite) -> None:
    for path in ("/", "/page.css", "/page.js"):
        body = get(site, path).body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"://" not in body
        assert b"innerHTML" not in body


def test_only_the_page_counts_the_sources(site: StatusSite, collector: FakeCollector) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/status.json", "/", "/page.js", "/nothing"):
        get(site, path)
    # A check of the health asks for none of it.
    assert collector.asked == [False, True]


def test_what_json_says(site: StatusSite) -> None:
    told = json.loads(get(site, "/status.json").body)
    assert told["total"]["accepted"] == REPORT.stats.accepted
    assert told["total"]["sources"] == [["192.0.2.1", 2], ["2001:db8::/64", 1]]


def test_a_drain(site: StatusSite, collector: FakeCollector) -> None:
    assert (get(site, "/readyz").code, get(site, "/readyz").body) == (200, b"ok\n")
    collector.told = snapshot(health=replace(WELL, draining=True))
    assert (get(site, "/readyz").code, get(site, "/readyz").body) == (503, b"draining\n")
    assert (get(site, "/healthz").code, get(site, "/healthz").body) == (200, b"ok\n")


def test_no_worker_answers(site: StatusSite, collector: FakeCollector) -> None:
    collector.told = snapshot(health=replace(WELL, answering=0))
    assert get(site, "/healthz").code == get(site, "/readyz").code == 503


PATHS = [
    "/nothing", "//", "//metrics", "/metrics/", "/metrics/.", "/metrics/..;/", "/../metrics",
    "/./metrics", "/%2e%2e/metrics", "/%6detrics", "/metrics%00", "/metrics;x", "/metrics#x",
    "/METRICS", "metrics", "*", "http://x/metrics", "/index.html", "/page/index.html",
    "/..%2f..%2fetc/passwd", "/\u00ff",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_other_spelling_names_a_page(site: StatusSite, path: str) -> None:
    client = get(site, path)
    assert 400 <= client.code < 500
    assert client.transport.disconnecting


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods(site: StatusSite, method: str) -> None:
    client = get(site, "/metrics", method)
    assert client.code == 405
    assert client.headers[b"allow"] == b"GET, HEAD"


HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = {
    "HTTP/0.9": b"GET /metrics\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": b"GET /metrics HTTP/1.1\r\n\r\n",
    "two Hosts": HEAD + b"Host: y\r\n\r\n",
    "two Hosts in 1.0": b"GET /metrics HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "a body": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "a body with zeros before": HEAD + b"Content-Length: 0005\r\n\r\nhello",
    "a body without end": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a length that is none": HEAD + b"Content-Length: +0\r\n\r\n",
    "a length below nothing": HEAD + b"Content-Length: -1\r\n\r\n",
    "a list of lengths": HEAD + b"Content-Length: 0, 0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks, otherwise written": HEAD + b"tRANSFER-eNCODING:\txchunked\r\n\r\n0\r\n\r\n",
    "the identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "chunks and a length": HEAD
    + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "a length and chunks": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "a space before the colon": HEAD + b"Content-Length : 0\r\n\r\n",
    "a folded header": HEAD + b"X: a\r\n b\r\n\r\n",
    "a folded first header": b"GET /metrics HTTP/1.1\r\n Host: x\r\n\r\n",
    "a header without colon": HEAD + b"nothing\r\n\r\n",
    "a header without name": HEAD + b": nothing\r\n\r\n",
    "LF alone": HEAD + b"X: a\nContent-Length: 40\r\n\r\n" + SMUGGLED,
    "CR alone": HEAD + b"X: a\rContent-Length: 40\r\n\r\n" + SMUGGLED,
    "NUL in a header": HEAD + b"X: \0\r\n\r\n",
    "NUL in the path": b"GET /metrics\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "spaces": b"GET  /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "a version of one's own": b"GET /metrics HTTP/1.9\r\nHost: x\r\n\r\n",
    "many headers": HEAD + b"X: y\r\n" * 200 + b"\r\n",
    "long headers": HEAD + b"X: " + b"y" * 9000 + b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    "a long line": b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a line without end": b"a" * 20000,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
}


@pytest.mark.parametrize("request_", BAD.values(), ids=BAD)
@pytest.mark.parametrize("piece", [1, 10**9])
def test_what_is_no_plain_request(site: StatusSite, request_: bytes, piece: int) -> None:
    client = Client(site)
    for at in range(0, len(request_), piece):
        # A reactor reads no more once the connection is to be closed.
        if not client.transport.disconnecting:
            client.send(request_[at : at + piece])
    assert 400 <= client.code < 500
    assert client.transport.value().count(b"HTTP/1.") == 1
    assert client.transport.disconnecting


def test_a_second_request_is_not_read(site: StatusSite) -> None:
    client = ask(site, SMUGGLED + SMUGGLED)
    assert client.transport.value().count(b"HTTP/1.1 200") == 1
    assert client.transport.disconnecting


def test_http_1_0_needs_no_host(site: StatusSite) -> None:
    assert ask(site, b"GET /readyz HTTP/1.0\r\n\r\n").code == 200


def test_a_body_of_nothing_is_no_body(site: StatusSite) -> None:
    assert ask(site, HEAD + b"Content-Length: 0\r\n\r\n").code == 200


def test_a_request_lasts_ten_seconds_at_most(site: StatusSite, clock: Clock) -> None:
    client = Client(site)
    for byte in b"GET /metrics":
        client.send(bytes([byte]))
        clock.advance(0.8)
    assert not client.transport.aborted
    clock.advance(0.8)
    assert client.transport.aborted
    client.lose()
    assert clock.getDelayedCalls() == []


def test_open_connections_do_not_keep_others_out(site: StatusSite, clock: Clock) -> None:
    holders = [Client(site) for _ in range(64)]
    holders[3].lose()
    assert get(site, "/healthz").code == 200
    assert not any(each.transport.aborted for each in holders)
    assert get(site, "/healthz").code == 200
    assert get(site, "/healthz").code == 200
    assert [each.transport.aborted for each in holders] == [True] * 2 + [False] * 62


def test_what_fails_is_logged_and_not_shown(site: StatusSite, collector: FakeCollector) -> None:
    collector.error = RuntimeError("the secret")
    with logged() as lines:
        client = get(site, "/healthz")
    assert client.code == 500
    assert b"secret" not in client.transport.value()
    assert "cannot answer b'/healthz'" in lines.text


def test_nothing_is_logged_of_a_request(site: StatusSite) -> None:
    site.startFactory()
    with logged() as lines:
        get(site, "/metrics")
        get(site, "/nothing")
    site.stopFactory()
    assert lines.events == []


def test_the_end(site: StatusSite) -> None:
    client = Client(site)
    site.close()
    assert client.transport.disconnecting


def test_a_tls_client_is_offered_what_it_is(site: StatusSite) -> None:
    assert verifyObject(IProtocolNegotiationFactory, site)
    assert site.acceptableProtocols() == [b"http/1.1"]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:9998", True),
        ("192.0.2.1:", True),
        ("[::1]", True),
        ("[2001:db8::1]:9998", True),
        ("localhost", True),
        ("LOCALHOST:9998", True),
        ("localhost.", True),
        ("echo.example", True),
        ("Echo.Example.:80", True),
        ("evil.example", False),
        ("evil.example:9998", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.1", False),
        ("0x7f000001", False),
        ("[localhost]", False),
        ("::1", False),
        ("", False),
        (":80", False),
        ("localhost:80:80", False),
        ("evil@localhost", False),
        ("localhost, evil.example", False),
        ("\xe9", False),
    ],
)
@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/healthz"])
def test_an_unknown_host_is_refused(
    collector: Any, clock: Clock, host: str, path: str, known: bool
) -> None:
    """DNS rebinding: a browser's page of that name would read the answer."""
    site = StatusSite(collector, clock, ["echo.example"])
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    client = ask(site, request.encode("latin-1"))
    assert client.code == (200 if known else 403)
    if not known:
        assert client.body == (
            b"unknown Host; allowed: an IP address, localhost, and the names of --status-host\n"
        )
        assert not collector.asked


def test_a_health_check_without_a_host_is_answered(site: StatusSite) -> None:
    assert ask(site, b"GET /healthz HTTP/1.0\r\n\r\n").code == 200
