"""Urgent data: sent as such, and judged like the rest of the stream."""

from __future__ import annotations

import select
import socket

import pytest

from echoproto.probe.cli.main import main
from echoproto.probe.report.describe import time_line
from echoproto.probe.script.conversation import Conversation
from echoproto.probe.search.preflight import preflight
from echoproto.probe.search.reproduce import reproduce
from echoproto.probe.search.reproduced import Reproduced
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Fault, Outcome
from tests.probe.conftest import Handler, echo, serving

LIMITS = Limits(stall=2, half_close=True)
SCRIPT = Conversation.parse("send 61; urgent 62; await; send 63")


def over(handler: Handler, script: Conversation = SCRIPT) -> Outcome:
    """The outcome of a conversation with a server that does ``handler``."""
    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        return run(script, Connector(target, target.addresses()[0]), LIMITS)


def in_line(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    echo(sock)


def test_an_echo_that_takes_it_in_line() -> None:
    outcome = over(in_line)
    assert outcome.ok, outcome.verdict.message
    lines = [line.split("ms  ")[1] for line in time_line(outcome)]
    assert "sent 1 byte: 61" in lines
    assert "sent 1 urgent byte from 1: 62" in lines


def test_the_byte_is_urgent_and_missing_where_it_is_not_taken_in_line() -> None:
    urgent: list[bytes] = []

    def out_of_band(sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLPRI)
        assert poll.poll(5000)
        urgent.append(sock.recv(1, socket.MSG_OOB))
        echo(sock)

    outcome = over(out_of_band, Conversation.parse("send 61; urgent 62; send 63"))
    assert urgent == [b"b"]
    assert outcome.kind in (Fault.CORRUPT, Fault.TRUNCATED)
    assert outcome.verdict.offset == 1


def test_it_may_come_back_as_urgent_data() -> None:
    def returns_it_urgent(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        assert sock.recv(1) == b"a"
        sock.sendall(b"a")
        assert sock.recv(1) == b"b"
        sock.send(b"b", socket.MSG_OOB)
        echo(sock)

    outcome = over(returns_it_urgent)
    assert outcome.ok, outcome.verdict.message


def test_a_failure_is_shrunk_to_the_urgent_byte(echo_port: int) -> None:
    connector, known = preflight(Target.parse(f"127.0.0.1:{echo_port}"))
    limits = known.limits(0.3)  # which a candidate with ``await`` takes
    # Without a wait in it, the end is judged by EOF.
    first = run(Conversation.parse("send 61; urgent 62; send 63"), connector, limits)
    assert not first.ok
    found = reproduce(first, lambda session, _: run(session, connector, limits))
    assert isinstance(found, Reproduced)
    assert str(found.session) == "urgent 00"
    assert found.reproduced == found.runs


@pytest.mark.parametrize("target", ["tls:127.0.0.1:7", "unix:/run/echo"])
def test_only_tcp_has_it(target: str) -> None:
    parsed = Target.parse(target)
    connector = Connector(parsed, parsed.addresses()[0])
    with pytest.raises(TargetError, match=f"'urgent' needs TCP without TLS, not {target}"):
        run(SCRIPT, connector, LIMITS)


def test_a_target_without_it_is_refused_in_one_line(
    unix_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", f"unix:{unix_path}", "send 61; urgent 62; await"]) == 2
    assert capsys.readouterr() == (
        "", f"echoproto: 'urgent' needs TCP without TLS, not unix:{unix_path}\n"
    )  # fmt: skip
