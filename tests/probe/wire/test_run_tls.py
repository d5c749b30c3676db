from __future__ import annotations

import socket
import ssl
from dataclasses import replace

import pytest

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.conftest import Certificates, serving
from tests.probe.faulty_paths import Path
from tests.probe.wire.test_run import LIMITS, RIGHT, TIMED, connect_only, discard


@pytest.mark.parametrize("script", [*RIGHT[3:7], "send (00..fa)*8000"])
def test_tls(script: str, tls_port: int, certificates: Certificates) -> None:
    made = connect(Target.parse(f"tls:localhost:{tls_port}", ca=certificates.cert))
    outcome = run(Session.parse(script), made, replace(TIMED, grace=0.01))
    assert outcome.ok, outcome.verdict.message


def test_tls_half_close(tls_port: int) -> None:
    made = connect(Target.parse(f"tls:127.0.0.1:{tls_port}", insecure=True))
    outcome = run(Conversation.parse("send 61*100; await; fin"), made, LIMITS)
    assert outcome.ok, outcome.verdict.message


def test_tls_certificate_that_is_not_accepted(tls_port: int, certificates: Certificates) -> None:
    made = connect(Target.parse(f"tls:127.0.0.1:{tls_port}"))
    verdict = run(Conversation(), made, LIMITS).verdict
    assert verdict.kind is Fault.REFUSED
    assert "no TLS: the certificate is not accepted: self-signed" in verdict.message
    named = Target.parse(f"tls:127.0.0.1:{tls_port}", ca=certificates.cert, server_name="b")
    verdict = run(Conversation(), connect(named), LIMITS).verdict
    assert "Hostname mismatch" in verdict.message


def test_tls_with_a_server_without_tls(right: Path) -> None:
    made = connect(Target.parse(f"tls:127.0.0.1:{right.port}", insecure=True))
    verdict = run(Conversation(), made, LIMITS).verdict
    assert verdict.kind is Fault.REFUSED
    assert "does not speak TLS" in verdict.message


def test_tls_with_a_server_that_closes_or_hangs() -> None:
    def closes(sock: socket.socket) -> None:
        sock.recv(1)

    for handler, complaint in ((closes, "no TLS"), (discard, "timed out")):
        with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
            target = Target.parse(f"tls:127.0.0.1:{listener.getsockname()[1]}", insecure=True)
            verdict = run(
                Conversation(), connect_only(target), replace(LIMITS, connect=0.2)
            ).verdict
            assert verdict.kind is Fault.REFUSED
            assert complaint in verdict.message


def test_many_small_records_that_come_at_once(certificates: Certificates) -> None:
    """The socket is empty after the first read, and reports no more event for what TLS has kept."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)

    def handler(sock: socket.socket) -> None:
        received, sending = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, sending, server_side=True)

        data = b""
        while not data:
            try:
                data = tls.read(100)  # after the handshake
            except ssl.SSLWantReadError:
                sock.sendall(sending.read())
                received.write(sock.recv(65536))
        for byte in data:
            tls.write(bytes([byte]))
        sock.sendall(sending.read())
        sock.recv(1)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"tls:127.0.0.1:{listener.getsockname()[1]}", insecure=True)
        script = Conversation.parse("send 00..63; await; reset")
        outcome = run(script, connect_only(target), replace(LIMITS, stall=1))
    assert outcome.ok, outcome.verdict.message
    assert outcome.wait < 1
