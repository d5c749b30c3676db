from __future__ import annotations

import contextlib
import itertools
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from echoproto.probe.script.conversation import Conversation
from echoproto.probe.wire import banner
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.ping import pings
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Fault, Outcome
from tests.probe.conftest import echo, serving

LIMITS = Limits(stall=5, half_close=True)
SCRIPT = Conversation.parse("send 00..ff; await; fin")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "SILENCE", 0.03)


@contextlib.contextmanager
def greeting(greet: Callable[[socket.socket], None], skip: bool = True) -> Iterator[Connector]:
    """A connector to an echo that does so first."""

    def handler(sock: socket.socket) -> None:
        greet(sock)
        echo(sock)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        yield connect(Target.parse(f"127.0.0.1:{port}", skip_banner=skip))


def kinds(outcomes: list[Outcome]) -> list[Fault]:
    return [outcome.kind for outcome in outcomes]


def test_a_banner_is_dropped_on_every_connection() -> None:
    with greeting(lambda sock: sock.sendall(b"220 hello\r\n")) as made:
        assert kinds([run(SCRIPT, made, LIMITS) for _ in range(3)]) == [Fault.NONE] * 3
        assert [reply.kind for reply in pings(made, 2, 0)] == [Fault.NONE] * 2


def test_without_the_option_it_is_extra() -> None:
    with greeting(lambda sock: sock.sendall(b"220 hello\r\n"), skip=False) as made:
        assert run(Conversation.parse("pause 20; send 00"), made, LIMITS).kind is Fault.EXTRA


def test_a_banner_may_have_a_counter() -> None:
    count = itertools.count(8)  # it gets a digit more
    with greeting(lambda sock: sock.sendall(b"connection %d.\n" % next(count))) as made:
        assert kinds([run(SCRIPT, made, LIMITS) for _ in range(4)]) == [Fault.NONE] * 4


def test_a_shorter_banner_ends_with_silence() -> None:
    texts = iter([b"welcome, welcome!\n", b"welcome!\n", b"welcome, welcome!\n"])
    with greeting(lambda sock: sock.sendall(next(texts))) as made:
        outcomes = [run(SCRIPT, made, LIMITS) for _ in range(2)]
    assert kinds(outcomes) == [Fault.NONE] * 2
    assert outcomes[0].seconds >= 0.03


def test_no_banner_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "FIRST_BYTE", 0.15)
    with greeting(lambda sock: None) as made:
        outcomes = [run(SCRIPT, made, LIMITS) for _ in range(3)]
    assert kinds(outcomes) == [Fault.NONE] * 3
    assert min(outcome.seconds for outcome in outcomes) < 0.15


def test_what_comes_behind_the_banner_is_not_dropped() -> None:
    greetings = itertools.count()

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"hello\n")
        if next(greetings):
            sock.recv(1)
            sock.sendall(b"?")

    with greeting(greet) as made:
        assert run(Conversation.parse("send 00; send 01"), made, LIMITS).kind is Fault.CORRUPT


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"busy\n", r"closed the connection after its banner 'busy\n'"),
        (b"", "closed the connection after no banner"),
        (bytes(100_000), "a banner of more than 65536 bytes"),
    ],
)
def test_a_server_that_does_not_go_on(text: bytes, complaint: str) -> None:
    def handler(sock: socket.socket) -> None:
        sock.sendall(text)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TargetError, match=re.escape(complaint)):
            connect(Target.parse(place, skip_banner=True))


def test_a_banner_that_is_waited_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "FIRST_BYTE", 5)
    with serving(echo, socket.create_server(("127.0.0.1", 0))) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TargetError, match=r"waiting for a banner: no answer in 0\.05 s"):
            connect(Target.parse(place, skip_banner=True), timeout=0.05)
