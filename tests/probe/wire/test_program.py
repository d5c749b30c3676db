"""Programs and inherited sockets as targets. The programs are those of every system, and start in
a few milliseconds."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.search.preflight import preflight
from echoproto.probe.wire import program
from echoproto.probe.wire.connector import Connector, LocalError
from echoproto.probe.wire.first_connection import connect, place
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.ping import pings
from echoproto.probe.wire.place import command_of
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Action, Fault
from tests.probe.conftest import echo

BY_EOF = Limits(stall=5, half_close=True)
BY_TIME = Limits(stall=5, half_close=False)


def exec_(command: str) -> Connector:
    return connect(Target.parse(f"exec:{command}"))


def test_a_program_for_each_connection() -> None:
    made = exec_("cat")
    assert place(made) == "exec:cat"
    for text in ("nothing", "send 00; fin", "send 01*200000 | send 00..ff; await; fin", "reset"):
        outcome = run(Session.parse(text), made, BY_EOF)
        assert outcome.ok, outcome.verdict.message
    assert [reply.kind for reply in pings(made, 3, 0)] == [Fault.NONE] * 3


def test_a_pty_is_raw_and_has_no_half_close() -> None:
    made = exec_("cat,pty=1")
    assert not made.target.half_closes
    # Every byte that a terminal may take for a command.
    outcome = run(Conversation.parse("send 00..ff; fin"), made, BY_TIME)
    assert outcome.ok, outcome.verdict.message
    assert Action.SENT_FIN not in [event.action for event in outcome.timelines[0]]
    assert run(Conversation.parse("slow 1000000; send 01*20000; await; reset"), made, BY_TIME).ok


def test_the_pty_is_the_controlling_terminal() -> None:
    outcome = run(
        Conversation.parse("pause 1; send 61; await"),
        exec_("sh -c 'exec cat </dev/tty >/dev/tty',pty=1"),
        BY_TIME,
    )
    assert outcome.ok, outcome.verdict.message


def test_eof_of_a_program_on_a_pty() -> None:
    outcome = run(Conversation.parse("send 61 62; await"), exec_("head -c 1,pty=1"), BY_TIME)
    assert (outcome.kind, outcome.verdict.received) == (Fault.TRUNCATED, 1)


def test_it_is_ended_and_reaped_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_UNTIL_SIGTERM", 0.01)
    monkeypatch.setattr(program, "_UNTIL_SIGKILL", 0.01)
    before = set(threading.enumerate())
    for command in ("sh -c 'echo $$; exec sleep 60'", "sh -c 'trap : TERM; echo $$; sleep 60'"):
        programs = program.Programs(command)
        sock = programs()
        pid = int(sock.recv(20))
        os.kill(pid, 0)
        sock.close()
        sock.close()
        assert programs.last_words() == ""  # it waits for the end; what is forced says nothing
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("true", "true exited with code 0"),
        ("sh -c 'echo a >&2; echo no such host >&2; exit 3'",
         "sh exited with code 3: no such host"),
        ("sh -c 'exit 4',pty=1", "sh exited with code 4"),
        ("sh -c 'kill -9 $$'", f"sh was killed by signal {int(signal.SIGKILL)}"),
    ],
)  # fmt: skip
def test_how_it_ended(command: str, words: str) -> None:
    programs = program.Programs(command)
    sock = programs()
    sock.setblocking(True)
    assert sock.recv(1) == b""
    sock.close()
    assert programs.last_words() == words


def test_what_cannot_be_started(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter")
    script.chmod(0o700)
    with pytest.raises(TargetError, match=r"cannot start '.*/script': Exec format error"):
        run(Conversation(), exec_(str(script)), BY_EOF)

    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("subprocess.Popen", none_left)
    with pytest.raises(LocalError, match="no more processes or sockets: Resource temporarily"):
        run(Conversation(), exec_("cat"), BY_EOF)


def test_a_program_that_is_no_echo_says_why() -> None:
    with pytest.raises(TargetError, match=r"\(sh exited with code 3: no such host\)"):
        preflight(Target.parse("exec:sh -c 'echo no such host >&2; exit 3'"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("exec:", "target 'exec:': no command; must be exec:COMMAND[,pty=1]"),
        ("exec: ,pty=1", "no command"),
        ("exec:sh 'a", "no closing quotation"),
        ("exec:no-such-program -x", "there is no program 'no-such-program'"),
        ("fd:-1", "'-1' is not the number of a descriptor"),
        ("fd:x", "'x' is not the number of a descriptor"),
        ("fd:999999", "target 'fd:999999': Bad file descriptor; must be a connected"),
    ],
)
def test_what_is_none(text: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=re.escape(complaint)):
        connect(Target.parse(text))


@pytest.mark.parametrize(
    ("text", "words", "pty"),
    [
        ("exec:ssh host nc localhost 7", ["ssh", "host", "nc", "localhost", "7"], False),
        ("exec:cat -a,b,pty=1", ["cat", "-a,b"], True),
        ("exec:cat,pty=0", ["cat"], False),
        ("exec:sh -c 'a; b',pty=1", ["sh", "-c", "a; b"], True),
        ("exec:cat,pty=1 x", ["cat,pty=1", "x"], False),
    ],
)
def test_commands(text: str, words: list[str], pty: bool) -> None:
    target = Target.parse(text)
    assert command_of(target.path) == (words, pty)
    assert target.half_closes is not pty
    assert Target.from_words(target.words) == target
    assert str(target) == text


@pytest.fixture
def inherited() -> Iterator[int]:
    """The number of a socket to an echo."""
    here, there = socket.socketpair()

    def serve() -> None:
        with there:
            echo(there)

    thread = threading.Thread(target=serve)
    thread.start()
    yield here.detach()
    thread.join(10)


def test_an_inherited_socket_is_one_connection(inherited: int) -> None:
    made = connect(Target.parse(f"fd:{inherited}"))
    assert run(Conversation.parse("send 61; await; fin"), made, BY_TIME).ok
    with pytest.raises(TargetError, match=f"fd:{inherited} is one connection, which is used up"):
        run(Conversation.parse("send 61"), made, BY_TIME)


def test_pings_over_an_inherited_socket(inherited: int) -> None:
    assert [r.kind for r in pings(connect(Target.parse(f"fd:{inherited}")), 3, 0)] == [
        Fault.NONE
    ] * 3


def test_what_is_inherited_must_be_a_connected_stream_socket() -> None:
    read, write = os.pipe()
    with socket.socket() as unconnected, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for fd in (read, unconnected.fileno(), datagrams.fileno()):
            with pytest.raises(TargetError, match=f"target 'fd:{fd}': .*; must be a connected"):
                connect(Target.parse(f"fd:{fd}"))
            os.fstat(fd)  # it was not closed
    os.close(read)
    os.close(write)


def test_a_campaign_needs_more_than_one_connection() -> None:
    with pytest.raises(TargetError, match="fd:7 is one connection, and this needs many; use ping"):
        preflight(Target.parse("fd:7"))


def test_they_have_no_options_of_a_host() -> None:
    for text in ("exec:cat", "fd:7"):
        with pytest.raises(TargetError, match="-4 needs a host"):
            Target.parse(text, family="4")
        with pytest.raises(TargetError, match="--via needs a host"):
            Target.parse(text, via=["http://a:1"])
