from __future__ import annotations

import contextlib
import socket
import struct
import time

from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.ping import Reply, Statistics, pings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.conftest import Handler, serving


def test_over_one_connection(right_connector: Connector) -> None:
    replies = list(pings(right_connector, count=5, interval=0, size=100_000))
    assert [reply.kind for reply in replies] == [Fault.NONE] * 5
    assert [reply.number for reply in replies] == [1, 2, 3, 4, 5]


def test_over_tls(tls_port: int) -> None:
    made = connect(Target.parse(f"tls:127.0.0.1:{tls_port}", insecure=True))
    assert [reply.kind for reply in pings(made, 3, 0, 100_000)] == [Fault.NONE] * 3


def test_the_certificate_is_verified(tls_port: int) -> None:
    made = connect(Target.parse(f"tls:127.0.0.1:{tls_port}"))
    (reply,) = pings(made, 1, 0)
    assert reply.kind is Fault.REFUSED
    assert "certificate" in reply.message


def lost(handler: Handler, count: int = 1, timeout: float = 5) -> list[Reply]:
    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        made = Connector(target, target.addresses()[0])
        return list(pings(made, count, 0, size=4, timeout=timeout))


def answer(data: bytes) -> Handler:
    def handler(sock: socket.socket) -> None:
        sock.recv(4)
        sock.sendall(data)

    return handler


def test_every_kind_of_loss() -> None:
    assert lost(answer(b"\1\2\3\4"))[0].kind is Fault.NONE
    wrong = lost(answer(b"\1\2\xff\4"))[0]
    assert (wrong.kind, wrong.message) == (Fault.CORRUPT, "byte 2 came back as ff instead of 03")
    assert lost(answer(b"\1\2\3\4\5"))[0].kind is Fault.EXTRA
    assert lost(answer(b"\1\2"))[0].message == "closed after 2 of 4 bytes"

    def silent(sock: socket.socket) -> None:
        sock.recv(4)
        sock.recv(1)

    (reply,) = lost(silent, timeout=0.1)
    assert reply.kind is Fault.STALLED
    assert 0.1 <= reply.seconds < 10

    def resets(sock: socket.socket) -> None:
        sock.recv(4)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert lost(resets)[0].kind is Fault.RESET


def test_the_deadline_ends_it_and_accuses_no_path() -> None:
    def second_is_late(sock: socket.socket) -> None:
        sock.sendall(sock.recv(4))
        sock.recv(4)
        sock.recv(1)

    with serving(second_is_late, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        made = Connector(target, target.addresses()[0])
        began = time.monotonic()
        replies = list(pings(made, None, 0, size=4, timeout=60, deadline=0.3))
    assert time.monotonic() - began < 30
    assert [reply.kind for reply in replies] == [Fault.NONE, None]
    statistics = Statistics()
    for reply in replies:
        statistics.add(reply)
    assert (statistics.sent, statistics.received, statistics.lost) == (2, 1, 0)


def test_a_deadline_during_connect() -> None:
    """A full accept queue takes no connection, and no more is waited for than asked."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                filling = stack.enter_context(socket.socket())
                filling.setblocking(False)
                filling.connect_ex(listener.getsockname())
            target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
            made = Connector(target, target.addresses()[0])
            (reply,) = pings(made, 1, 0, size=4, deadline=0.2)
    assert reply.kind is None


def test_with_a_deadline_the_count_is_that_of_the_answers() -> None:
    answers = [b"\1\2\xff\4", b"\2\3\4\5", b"\3\4\5\6"]

    def handler(sock: socket.socket) -> None:
        while sock.recv(4):
            sock.sendall(answers.pop(0))

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        target = Target.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        made = Connector(target, target.addresses()[0])
        replies = list(pings(made, 2, 0, size=4, deadline=60))
    assert [reply.kind for reply in replies] == [Fault.CORRUPT, Fault.NONE, Fault.NONE]


def test_a_new_connection_after_a_loss() -> None:
    answers = [b"\1\2\xff\4", b"\2\3\4\5"]

    def handler(sock: socket.socket) -> None:
        sock.recv(4)
        sock.sendall(answers.pop(0))
        sock.recv(1)

    assert [reply.kind for reply in lost(handler, 2)] == [Fault.CORRUPT, Fault.NONE]


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target.parse(f"127.0.0.1:{unused.getsockname()[1]}")
        (reply,) = pings(Connector(target, target.addresses()[0]), 1)
    assert reply.kind is Fault.REFUSED


def test_statistics() -> None:
    statistics = Statistics()
    assert statistics.milliseconds() == {}
    for number, seconds in enumerate((0.001, 0.002, 0.003, 0.004), 1):
        statistics.add(Reply(number, Fault.NONE, seconds))
    statistics.add(Reply(5, Fault.STALLED, 1.0))
    assert (statistics.sent, statistics.lost) == (5, 1)
    times = {name: round(value, 6) for name, value in statistics.milliseconds().items()}
    assert times == {"min": 1, "avg": 2.5, "p50": 2, "p99": 4, "max": 4, "mdev": 1.118034}
