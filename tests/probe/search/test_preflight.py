from __future__ import annotations

import socket
import time

import pytest

from echoproto.probe.search.preflight import NotAnEchoError, Preflight, preflight
from echoproto.probe.wire.target import Target
from tests.probe.conftest import Certificates, Handler, echo, serving
from tests.probe.faulty_paths import FAULTS, NOT_AN_ECHO, Path
from tests.probe.faulty_paths.faults import MakeRelay


def error_of(handler: Handler, scheme: str = "tcp") -> str:
    """Return the error of the preflight for a server that is not an echo."""
    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"{scheme}:127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(NotAnEchoError) as caught:
            preflight(target)
    return str(caught.value)


def answering(answer: bytes) -> Handler:
    def handler(sock: socket.socket) -> None:
        sock.recv(4)
        sock.sendall(answer)

    return handler


def test_a_correct_echo(right_target: Target) -> None:
    connector, known = preflight(right_target)
    assert connector.target is right_target
    assert known.half_close
    assert len(known.round_trips) == 24
    assert known.timeout >= 0.05
    assert known.patience >= 1
    assert known.address == str(right_target)


def test_a_banner() -> None:
    message = error_of(lambda sock: sock.sendall(b"220 mail.example ESMTP\r\n"))
    assert message == "not an echo: it sent a banner, '220 mail.example ESMTP'"


def test_a_banner_that_is_not_text() -> None:
    assert "sent a banner, ff fb 01" in error_of(lambda sock: sock.sendall(b"\xff\xfb\x01"))


def test_a_web_server() -> None:
    message = error_of(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert message == "not an echo: it answered 'HTTP/1.1 400 Bad Request'"


def test_a_discard_server() -> None:
    def handler(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    message = error_of(handler)
    assert "took 4 bytes and sent nothing back in 1" in message
    assert "(stalled)" in message


def test_a_server_that_closes_at_once() -> None:
    def handler(sock: socket.socket) -> None:
        sock.recv(4)

    assert error_of(handler).startswith("not an echo: it closed the connection without an answer")


def test_a_server_that_resets() -> None:
    def handler(sock: socket.socket) -> None:
        sock.recv(1)  # closing with the rest unread resets

    assert error_of(handler).startswith("not an echo: it reset the connection at the first bytes")


def test_a_flood() -> None:
    def handler(sock: socket.socket) -> None:
        while True:
            sock.sendall(bytes(65536))

    assert "it floods" in error_of(handler)


def test_a_tls_server_as_a_tcp_target(tls_port: int) -> None:
    target = Target.parse(f"127.0.0.1:{tls_port}")
    with pytest.raises(NotAnEchoError, match=f"it expects TLS: try tls:127.0.0.1:{tls_port}"):
        preflight(target)


def test_a_tcp_server_as_a_tls_target() -> None:
    assert "does not speak TLS" in error_of(echo, "tls")


def test_tls(tls_port: int, certificates: Certificates) -> None:
    _, known = preflight(Target.parse(f"tls:localhost:{tls_port}", ca=certificates.cert))
    assert known.round_trips
    assert known.half_close_in_words == "half-close (TLSv1.3 close_notify) survives"


@pytest.mark.parametrize(
    ("tls_version", "half_close", "words"),
    [
        ("", True, "half-close survives"),
        ("", False, "half-close does not survive"),
        ("TLSv1.2", True, "half-close (TLSv1.2 close_notify) survives"),
        (
            "TLSv1.2",
            False,
            "half-close (TLSv1.2 close_notify) does not survive, as it need not before TLSv1.3",
        ),
        ("TLSv1.3", False, "half-close (TLSv1.3 close_notify) does not survive"),
    ],
)
def test_half_close_in_words(tls_version: str, half_close: bool, words: str) -> None:
    known = Preflight("a", (1e-4,), 0.05, 1.0, half_close, tls_version)
    assert known.half_close_in_words == words


@pytest.mark.parametrize("name", sorted(NOT_AN_ECHO))
def test_a_target_that_is_not_an_echo_is_reported_in_bounded_time(name: str) -> None:
    relays: dict[str, MakeRelay] = dict(NOT_AN_ECHO)
    began = time.monotonic()
    with Path(relays[name]) as path, pytest.raises(NotAnEchoError, match="not an echo"):
        preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("name", "half_close"),
    [
        ("iac-swallowed", True),
        ("first-byte-eaten", True),
        ("last-byte-held", True),
        ("end-not-passed-on", False),
        ("end-closes-both", False),
        ("end-resets", False),
        ("trailer", True),
    ],
)
def test_a_broken_echo_is_still_an_echo(name: str, half_close: bool) -> None:
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    with Path(fault.relay) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.half_close is half_close
    assert known.timeout < 1
