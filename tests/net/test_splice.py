"""Bulk of a plain echo, spliced through the lane's pipe."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import main
from twisted.internet.testing import MemoryReactorClock

from echoproto.core.connection import RATE
from echoproto.core.factory import EchoFactory
from echoproto.net import splice, transports
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.plain_echoes import MIN_READ, PlainEchoes
from echoproto.net.splice import SplicePipe
from echoproto.net.transports import MAX_READ, MIN_SPLICE, bytes_queued
from tests.descriptors import no_descriptor_left, open_descriptors
from tests.net.ends import Ends, ends_of

pytestmark = pytest.mark.skipif(not hasattr(os, "splice"), reason="needs splice(2)")


class CountingPipe(SplicePipe):
    """Knows how much went through it.

    :ivar spliced: bytes taken.
    :ivar rest: those of them that the kernel did not take back.
    """

    spliced = rest = 0

    def echo(self, fd: int, size: int) -> tuple[int, bytes]:
        taken, rest = super().echo(fd, size)
        self.spliced += taken
        self.rest += len(rest)
        assert self.held() == 0
        return taken, rest

    def held(self) -> int:
        """Return how many bytes are in the pipe."""
        if self._out == -1:
            return 0
        answer = fcntl.ioctl(self._out, termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)


@pytest.fixture
def pipe() -> Iterator[CountingPipe]:
    opened = CountingPipe()
    yield opened
    opened.close()


@pytest.fixture
def ends(pipe: CountingPipe) -> Iterator[Ends]:
    with ends_of(EchoFactory(), pipe) as both:
        yield both


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splice from the first byte on."""
    splice_at_once(monkeypatch)


def splice_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PlainEchoes, "add", lambda *_: None)
    patch.setattr(transports, "SPLICE_FROM", MIN_READ)
    patch.setattr(transports, "MIN_SPLICE", 1)


def noise(size: int) -> bytes:
    """Bytes of which each 8 differ from all others."""
    return b"".join(number.to_bytes(8, "big") for number in range(size // 8 + 1))[:size]


def push(ends: Ends, data: bytes) -> None:
    """Send bytes, and let them come back."""
    expected = len(ends.back) + len(data)
    while data:
        data = data[ends.client.send(data[: 1 << 17]) :]
        ends.turn()
    while len(ends.back) < expected:
        ends.turn()


def show_bulk(ends: Ends) -> bytes:
    """Send as much as it takes until the connection is spliced; return that."""
    sent = noise(MAX_READ)
    push(ends, sent)
    assert ends.transport._read_size == MAX_READ
    return sent


def test_bulk_is_spliced_after_full_reads_in_a_row(ends: Ends, pipe: CountingPipe) -> None:
    sent = show_bulk(ends) + noise(4 * MAX_READ)
    before, ends.calls = pipe.spliced, 0
    push(ends, sent[MAX_READ:])
    assert ends.calls == 0
    assert pipe.spliced - before == 4 * MAX_READ
    assert ends.back == sent
    assert ends.connection.bytes_echoed == len(sent)


@pytest.mark.parametrize(
    ("sizes", "goes_on"),
    [
        ([MIN_SPLICE, MIN_SPLICE], True),
        # The end of a message.
        ([MIN_SPLICE - 1], True),
        ([1, MIN_SPLICE, 1, MIN_SPLICE, 1], True),
        ([MIN_SPLICE - 1, MIN_SPLICE - 1], False),
        ([MIN_SPLICE, 1, 1], False),
    ],
)
def test_it_goes_on_until_there_is_little_twice_in_a_row(
    ends: Ends, pipe: CountingPipe, sizes: list[int], goes_on: bool
) -> None:
    show_bulk(ends)
    for size in sizes:
        spliced = pipe.spliced
        assert ends.exchange(b"x" * size) == b"x" * size
        assert pipe.spliced == spliced + size
    spliced = pipe.spliced
    assert ends.exchange(b"y" * 100) == b"y" * 100
    assert (pipe.spliced > spliced) is goes_on


def upper_of(plain: Callable[[bytes], None]) -> Callable[[bytes], None]:
    return lambda data: plain(data.upper())


def test_whatever_comes_between_sees_the_bytes_at_once(ends: Ends, pipe: CountingPipe) -> None:
    show_bulk(ends)
    spliced = pipe.spliced
    connection = ends.connection
    connection.dataReceived = upper_of(connection.dataReceived)  # type: ignore[assignment, method-assign]
    data = b"abcd" * (MIN_SPLICE // 4)
    assert ends.exchange(data) == data.upper()
    assert pipe.spliced == spliced


@pytest.mark.usefixtures("at_once")
def test_what_arrives_after_finish_is_discarded(ends: Ends) -> None:
    assert ends.exchange(b"abc") == b"abc"
    ends.connection.finish()
    assert ends.exchange(b"late") == b""
    assert (ends.connection.bytes_echoed, ends.connection.bytes_discarded) == (3, 4)


def fill(ends: Ends) -> bytes:
    """Send, and receive nothing, until the server reads no more; return what was sent."""
    sent, chunk = b"", noise(1 << 16)
    while ends.transport in ends.reactor.getReaders():
        with contextlib.suppress(BlockingIOError):
            sent += chunk[: ends.client.send(chunk)]
        ends.serve()
    return sent


@pytest.mark.usefixtures("at_once")
def test_of_a_peer_that_does_not_read_no_more_is_held_than_one_read(
    ends: Ends, pipe: CountingPipe
) -> None:
    ends.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sent = fill(ends)
    assert 0 < pipe.rest == bytes_queued(ends.transport) <= MAX_READ
    ends.client.shutdown(socket.SHUT_WR)
    while ends.transport.connected:
        ends.turn()
    ends.turn()
    assert ends.back == sent
    assert ends.connection.bytes_echoed == len(sent)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("inline", [True, False])
def test_an_urgent_byte_is_not_taken_for_the_end(
    ends: Ends, pipe: CountingPipe, inline: bool
) -> None:
    """To splice(2) the input has ended before it, if the peer has closed by then."""
    ends.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
    ends.client.sendall(b"before")
    ends.client.send(b"!", socket.MSG_OOB)
    ends.client.sendall(b"after")
    ends.client.shutdown(socket.SHUT_WR)
    while ends.transport.connected:
        ends.turn()
    ends.turn()
    assert ends.back == (b"before!after" if inline else b"beforeafter")
    assert pipe.spliced


@pytest.mark.usefixtures("at_once")
def test_a_reset_is_reported(ends: Ends) -> None:
    assert ends.exchange(b"x") == b"x"
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ends.client.close()
    assert ends.transport.doRead() is main.CONNECTION_LOST


Splice = Callable[..., int]


def patch_second(patch: pytest.MonkeyPatch, second: Callable[[Splice, Any], int]) -> None:
    """Let another function do what ``os.splice`` does out of the pipe."""
    original, calls = os.splice, itertools.count()

    def either(*arguments: int) -> int:
        return second(original, arguments) if next(calls) == 1 else original(*arguments)

    patch.setattr(os, "splice", either)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("taken", [0, 1, 99])
def test_what_the_kernel_does_not_take_back_is_queued_and_reading_pauses(
    ends: Ends, pipe: CountingPipe, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    def partly(splice: Splice, arguments: Any) -> int:
        if not taken:
            raise BrokenPipeError
        return splice(*arguments[:2], taken)

    patch_second(monkeypatch, partly)
    ends.exchange(b"x" * 100)
    assert pipe.rest == 100 - taken
    assert ends.transport not in ends.reactor.getReaders()
    assert ends.connection.bytes_echoed == 100
    ends.client.sendall(b"next")
    ends.turn()
    ends.turn()
    assert ends.back == b"x" * 100 + b"next"
    assert pipe.spliced == 104


@pytest.mark.usefixtures("at_once")
def test_no_byte_of_a_failed_step_gets_to_another_connection(
    ends: Ends, pipe: CountingPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(splice: Splice, arguments: Any) -> int:
        raise KeyboardInterrupt

    ends.client.sendall(b"secret")
    with monkeypatch.context() as patch:
        patch_second(patch, interrupted)
        with pytest.raises(KeyboardInterrupt):
            ends.transport.doRead()
    with ends_of(EchoFactory(), pipe) as others:
        assert others.exchange(b"public") == b"public"
        assert others.connection.bytes_echoed == 6
    assert pipe.spliced == 0


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("error", "asked_again"),
    [(errno.EINVAL, False), (errno.ENOSYS, False), (errno.EPERM, False), (errno.EAGAIN, True)],
)
def test_without_splice_bytes_go_the_ordinary_way(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, error: int, asked_again: bool
) -> None:
    asked: list[int] = []

    def refused(fd: int, *_: int) -> int:
        asked.append(fd)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "splice", refused)
    assert [ends.exchange(b"abc") for _ in range(3)] == [b"abc"] * 3
    assert len(asked) == (3 if asked_again else 1)


def test_there_is_none_without_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_descriptor_left():
        assert not SplicePipe().is_open
    monkeypatch.delattr(os, "splice")
    assert not SplicePipe().is_open


def test_a_pipe_beyond_the_share_of_the_user_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "PIPE_SIZE", 1 << 30)
    with contextlib.closing(SplicePipe()) as opened:
        assert fcntl.fcntl(opened._out, fcntl.F_GETPIPE_SZ) == 1 << 16


def test_a_lane_has_one_and_closes_it() -> None:
    before = open_descriptors()
    lane = EpollLane(MemoryReactorClock())
    assert lane.pipe.is_open
    lane.close()
    assert not lane.pipe.is_open
    assert open_descriptors() == before


STEPS = st.one_of(
    st.integers(1, 1 << 18).map(lambda size: ("send", size)),
    st.integers(1, 1 << 17).map(lambda size: ("receive", size)),
    st.sampled_from(["serve", "turn", "watch", "unwatch", "pause", "resume"]).map(
        lambda name: (name, 0)
    ),
)
NOISE = noise(1 << 22)


def check(steps: list[tuple[str, int]], finish: bool, small: bool, pipe: CountingPipe) -> None:
    with ends_of(EchoFactory(), pipe) as ends:
        if small:
            ends.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        ends.transport._read_size = MAX_READ
        connection, plain, sent = ends.connection, ends.connection.dataReceived, 0
        for step, size in steps:
            if step == "send":
                with contextlib.suppress(BlockingIOError):
                    sent += ends.client.send(NOISE[sent : sent + size])
            elif step == "receive":
                ends.receive(size)
            elif step in ("pause", "resume"):
                getattr(connection, f"{step}_reading")(RATE)
            elif step in ("serve", "turn"):
                getattr(ends, step)()
            else:
                connection.dataReceived = upper_of(plain) if step == "watch" else plain  # type: ignore[assignment, method-assign]
            queued = bytes_queued(ends.transport)
            assert queued <= min(MAX_READ, connection.bytes_echoed - len(ends.back))
        connection.resume_reading(RATE)
        arrived = connection.bytes_echoed if finish else sent
        if finish:
            connection.finish()
        ends.client.shutdown(socket.SHUT_WR)
        while ends.transport.connected:
            ends.turn()
        ends.turn()
        assert ends.back.lower() == NOISE[: len(ends.back)].lower()
        assert len(ends.back) == connection.bytes_echoed == arrived
        assert connection.bytes_discarded == sent - arrived
        if ("watch", 0) not in steps:
            assert pipe.spliced == connection.bytes_echoed


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=30), finish=st.booleans(), small=st.booleans())
def test_every_byte_comes_back_and_is_counted(
    steps: list[tuple[str, int]], finish: bool, small: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        splice_at_once(patch)
        pipe = CountingPipe()
        try:
            check(steps, finish, small, pipe)
        finally:
            pipe.close()
