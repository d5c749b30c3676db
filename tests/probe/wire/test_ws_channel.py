"""WebSocket against a server in this process, whose framing is wsproto's too."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
import wsproto
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.search.preflight import preflight
from echoproto.probe.wire import banner
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.ping import pings
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Action, Fault
from tests.probe.conftest import Certificates, serving

LIMITS = Limits(stall=5, half_close=False)
Answer = Callable[[Event], list[Event]]


def echo(event: Event) -> list[Event]:
    """Answer as an echo."""
    if isinstance(event, Request):
        return [AcceptConnection()]
    if isinstance(event, BytesMessage):
        return [BytesMessage(event.data)]
    return [event.response()] if isinstance(event, CloseConnection | Ping) else []


class Server:
    """Serves connections one after the other; keeps what it was told."""

    def __init__(self, answer: Answer = echo, context: ssl.SSLContext | None = None) -> None:
        self.events: list[Event] = []
        self._answer, self._context = answer, context

    def __call__(self, sock: socket.socket) -> None:
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True)
        with sock:
            connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
            while data := sock.recv(65536):
                connection.receive_data(data)
                for event in connection.events():
                    self.events.append(event)
                    with contextlib.suppress(LocalProtocolError):  # nothing follows its Close
                        sock.sendall(b"".join(map(connection.send, self._answer(event))))


@contextlib.contextmanager
def served(server: Server, scheme: str = "ws", **options: object) -> Iterator[Connector]:
    with serving(server, socket.create_server(("127.0.0.1", 0))) as listener:
        text = f"{scheme}://localhost:{listener.getsockname()[1]}/echo?a=b"
        target = Target.parse(text, family="4", **options)  # type: ignore[arg-type]
        yield Connector(target, target.addresses()[0])


@pytest.mark.parametrize(
    "script",
    [
        "nothing",
        "send 00..ff; await; send 01",
        "send 01*300000; await",
        "slow 2000000; send 01*100000",
        "send 61; fin",
        "send 61; await; reset",
        "send 61 then send 62",
    ],
)
def test_binary_messages_are_the_bytes(script: str) -> None:
    server = Server()
    with served(server) as made:
        outcome = run(Session.parse(script), made, LIMITS)
    assert outcome.ok, outcome.verdict.message
    request = next(event for event in server.events if isinstance(event, Request))
    assert request.target == "/echo?a=b"
    assert request.host == f"localhost:{made.target.port}"
    # A FIN would end both directions.
    assert Action.SENT_FIN not in [event.action for event in outcome.timelines[0]]
    if "reset" not in script:
        assert isinstance(server.events[-1], CloseConnection)


def test_pings_over_tls(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    with served(Server(context=context), "wss", ca=certificates.cert) as made:
        assert [reply.kind for reply in pings(made, 3, 0)] == [Fault.NONE] * 3


def test_a_close_frame_is_eof() -> None:
    def closes(event: Event) -> list[Event]:
        if isinstance(event, BytesMessage):
            return [BytesMessage(event.data[:1]), CloseConnection(1000)]
        return echo(event)

    with served(Server(closes)) as made:
        outcome = run(Conversation.parse("send 61 62; await"), made, LIMITS)
    assert (outcome.kind, outcome.verdict.received) == (Fault.TRUNCATED, 1)
    assert outcome.seconds < 5


def test_a_ping_is_answered_and_a_text_counts() -> None:
    def answer(event: Event) -> list[Event]:
        if isinstance(event, BytesMessage):
            return [Ping(b"x"), TextMessage(event.data.decode())]
        return echo(event)

    server = Server(answer)
    with served(server) as made:
        outcome = run(Conversation.parse('send "é"; await; send 61'), made, LIMITS)
    assert outcome.ok, outcome.verdict.message
    assert "Pong" in [type(event).__name__ for event in server.events]


def test_a_greeting_is_a_banner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "SILENCE", 0.03)

    def greets(event: Event) -> list[Event]:
        if isinstance(event, Request):
            return [AcceptConnection(), TextMessage("Request served by a")]
        return echo(event)

    with served(Server(greets), skip_banner=True) as made:
        made = connect(made.target)
        assert run(Conversation.parse("send 61; await"), made, LIMITS).ok


def test_what_breaks_the_protocol() -> None:
    def handler(sock: socket.socket) -> None:
        connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        connection.receive_data(sock.recv(65536))
        (_,) = connection.events()
        sock.sendall(connection.send(AcceptConnection()) + b"\xff\xff\xff")
        sock.recv(65536)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        made = Connector(target, target.addresses()[0])
        outcome = run(Conversation.parse("pause 20; send 61; await"), made, LIMITS)
    assert outcome.kind is Fault.RESET
    assert "WebSocket: " in outcome.verdict.message


def test_no_web_socket() -> None:
    server = Server(lambda _: [RejectConnection(status_code=404)])
    with served(server) as made, pytest.raises(TargetError) as caught:
        connect(made.target)
    assert str(caught.value).endswith("no WebSocket: the server answered 404")


@pytest.mark.parametrize(
    ("answer", "complaint"), [(b"", "closed the connection"), (b"x\r\n\r\n", "")]
)
def test_a_server_of_another_kind(answer: bytes, complaint: str) -> None:
    def handler(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        text = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TargetError, match=f"no WebSocket: .*{complaint}"):
            connect(Target.parse(text))


def test_there_is_no_half_close() -> None:
    server = Server()
    with served(server) as made:
        _, known = preflight(made.target, patience=1)
    assert not known.half_close
    assert known.half_close_in_words == "half-close is not possible"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ws://a", Target("ws", "a", 80, "/")),
        ("wss://a/b/c?d=e", Target("wss", "a", 443, "/b/c?d=e")),
        ("ws://[::1]:8080?x", Target("ws", "::1", 8080, "/?x")),
        ("wss://a:80/", Target("wss", "a", 80, "/")),
    ],
)
def test_urls(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    "text", ["ws://", "ws:///a", "ws://a:0", "ws://a:x", "ws://b:c@a", "ws://a/#b", "wss://a/b c"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(TargetError, match=r"must be ws://host\[:port\]\[/path\]"):
        Target.parse(text)
