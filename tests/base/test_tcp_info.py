"""TCP_INFO of real sockets, and of kernels that tell less."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from echoproto.base import tcp_info
from echoproto.base.tcp_info import read_tcp_info
from echoproto.net.listen_queue import accept_queue

STATE = struct.Struct("=B")


class FakeSocket:
    """The socket of a kernel that gives a certain answer."""

    def __init__(self, answer: Any) -> None:
        self.socket = self
        self._answer = answer

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if isinstance(self._answer, OSError):
            raise self._answer
        return bytes(self._answer[:size])


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux has it")
def test_a_listening_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        # TCP_LISTEN of net/tcp_states.h.
        assert read_tcp_info(sock, STATE) == (10,)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
def test_a_socket_that_is_not_tcp() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert read_tcp_info(one, STATE) is None


def test_a_closed_socket() -> None:
    sock = socket.socket()
    sock.close()
    assert read_tcp_info(sock, STATE) is None


@pytest.mark.parametrize("answer", [b"", bytes(20), OSError(errno.EOPNOTSUPP, "no")])
def test_a_kernel_that_tells_less(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """gVisor's structure is shorter."""
    monkeypatch.setattr(tcp_info, "_TCP_INFO", 11)
    sock: Any = FakeSocket(answer)
    assert read_tcp_info(sock, struct.Struct("=21x")) is None
    assert accept_queue(sock) is None


def test_a_platform_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_info, "_TCP_INFO", None)
    sock: Any = FakeSocket(bytes(100))
    assert read_tcp_info(sock, STATE) is None
