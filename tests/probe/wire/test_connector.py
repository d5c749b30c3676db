from __future__ import annotations

import errno
import socket
import time
from unittest.mock import Mock

import pytest

from echoproto.probe.script.conversation import Conversation
from echoproto.probe.wire import connector
from echoproto.probe.wire.connector import REMOTE_RATE, Connector, LocalError
from echoproto.probe.wire.first_connection import connect, place
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.reasons import reason
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError


def test_the_first_address_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = connect(Target.parse(f"localhost:{listener.getsockname()[1]}"))
        assert made.family is socket.AF_INET
        assert place(made) == f"127.0.0.1:{listener.getsockname()[1]}"
        assert made.opened == 1


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TargetError, match=r"connection refused \(nothing listens there\)"):
            connect(Target.parse(f"127.0.0.1:{port}"))
    with pytest.raises(TargetError, match="there is no such socket file"):
        connect(Target.parse("unix:/no/such/socket"))


def test_the_rate_is_kept(echo_port: int) -> None:
    target = Target.parse(f"127.0.0.1:{echo_port}")
    made = Connector(target, target.addresses()[0], rate=100)
    began = time.monotonic()
    for _ in range(6):
        assert run(Conversation(), made, Limits(stall=1, half_close=True)).ok
    assert time.monotonic() - began >= 0.05


def test_only_other_machines_have_a_default_rate() -> None:
    remote = Target.parse("192.0.2.1:7")
    assert Connector(remote, remote.addresses()[0])._interval == 1 / REMOTE_RATE
    local = Target.parse("127.0.0.1:7")
    assert Connector(local, local.addresses()[0])._interval == 0


def test_another_loopback_address_when_the_ports_are_used_up(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = connect(Target.parse(f"127.0.0.1:{echo_port}"))
    connecting, binding = socket.socket.connect_ex, socket.socket.bind

    class UsedUp(socket.socket):
        def connect_ex(self, where: object, /) -> int:
            if self.getsockname()[0] == "0.0.0.0":
                return errno.EADDRNOTAVAIL
            return connecting(self, where)  # type: ignore[arg-type]

        def bind(self, where: object, /) -> None:
            if where == ("127.0.1.2", 0):
                raise OSError(errno.EADDRINUSE, "")
            binding(self, where)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.socket", UsedUp)
    limits = Limits(stall=1, half_close=True)
    assert run(Conversation.parse("send 00"), made, limits).ok
    assert made._source == "127.0.1.1"
    made._next_source()
    assert run(Conversation.parse("send 00"), made, limits).ok
    assert made._source == "127.0.1.3"


def test_no_port_left_for_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Target.parse("192.0.2.1:7")
    made = Connector(remote, remote.addresses()[0])
    monkeypatch.setattr("socket.socket.connect_ex", lambda *_: errno.EADDRNOTAVAIL)
    with made.new_socket() as sock, pytest.raises(LocalError, match="no local port is free"):
        made.connect(sock)


@pytest.mark.parametrize("place", ["127.0.0.1:7", "192.0.2.1:7"])
def test_no_port_left_for_the_first_connection(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect_ex", lambda *_: errno.EADDRNOTAVAIL)
    monkeypatch.setattr(connector, "_loopback_sources", lambda: iter(["127.0.1.1"]))
    used_up = OSError(errno.EADDRINUSE, "")
    monkeypatch.setattr("socket.socket.bind", Mock(side_effect=used_up))
    with pytest.raises(LocalError, match="on this machine no local port is free"):
        connect(Target.parse(place))


def test_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.parse("127.0.0.1:7")
    made = Connector(target, target.addresses()[0])

    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("socket.socket", none_left)
    with pytest.raises(LocalError, match="no more sockets: Too many open files"):
        made.new_socket()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "timed out after 5 s"),
        (OSError(errno.ETIMEDOUT, ""), "timed out"),
        (OSError(errno.EHOSTUNREACH, ""), "no route"),
        (OSError(errno.EBADF, "Bad file descriptor"), "Bad file descriptor"),
        (OSError("odd"), "odd"),
    ],
)
def test_reasons(error: OSError, words: str) -> None:
    assert words in reason(error)
