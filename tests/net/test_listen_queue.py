"""The listen queue: sysctl files, the clamp, and the effective length."""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echoproto.base import tcp_info
from echoproto.net import listen_queue
from echoproto.net.listen_queue import (
    INT_MAX,
    AcceptQueue,
    ListenQueueLimits,
    accept_queue,
    clamp_backlog,
    clamp_warning,
    describe,
    parse_limit,
    read_limits,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")

limits_of_any_kernel = st.builds(
    ListenQueueLimits, max_accept_queue=st.none() | st.integers(0, INT_MAX)
)


@given(st.integers(0, INT_MAX), st.sampled_from([b"", b"\n", b" \n", b"\t"]))
def test_a_limit_is_parsed(limit: int, end: bytes) -> None:
    assert parse_limit(str(limit).encode() + end) == limit


@given(st.binary() | st.from_regex(rb"[ +-]?[0-9_]{1,30}[ \n]?"))
@example(b"")
@example(b"\n")
@example(b"-1\n")
@example(b"2147483648\n")
@example(b"0" * 5000)
@example(b"9" * 5000)
@example(b"1_0\n")
@example("٣".encode())
@example(b"4096 4096\n")
@example(b"\x004096\n")
def test_parsing_raises_nothing_but_value_error(content: bytes) -> None:
    try:
        limit = parse_limit(content)
    except ValueError as error:
        why = str(error)
    else:
        assert 0 <= limit <= INT_MAX
        return
    assert why.isprintable()
    assert len(why) < 120


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"many\n", "not a number: 'many'"),
        (b"4096.5\n", "not a number: '4096.5'"),
        (b"\xff\xfe", r"not a number: '\xff\xfe'"),
        (b"-1\n", "negative: '-1'"),
        (b"2147483648", "too large: '2147483648'"),
        (b"9" * 40, f"too large: '{'9' * 20}...'"),
    ],
)
def test_why_a_limit_is_unknown(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse_limit(content)


class Sysctls:
    """A tree of files like /proc/sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("net.core.somaxconn", b"4096\n")
        self.write("net.ipv4.tcp_max_syn_backlog", b"512\n")
        self.write("net.ipv4.tcp_syncookies", b"1\n")

    def path(self, name: str) -> Path:
        return self.root.joinpath(*name.split("."))

    def write(self, name: str, content: bytes) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_bytes(content)


@pytest.fixture
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysctls:
    monkeypatch.setattr(sys, "platform", "linux")
    return Sysctls(tmp_path)


def test_the_limits_are_read(sysctls: Sysctls) -> None:
    assert read_limits(sysctls.root) == ListenQueueLimits(4096, 512, 1)


@pytest.mark.parametrize("name", ["core.somaxconn", "ipv4.tcp_max_syn_backlog"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"\x00\xff\n", r"not a number: '\x00\xff'"),
        (b"-5\n", "negative: '-5'"),
        (b"9" * 10_000, f"too large: '{'9' * 20}...'"),
    ],
    ids=["empty", "garbled", "negative", "huge"],
)
def test_one_bad_file_is_one_unknown_limit(
    sysctls: Sysctls, name: str, content: bytes, why: str
) -> None:
    sysctls.write(f"net.{name}", content)
    limits = read_limits(sysctls.root)
    assert limits.unknown == (f"net.{name}: {why}",)
    known = [limits.max_accept_queue, limits.max_syn_backlog, limits.syncookies]
    assert known.count(None) == 1


def test_a_missing_file_is_an_unknown_limit(sysctls: Sysctls) -> None:
    sysctls.path("net.ipv4.tcp_syncookies").unlink()
    assert read_limits(sysctls.root) == ListenQueueLimits(
        4096, 512, None, ("net.ipv4.tcp_syncookies: no such file",)
    )


def test_no_sysctls_at_all(sysctls: Sysctls) -> None:
    limits = read_limits(sysctls.root / "nowhere")
    assert (limits.max_accept_queue, limits.max_syn_backlog, limits.syncookies) == (None,) * 3
    assert len(limits.unknown) == 3


def test_a_directory_in_place_of_a_file(sysctls: Sysctls) -> None:
    sysctls.path("net.core.somaxconn").unlink()
    sysctls.path("net.core.somaxconn").mkdir()
    limits = read_limits(sysctls.root)
    assert limits.max_accept_queue is None
    assert limits.unknown == ("net.core.somaxconn: Is a directory",)


def test_a_file_in_place_of_a_directory(sysctls: Sysctls) -> None:
    sysctls.path("net.core.somaxconn").unlink()
    sysctls.path("net.core").rmdir()
    sysctls.path("net.core").write_bytes(b"4096\n")
    assert read_limits(sysctls.root).unknown == ("net.core.somaxconn: Not a directory",)


def test_a_file_that_may_not_be_read(sysctls: Sysctls) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Root may read any file, so the error is simulated.
    class Unreadable(type(sysctls.root)):  # type: ignore[misc]
        open = refuse

    limits = read_limits(Unreadable(sysctls.root))
    assert limits.max_accept_queue is None
    assert limits.unknown[0] == "net.core.somaxconn: not readable by this user"


@given(content=st.binary(max_size=200))
def test_no_content_stops_the_reading(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    sysctls = Sysctls(tmp_path_factory.getbasetemp())
    sysctls.write("net.core.somaxconn", content)
    limits = read_limits(sysctls.root)
    if sys.platform.startswith("linux"):
        assert (limits.max_accept_queue is None) == bool(limits.unknown)


def test_outside_linux_nothing_is_clamped_and_the_reason_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    limits = read_limits()
    assert limits == ListenQueueLimits(unknown=("net.core.somaxconn: only Linux has it",))
    assert clamp_backlog(10**9, limits) == 10**9
    assert "only Linux has it" in describe(1024, None, limits)


@linux
def test_the_limits_of_this_machine() -> None:
    limits = read_limits()
    shown = Path("/proc/sys/net/core/somaxconn")
    if shown.exists():
        assert limits.max_accept_queue == int(shown.read_text())


@given(st.integers(), limits_of_any_kernel)
def test_the_clamp_follows_the_rule(asked: int, limits: ListenQueueLimits) -> None:
    given_ = clamp_backlog(asked, limits)
    longest = limits.max_accept_queue
    if longest is None:
        assert given_ == max(asked, 0)
    else:
        assert given_ == min(max(asked, 0), longest)
        assert 0 <= given_ <= longest
    assert clamp_backlog(given_, limits) == given_


@given(st.integers(), st.integers(), limits_of_any_kernel)
def test_the_clamp_is_monotone(one: int, other: int, limits: ListenQueueLimits) -> None:
    less, more = sorted((one, other))
    assert clamp_backlog(less, limits) <= clamp_backlog(more, limits)


@given(st.integers(), limits_of_any_kernel)
def test_there_is_a_warning_exactly_if_the_backlog_is_clamped(
    asked: int, limits: ListenQueueLimits
) -> None:
    warning = clamp_warning(asked, limits)
    assert (warning is None) == (clamp_backlog(asked, limits) == asked)
    if warning is not None:
        assert len(warning.splitlines()) == 1


def test_the_warning_shows_how_to_raise_the_limit() -> None:
    assert clamp_warning(1000, ListenQueueLimits(128)) == (
        "backlog 1000 exceeds net.core.somaxconn: clamped to 128. "
        "To raise the limit of this network namespace: "
        "sysctl -w net.core.somaxconn=1000; to make it permanent: "
        "echo 'net.core.somaxconn = 1000' > /etc/sysctl.d/90-somaxconn.conf"
    )
    # A sysctl holds an int at most.
    assert f"somaxconn={INT_MAX};" in str(clamp_warning(2**40, ListenQueueLimits(128)))


def test_the_warning_for_a_negative_backlog() -> None:
    expected = "backlog -7 is below 0: clamped to 0"
    assert clamp_warning(-7, ListenQueueLimits(128)) == expected
    assert clamp_warning(-7, ListenQueueLimits()) == expected


@pytest.mark.parametrize(
    ("limits", "syn_queue"),
    [
        (
            ListenQueueLimits(4096, 512, 0),
            "SYN queue holds 128 from new peers and 128 in total, then SYNs are dropped "
            "(net.ipv4.tcp_syncookies 0, net.ipv4.tcp_max_syn_backlog 512)",
        ),
        (
            ListenQueueLimits(4096, 100, 0),
            "SYN queue holds 75 from new peers and 128 in total, then SYNs are dropped "
            "(net.ipv4.tcp_syncookies 0, net.ipv4.tcp_max_syn_backlog 100)",
        ),
        (
            ListenQueueLimits(4096, None, 0),
            "SYN queue holds 128, then SYNs are dropped (net.ipv4.tcp_syncookies 0)",
        ),
        (
            ListenQueueLimits(4096, 512, 1),
            "SYN queue holds 128, then SYNs are answered with cookies (net.ipv4.tcp_syncookies 1)",
        ),
        (
            ListenQueueLimits(4096, 512, 2),
            "SYN queue unused, every SYN is answered with a cookie (net.ipv4.tcp_syncookies 2)",
        ),
        (
            ListenQueueLimits(4096, 512, None),
            "SYN queue holds 128 (net.ipv4.tcp_syncookies unknown)",
        ),
    ],
)
def test_the_line_about_the_queues(limits: ListenQueueLimits, syn_queue: str) -> None:
    assert describe(128, AcceptQueue(0, 128), limits) == (
        f"accept queue holds 128 (asked 128, net.core.somaxconn 4096); {syn_queue}"
    )


def test_the_line_when_little_is_known() -> None:
    assert describe(None, None, ListenQueueLimits()) == (
        "accept queue length unknown (inherited, net.core.somaxconn unknown)"
    )
    limits = ListenQueueLimits(unknown=("a: no such file", "b: the file is empty"))
    line = describe(5, AcceptQueue(0, 5), limits)
    assert line.endswith("; a: no such file; b: the file is empty")
    assert len(line.splitlines()) == 1


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listening:
        yield listening


@linux
def test_the_accept_queue_is_read_back(listener: socket.socket) -> None:
    port = SimpleNamespace(socket=listener)
    assert accept_queue(port) == AcceptQueue(queued=0, limit=7)
    waiting = [socket.create_connection(listener.getsockname(), timeout=10) for _ in range(3)]
    try:
        assert accept_queue(port) == AcceptQueue(queued=3, limit=7)
        select.select([listener], [], [], 10)
        listener.accept()[0].close()
        assert accept_queue(port) == AcceptQueue(queued=2, limit=7)
    finally:
        for each in waiting:
            each.close()
    # A second listen() resizes the queue of a live socket.
    listener.listen(3)
    queue = accept_queue(port)
    assert queue is not None
    assert queue.limit == 3


@linux
@pytest.mark.parametrize(
    ("fields", "backlog", "believed"),
    [
        ((10, 0, 7), 7, True),
        ((10, 8, 7), 7, True),
        ((10, 0, 9), 7, True),
        ((10, 0, 1 << 20), 1 << 30, True),
        ((10, 0, 0), 0, True),
        ((10, 3, 7), None, True),
        # All zeros, and zeros but for the state.
        ((0, 0, 0), 7, False),
        ((10, 0, 0), 7, False),
        ((10, 0, 0), None, False),
        ((10, 0, 6), 7, False),
        ((10, 9, 7), 7, False),
        ((0xFF, 0xFFFFFFFF, 0xFFFFFFFF), 7, False),
        ((10, 0xFFFFFFFF, 7), None, False),
    ],
)
def test_a_queue_that_cannot_be_is_unknown(
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    fields: tuple[int, int, int],
    backlog: int | None,
    believed: bool,
) -> None:
    answer = struct.pack("=B7x16xII", *fields)
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: answer)
    limits = ListenQueueLimits(max_accept_queue=1 << 20)
    monkeypatch.setattr(listen_queue, "read_limits", lambda: limits)
    expected = AcceptQueue(*fields[1:]) if believed else None
    assert accept_queue(SimpleNamespace(socket=listener, backlog=backlog)) == expected
    assert accept_queue(SimpleNamespace(socket=listener), backlog) == expected


def test_there_is_no_accept_queue_where_nothing_listens(
    listener: socket.socket, tmp_path: Path
) -> None:
    with socket.create_connection(listener.getsockname(), timeout=10) as connected:
        assert accept_queue(SimpleNamespace(socket=connected)) is None
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.fspath(tmp_path / "socket"))
        unix.listen(5)
        assert accept_queue(SimpleNamespace(socket=unix)) is None
    with socket.socket() as closed:
        pass
    assert accept_queue(SimpleNamespace(socket=closed)) is None
    assert accept_queue(object()) is None


def test_there_is_no_accept_queue_to_read_outside_linux(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_info, "_TCP_INFO", None)
    assert accept_queue(SimpleNamespace(socket=listener)) is None
