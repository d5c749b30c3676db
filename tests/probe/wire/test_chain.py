"""Chains of proxies on sockets. One handler plays all proxies of the chain and the echo."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from echoproto.probe.script.conversation import Conversation
from echoproto.probe.wire.connector import REMOTE_RATE, Connector
from echoproto.probe.wire.first_connection import connect, place
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.opening import open_now
from echoproto.probe.wire.ping import pings
from echoproto.probe.wire.run import run, run_all
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Action, Fault
from tests.probe.conftest import Certificates, Handler, echo, serving

LIMITS = Limits(stall=5, half_close=True)
SCRIPT = Conversation.parse("send 00..ff; await; send 01*70000; fin")


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def socks5(sock: socket.socket, early: bytes = b"") -> str:
    """Play a SOCKS5 proxy to the end of its dialog; return where it should connect to."""
    exactly(sock, exactly(sock, 2)[1])
    sock.sendall(b"\x05\0")
    name = exactly(sock, exactly(sock, 5)[4])
    port = exactly(sock, 2)
    sock.sendall(b"\x05\0\0\x01\x7f\0\0\1\0\x07" + early)
    return f"{name.decode()}:{int.from_bytes(port, 'big')}"


def http(sock: socket.socket, early: bytes = b"") -> str:
    """The same of CONNECT."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += sock.recv(1)
    sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + early)
    return data.split()[1].decode()


@contextlib.contextmanager
def chained(handler: Handler, *urls: str, target: str = "echo.example:7", **options: object
            ) -> Iterator[Connector]:  # fmt: skip
    """A connector to the target via these proxies, the first of which is the handler's."""
    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        first = urls[0].replace("*", f"127.0.0.1:{listener.getsockname()[1]}")
        parsed = Target.parse(target, via=[first, *urls[1:]], **options)  # type: ignore[arg-type]
        yield Connector(parsed, parsed.addresses()[0], rate=1e6)


def test_a_chain_carries_bytes_and_half_close() -> None:
    asked = []

    def handler(sock: socket.socket) -> None:
        asked.append([http(sock), socks5(sock), socks5(sock)])
        echo(sock)

    with chained(handler, "http://*", "socks5://b.example:2", "socks5://c.example:3") as made:
        outcome = run(SCRIPT, made, LIMITS)
    assert outcome.ok, outcome.verdict.message
    assert asked == [["b.example:2", "c.example:3", "echo.example:7"]]


def test_the_time_in_the_chain_is_not_the_echo_s() -> None:
    told = threading.Event()

    def handler(sock: socket.socket) -> None:
        assert not told.wait(0.15)  # the proxy takes its time
        socks5(sock)
        echo(sock)

    with chained(handler, "socks5://*") as made:
        outcome = run(Conversation.parse("send 00; await"), made, LIMITS)
    connected = next(e for e in outcome.timelines[0] if e.action is Action.CONNECTED)
    assert connected.at >= 0.15
    assert outcome.round_trips[0][1] <= outcome.seconds - connected.at


def test_openings_do_not_wait_for_each_other() -> None:
    """All of them are with the proxy before it answers the first."""
    count = 8
    together = threading.Barrier(count)
    listener = socket.create_server(("127.0.0.1", 0))

    def play(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            together.wait(10)
            socks5(sock)
            echo(sock)

    def serve() -> None:
        for _ in range(count):
            threading.Thread(target=play, args=(listener.accept()[0],), daemon=True).start()

    with listener:
        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        target = Target.parse("a:7", via=[f"socks5://127.0.0.1:{port}"])
        made = Connector(target, target.addresses()[0], rate=1e6)
        outcomes = run_all([Conversation.parse("send 00; fin")] * count, made, LIMITS)
    assert [outcome.kind for outcome in outcomes] == [Fault.NONE] * count


@pytest.mark.parametrize("proxy", [http, socks5])
def test_bytes_behind_the_proxys_answer_are_the_targets(
    proxy: Callable[[socket.socket, bytes], str],
) -> None:
    def handler(sock: socket.socket) -> None:
        proxy(sock, b"hello")
        echo(sock)

    with chained(handler, "http://*" if proxy is http else "socks5://*") as made:
        outcome = run(Conversation.parse("send 68 65; await"), made, LIMITS)
    assert outcome.kind is Fault.EXTRA
    assert outcome.verdict.got.startswith(b"hello")


def test_over_tls_to_the_proxy_and_to_the_target(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)

    def handler(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            http(secure)
            inner = _Inner(context, secure)
            while data := inner.recv():
                inner.send(data)
            inner.close()

    with chained(handler, "https://*", target="tls:localhost:7", ca=certificates.cert) as made:
        outcome = run(Conversation.parse("send 00..ff; await; send 01*30000; await"), made,
                      Limits(stall=5, half_close=False))  # fmt: skip
        assert outcome.ok, outcome.verdict.message
        assert made.tls_version == "TLSv1.3"


class _Inner:
    """The server's side of TLS within TLS."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._sock, self._in, self._out = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    def recv(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._flush()
                data = self._sock.recv(65536)
                if not data:
                    return b""
                self._in.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        self._sock.sendall(self._out.read())


def test_a_certificate_of_a_proxy_is_verified(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)

    def handler(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(sock, server_side=True).close()

    with chained(handler, "https://bob:sesame@*") as made:
        opening = open_now(made, 5)
    assert "proxy https://bob:***@127.0.0.1:" in opening.error
    assert "no TLS: the certificate is not accepted" in opening.error
    assert "sesame" not in opening.error


def test_the_proxy_that_fails_is_named() -> None:
    def handler(sock: socket.socket) -> None:
        http(sock)
        exactly(sock, 3)
        sock.sendall(b"\x05\xff")

    with chained(handler, "http://*", "socks5://b.example:2") as made:
        outcome = run(SCRIPT, made, LIMITS)
        (reply,) = pings(made, 1)
        with pytest.raises(TargetError) as caught:
            connect(made.target)
    message = "proxy socks5://b.example:2: it demands a user name and a password"
    assert outcome.kind is reply.kind is Fault.REFUSED
    assert outcome.verdict.message == reply.message == f"no connection: {message}"
    assert str(caught.value) == f"cannot connect to {made.target}: {message}"


def test_a_proxy_that_closes_or_says_nothing() -> None:
    release = threading.Event()

    def handler(sock: socket.socket) -> None:
        http(sock)
        release.wait(10)
        sock.recv(64)  # closing with unread bytes would reset

    with chained(handler, "http://*", "socks5://b.example:2") as made:
        try:
            opening = open_now(made, 0.05)
        finally:
            release.set()
        message = "no connection: proxy socks5://b.example:2:"
        assert opening.error == f"{message} no answer in 0.05 s"
        assert open_now(made, 5).error == f"{message} it closed the connection"


def test_nothing_listens_at_the_first_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"socks5://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(TargetError) as caught:
        connect(Target.parse("a:7", via=[url]))
    assert str(caught.value) == (
        f"cannot connect to a:7 via {url}: proxy {url}: connection refused (nothing listens there)"
    )


def test_a_header_goes_to_the_target_and_not_to_the_proxy() -> None:
    got = []

    def handler(sock: socket.socket) -> None:
        socks5(sock)
        got.append(exactly(sock, 15))
        echo(sock)

    with chained(handler, "socks5://*", send_proxy="v1") as made:
        assert run(SCRIPT, made, LIMITS).ok
    assert got == [b"PROXY UNKNOWN\r\n"]


def test_proxies_are_for_people_part_of_the_place() -> None:
    target = Target.parse("a:7", via=["socks5://bob:p@127.0.0.1:9"])
    made = Connector(target, target.addresses()[0])
    assert place(made) == "a:7 via socks5://bob:***@127.0.0.1:9"
    assert made._interval == 1 / REMOTE_RATE
    with pytest.raises(TargetError, match="'urgent' needs TCP without TLS"):
        run(Conversation.parse("urgent 61"), made, LIMITS)
