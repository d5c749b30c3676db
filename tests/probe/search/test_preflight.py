from __future__ import annotations

import contextlib
import itertools
import math
import select
import socket
import ssl
import threading
import time

import pytest

from echoproto.probe.search.preflight import (
    NotAnEchoError,
    Preflight,
    StoppedError,
    preflight,
)
from echoproto.probe.wire.limits import PATIENCE
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.conftest import Certificates, Handler, echo, serving
from tests.probe.faulty_paths import FAULTS, NOT_AN_ECHO, Path, Relay
from tests.probe.faulty_paths.faults import MakeRelay, named


def error_of(handler: Handler, scheme: str = "tcp") -> str:
    """Return the error of the preflight for a server that is not an echo."""
    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"{scheme}:127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(NotAnEchoError) as caught:
            preflight(target, patience=1)
    return str(caught.value)


def answering(answer: bytes) -> Handler:
    def handler(sock: socket.socket) -> None:
        sock.recv(4)
        sock.sendall(answer)

    return handler


def side_by_side(handler: Handler) -> Handler:
    """Return a handler for which no connection waits for another one."""

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            handler(sock)

    return lambda sock: threading.Thread(target=serve, args=(sock.dup(),), daemon=True).start()


def test_a_correct_echo(right_target: Target) -> None:
    connector, known = preflight(right_target)
    assert connector.target is right_target
    assert known.half_close
    assert len(known.round_trips) == 12
    assert known.samples == (6, 6)
    assert known.buffering == ""
    assert known.rate == math.inf
    assert known.timeout >= 0.05
    assert known.patience == PATIENCE
    assert known.address == str(right_target)


def test_a_banner() -> None:
    message = error_of(lambda sock: sock.sendall(b"220 mail.example ESMTP\r\n"))
    assert message == "not an echo: it sent a banner, '220 mail.example ESMTP'"


def test_a_banner_that_is_not_text() -> None:
    assert "sent a banner, ff fb 01" in error_of(lambda sock: sock.sendall(b"\xff\xfb\x01"))


def test_a_banner_that_comes_later_than_the_first_bytes_are_sent() -> None:
    """It arrives with their echo, in one read."""

    def handler(sock: socket.socket) -> None:
        readable, _, _ = select.select([sock], [], [], 0.3)
        data = sock.recv(65536) if readable else b""
        sock.sendall(b"220 mail.example ESMTP\r\n" + data)
        echo(sock)

    assert error_of(handler) == "not an echo: it sent a banner, '220 mail.example ESMTP'"


def test_what_is_left_of_the_attempts_is_no_banner() -> None:
    """A path that copies answers to all clients has one more, for the next client."""
    count = itertools.count(1)

    def handler(sock: socket.socket) -> None:
        number = next(count)
        if number < 10:
            sock.recv(65536)
        if number < 11:
            sock.sendall(b"left")
        echo(sock)

    listener = socket.create_server(("127.0.0.1", 0))
    with serving(side_by_side(handler), listener):
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        assert preflight(target, patience=1)[1].half_close


def test_an_echo_that_always_inserts_the_same_byte_is_one() -> None:
    """Nothing comes before something was sent."""

    def handler(sock: socket.socket) -> None:
        sock.sendall(b"<" + sock.recv(65536))
        echo(sock)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        assert preflight(target, patience=1)[1].address == str(target)


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
        preflight(target, patience=1)


def test_a_tls_server_is_recognised_while_it_waits_for_the_rest_of_a_header(
    certificates: Certificates,
) -> None:
    """Five bytes end a connection to it, and fewer do not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)

    def handler(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            echo(secure)

    began = time.monotonic()
    with serving(side_by_side(handler), socket.create_server(("127.0.0.1", 0))) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(NotAnEchoError, match=f"it expects TLS: try tls:{place}"):
            preflight(Target.parse(place))
    assert time.monotonic() - began < 5  # the first answer may take 10 s


def test_an_echo_that_ends_some_connections_is_not_asked_for_tls() -> None:
    """A right answer comes a little later."""
    hellos = []

    def handler(sock: socket.socket) -> None:
        data = sock.recv(65536)
        if data[:1] == b"\x16":
            hellos.append(data)
        if len(data) < 5:
            time.sleep(0.2)
            sock.sendall(data)
            echo(sock)

    with serving(side_by_side(handler), socket.create_server(("127.0.0.1", 0))) as listener:
        preflight(Target.parse(f"127.0.0.1:{listener.getsockname()[1]}"), patience=2)
    assert not hellos


def test_what_answers_lines_only_is_not_waited_for_twice() -> None:
    received = []

    def handler(sock: socket.socket) -> None:
        received.append(data := sock.recv(65536))
        if b"\n" in data:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif data:
            sock.recv(65536)

    with serving(side_by_side(handler), socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(NotAnEchoError, match="it answered 'HTTP"):
            preflight(target, patience=0.3)
    assert received.count(b"echo\n") == 4  # two attempts, at once and alone
    assert received.count(b"echo") == 1


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
        preflight(Target.parse(f"127.0.0.1:{path.port}"), patience=2)
    # 2 s for the first answer, and a second for another kind of connection.
    assert time.monotonic() - began < 10


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize(
    ("fault", "count", "kind"),
    [
        ("reset-from=2", 1, Fault.RESET),
        ("mute-from=2", 1, Fault.STALLED),
        ("reset-from=6", 5, Fault.RESET),
    ],
)
def test_an_echo_on_the_first_connections_only(fault: str, count: int, kind: Fault) -> None:
    with Path(named(fault)) as path, pytest.raises(StoppedError, match="an echo on the") as caught:
        preflight(Target.parse(f"127.0.0.1:{path.port}"), patience=2)
    assert caught.value.count == count
    assert caught.value.outcome.kind is kind
    assert caught.value.runs >= 3


@pytest.mark.parametrize("fault", ["nth-reset=9", "one-at-a-time", "at-most=1"])
def test_a_path_that_answers_some_later_ones_goes_on(fault: str) -> None:
    with Path(named(fault)) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"), patience=1)
    assert known.round_trips


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
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"), patience=1)
    assert known.half_close is half_close
    assert known.timeout < 1


@pytest.mark.slow
@pytest.mark.waits
def test_a_slow_link_keeps_nothing_back() -> None:
    """8 KiB take twice as long as the others wait for what does not move."""
    with Path(named("bandwidth=11k")) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.buffering == ""
    assert known.half_close
    # On a busy machine it passes less.
    assert 4000 < known.rate < 15_000


def test_a_path_that_passes_whole_lines_only_is_an_echo() -> None:
    class Lines(Relay):
        kept = b""

        def client_sent(self, data: bytes) -> None:
            whole, end, self.kept = (self.kept + data).rpartition(b"\n")
            if end:
                self.to_echo(whole + end)

        def client_ended(self) -> None:
            self.to_echo(self.kept)
            super().client_ended()

    with Path(Lines) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.buffering == "passes a line; keeps back 4 bytes, 16 bytes, 1 byte, 8 KiB"
    assert known.buffering in str(known)
    assert known.half_close
    assert known.round_trip < 1


def test_a_path_that_waits_for_five_bytes_is_an_echo() -> None:
    class Waits(Relay):
        kept: bytes | None = b""

        def client_sent(self, data: bytes) -> None:
            if self.kept is not None:
                data = self.kept + data
                self.kept = data if len(data) < 5 else None
            if self.kept is None:
                self.to_echo(data)

        def client_ended(self) -> None:
            self.to_echo(self.kept or b"")
            super().client_ended()

    with Path(Waits) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.buffering == "passes a line, 16 bytes, 8 KiB; keeps back 4 bytes, 1 byte"
    assert known.half_close


def test_a_path_that_keeps_everything_back_until_fin_is_an_echo() -> None:
    class Until(Relay):
        kept = b""

        def client_sent(self, data: bytes) -> None:
            self.kept += data

        def client_ended(self) -> None:
            self.to_echo(self.kept)
            super().client_ended()

    with Path(Until) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"), patience=2)
    assert known.buffering.endswith("8 KiB until FIN")
    assert known.half_close


class Far(Relay):
    """Accepts at once for an echo 40 ms away."""

    def client_sent(self, data: bytes) -> None:
        self.later(20, lambda: self.to_echo(data))

    def echo_sent(self, data: bytes) -> None:
        self.later(20, lambda: self.to_client(data))

    def client_ended(self) -> None:
        self.later(20, super().client_ended)

    def echo_ended(self) -> None:
        self.later(20, super().echo_ended)


def test_the_round_trip_is_not_that_of_connecting() -> None:
    with Path(Far) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert 0.04 <= known.round_trip < 1
    assert known.timeout > 4 * 0.04
    assert known.half_close


def test_an_end_that_comes_late_is_no_end_to_half_close() -> None:
    class Late(Relay):
        def echo_ended(self) -> None:
            self.later(1900, super().echo_ended)

    with Path(Late) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.half_close
    assert known.samples == (6, 6)


def test_the_first_bytes_of_a_connection_may_take_their_time() -> None:
    class Inspects(Relay):
        inspected = False

        def client_sent(self, data: bytes) -> None:
            if self.inspected:
                self.to_echo(data)
                return
            self.inspected = True
            self.client.hold(True)
            self.later(600, lambda: self.to_echo(data))  # it reads on then, too

    with Path(Inspects) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.half_close
    assert known.round_trip < 0.5
    assert known.rate == math.inf


def test_a_busy_moment_of_this_machine_is_not_the_rate_of_the_path() -> None:
    class Busy(Relay):
        """Late with the first large segment of a connection, and what is behind it."""

        free = 0.0

        def client_sent(self, data: bytes) -> None:
            if len(data) > 1000 and not self.free:
                self.free = self.now() + 0.15
            self.later(1000 * max(0.0, self.free - self.now()), lambda: self.to_echo(data))

        def client_ended(self) -> None:
            self.later(1000 * max(0.0, self.free - self.now()) + 1, super().client_ended)

    with Path(Busy) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.rate == math.inf


def test_one_server_of_four_that_refuses_half_close_does_not_decide() -> None:
    class Balanced(Relay):
        def client_ended(self) -> None:
            if self.number % 4 == 3:
                # What was closed after the byte was back would not be told from an end.
                self.reset()
            else:
                super().client_ended()

    with Path(Balanced) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert known.half_close
    survived, samples = known.samples
    assert 0 < survived < samples
    assert f"half-close survives in {survived} of {samples} attempts" in str(known)


def test_a_slow_path_is_measured() -> None:
    class Slow(Relay):
        """100 kB/s towards the echo."""

        free = 0.0

        def client_sent(self, data: bytes) -> None:
            self.free = max(self.free, time.monotonic()) + len(data) / 100_000
            self.later(1000 * (self.free - time.monotonic()), lambda: self.to_echo(data))

        def client_ended(self) -> None:
            self.later(1000 * max(0.0, self.free - time.monotonic()) + 1, super().client_ended)

    with Path(Slow) as path:
        _, known = preflight(Target.parse(f"127.0.0.1:{path.port}"))
    assert 50_000 < known.rate < 200_000
    assert "kB/s" in str(known)
