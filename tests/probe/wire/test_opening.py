"""A connection that the other side accepts, and aborts before its first use.

Whether the RST comes before or after the result of connect is read is a race on a real path. It is
the same fault.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator

import pytest

from echoproto.probe.script.conversation import Conversation
from echoproto.probe.wire.channel import Channel
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.ping import pings
from echoproto.probe.wire.reasons import is_abort
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Action, Fault, Outcome
from tests.probe.wire.test_run import reset

LIMITS = Limits(stall=2, half_close=True)


class Aborted(Connector):
    """Waits for the RST of what it connected to, at one of two points.

    :param early: before the result of connect is read; else just after it was read.
    :param fin: whether the other side sends FIN before its RST.
    """

    def __init__(self, target: Target, listener: socket.socket, early: bool, fin: bool) -> None:
        super().__init__(target, target.addresses()[0])
        self._listener, self._early, self._fin = listener, early, fin

    def connect(self, sock: socket.socket) -> int:
        error = super().connect(sock)
        if self._early:
            self._wait_for_reset(sock)
        return error

    def channel(self, sock: socket.socket) -> Channel:
        if not self._early:
            self._wait_for_reset(sock)
            with pytest.raises(OSError, match=os.strerror(errno.ECONNRESET)):
                sock.recv(1)
        return super().channel(sock)

    def _wait_for_reset(self, sock: socket.socket) -> None:
        accepted, _ = self._listener.accept()
        with accepted:
            if self._fin:
                accepted.shutdown(socket.SHUT_WR)
                self._wait(sock, select.POLLRDHUP)
            reset(accepted)
        self._wait(sock, select.POLLERR)

    @staticmethod
    def _wait(sock: socket.socket, event: int) -> None:
        poll = select.poll()
        poll.register(sock, event)
        ((_, events),) = poll.poll(5000)
        assert events & event


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def aborted(
    listener: socket.socket, early: bool = True, fin: bool = False, target: str = "", **options: str
) -> Outcome:
    """The outcome of a conversation over a connection that is aborted so."""
    place = Target.parse(f"{target}127.0.0.1:{listener.getsockname()[1]}", **options)  # type: ignore[arg-type]
    return run(Conversation.parse("send 00"), Aborted(place, listener, early, fin), LIMITS)


def test_a_reset_before_the_result_of_connect_is_read(listener: socket.socket) -> None:
    outcome = aborted(listener)
    assert outcome.kind is Fault.RESET
    assert outcome.verdict.message == (
        "the path aborted the connection before any byte was sent: "
        "connection reset by the other side"
    )
    assert outcome.timelines[0][0].action is Action.GOT_RESET


def test_a_fin_and_a_reset_before_the_result_of_connect_is_read(listener: socket.socket) -> None:
    outcome = aborted(listener, fin=True)
    assert outcome.kind is Fault.RESET
    assert "the other side has closed the connection" in outcome.verdict.message


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_reset_before_the_proxy_header_is_sent(listener: socket.socket, version: str) -> None:
    outcome = aborted(listener, early=False, send_proxy=version)
    assert outcome.kind is Fault.RESET
    assert "connection reset by the other side" in outcome.verdict.message


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_tls_is_refused_by_a_reset(listener: socket.socket, early: bool) -> None:
    outcome = aborted(listener, early, target="tls:")
    assert outcome.kind is Fault.REFUSED
    assert outcome.verdict.message.startswith("no TLS: ")


def test_a_ping_that_is_reset(listener: socket.socket) -> None:
    target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}", send_proxy="v1")
    (reply,) = pings(Aborted(target, listener, early=False, fin=False), 1)
    assert reply.kind is Fault.RESET


@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.EPIPE])
def test_an_address_that_resets_accepts(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect_ex", lambda *_: code)
    assert connect(Target.parse("127.0.0.1:7")).where == ("127.0.0.1", 7)
    code = errno.EHOSTUNREACH
    with pytest.raises(TargetError, match="no route"):
        connect(Target.parse("127.0.0.1:7"))


@pytest.mark.parametrize(
    "code",
    [
        errno.ECONNREFUSED,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ECONNABORTED,
        errno.EACCES,
        errno.ENOENT,
        errno.EAGAIN,
    ],
    ids=errno.errorcode.get,
)
def test_no_connection_was_accepted(code: int) -> None:
    assert not is_abort(OSError(code, ""))
