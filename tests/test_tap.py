"""The command line: its words, its defaults, and how it refuses."""

from __future__ import annotations

import errno
import re
import socket
import sys
from io import StringIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage

from echoproto.endpoint import TCPEndpoint
from echoproto.factory import LogDetail
from echoproto.service import EchoService
from echoproto.tap import CannotStartError, Options, makeService

OPTIONS = ["port", "interface", "backlog", "drain-timeout", "log", "lane", "reuse-address"]


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def test_the_defaults() -> None:
    assert dict(parsed()) == {
        "port": 9999,
        "interface": "127.0.0.1",
        "reuse-address": True,
        "backlog": 1024,
        "drain-timeout": 10,
        "log": LogDetail.LISTENING,
        "lane": "fast",
        "workers": 1,
        "reuse-port": False,
    }


@pytest.mark.parametrize(
    ("arguments", "option", "value"),
    [
        (["--port", "0"], "port", 0),
        (["-p", "65535"], "port", 65535),
        (["--port=07"], "port", 7),
        (["--interface", "::"], "interface", "::"),
        (["-i", "localhost"], "interface", "localhost"),
        (["--backlog", "0"], "backlog", 0),
        (["-b", "-7"], "backlog", -7),
        (["-b", "9" * 30], "backlog", int("9" * 30)),
        (["--drain-timeout", "0"], "drain-timeout", 0.0),
        (["--drain-timeout", ".5"], "drain-timeout", 0.5),
        (["--drain-timeout", "1.25"], "drain-timeout", 1.25),
        (["--log", "chunks"], "log", LogDetail.CHUNKS),
        (["--reuse-address"], "reuse-address", True),
        (["--no-reuse-address"], "reuse-address", False),
        (["--reuse-address", "--no-reuse-address"], "reuse-address", False),
        (["--no-reuse-address", "--reuse-address"], "reuse-address", True),
        (["--port", "1", "--port", "2"], "port", 2),
    ],
)
def test_options(arguments: list[str], option: str, value: object) -> None:
    assert parsed(*arguments)[option] == value


WHOLE = "not a whole number"
REFUSED = [
    (["--port", "70000"], "--port 70000: out of range; allowed: 0 to 65535; 0 takes a free one"),
    (["--port", "-1"], "--port -1: out of range; allowed: 0 to 65535; 0 takes a free one"),
    (["--port", "x"], f"--port x: {WHOLE}; allowed: 0 to 65535; 0 takes a free one"),
    (["--port", ""], f"--port '': {WHOLE}; allowed: 0 to 65535; 0 takes a free one"),
    (["--port", " 1"], f"--port ' 1': {WHOLE}; allowed: 0 to 65535; 0 takes a free one"),
    (["--port", "1_0"], f"--port 1_0: {WHOLE}; allowed: 0 to 65535; 0 takes a free one"),
    (["--port", "٣"], f"--port ٣: {WHOLE}; allowed: 0 to 65535; 0 takes a free one"),
    (["--backlog", "many"], f"--backlog many: {WHOLE}; allowed: a whole number of connections"),
    (["--backlog", "1e3"], f"--backlog 1e3: {WHOLE}; allowed: a whole number of connections"),
    (
        ["--backlog", "9" * 5000],
        f"--backlog {'9' * 60}...{'9' * 17}: {WHOLE}; allowed: a whole number of connections",
    ),
    *(
        (
            ["--drain-timeout", value],
            f"--drain-timeout {value}: not a number of seconds; allowed: "
            "a number of seconds, 0 or more; 0 cuts at once",
        )
        for value in ("-1", "nan", "inf", "1e3", "soon")
    ),
    (
        ["--log", "all"],
        "--log all: no such detail; allowed: listening, connections, chunks",
    ),
    (["--log", "a\nb"], r"--log a\nb: no such detail; allowed: listening, connections, chunks"),
    (["--nonsense"], "option --nonsense not recognized; allowed: what --help lists"),
    (["-z"], "option -z not recognized; allowed: what --help lists"),
    (["--port"], "option --port requires argument; allowed: what --help lists"),
    (["9999"], "unexpected argument '9999'; allowed: options only"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(usage.UsageError) as caught:
        parsed(*arguments)
    assert str(caught.value) == message
    # On twistd's own command line the line is all that is printed.
    options = Options()
    options.parent = usage.Options()
    with pytest.raises(CannotStartError) as refused:
        options.parseOptions(arguments)
    assert refused.value.code == message
    assert isinstance(refused.value, SystemExit)


values = (
    st.text()
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["listening", "connections", "chunks", "::", "0.0.0.0", ""])
)
words = st.lists(
    values
    | st.sampled_from([f"--{option}" for option in [*OPTIONS, "no-reuse-address", "help"]])
    | st.sampled_from(["-p", "-i", "-b", "--", "--version"])
    | st.builds("--{}={}".format, st.sampled_from(OPTIONS) | st.text(), values)
    | st.builds("-{}{}".format, st.sampled_from("pib") | st.characters(), values),
    max_size=6,
)


@given(arguments=words, has_parent=st.booleans())
@example(arguments=["--nonsense\nsecond line"], has_parent=True)
@example(arguments=["-\n"], has_parent=False)
@example(arguments=["\udcff" * 1000], has_parent=True)
@example(arguments=["--" + "x" * 5000], has_parent=True)
def test_any_arguments_are_taken_or_refused_in_one_line(
    arguments: list[str], has_parent: bool
) -> None:
    options = Options()
    if has_parent:
        options.parent = usage.Options()
        options.parent.subCommand = "echo"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", StringIO())
            options.parseOptions(arguments)
    except usage.UsageError as error:
        assert not has_parent
        message = str(error)
    except CannotStartError as error:
        assert has_parent
        message = str(error.code)
    except SystemExit as end:
        code = end.code
        assert any(each.startswith(("--h", "--v")) for each in arguments)
        assert not code
        return
    else:
        assert 0 <= options["port"] <= 65535
        assert options["drain-timeout"] >= 0
        assert isinstance(options["backlog"], int)
        assert isinstance(options["log"], LogDetail)
        return
    assert len(message) < 300
    assert message.isprintable()
    assert "allowed: " in message


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed("--version")
    assert not end.value.code
    shown = capsys.readouterr().out
    assert re.match(r"echoproto \d+\.\d+\.\d+\nTwisted version: \d+", shown)


def test_help_shows_every_option_with_its_default() -> None:
    text = " ".join(str(Options()).split())
    for option in (*OPTIONS, "no-reuse-address"):
        assert f"--{option}" in text
    for default in ("9999", "127.0.0.1", "1024", "10", "listening"):
        assert f"[default: {default}]" in text


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def test_the_service_is_what_the_options_say(reactor: MemoryReactorClock) -> None:
    service = makeService(
        parsed("-p", "7", "-i", "::1", "-b", "5", "--drain-timeout", "3", "--log", "chunks"),
        reactor,
    )
    (endpoint,) = service._endpoints
    assert isinstance(endpoint, TCPEndpoint)
    assert (endpoint.port, endpoint.interface, endpoint.backlog) == (7, "::1", 5)
    service.privilegedStartService()
    ((_, factory, backlog, interface),) = reactor.tcpServers
    assert isinstance(service, EchoService)
    assert factory is service.factory
    assert (backlog, interface) == (5, "::1")


def test_the_global_reactor_is_the_default(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted.internet.reactor", reactor, raising=False)
    makeService(parsed()).privilegedStartService()
    assert len(reactor.tcpServers) == 1


def refused(
    monkeypatch: pytest.MonkeyPatch, why: Exception, *arguments: str, parent: Any = None
) -> CannotStartError:
    """Start where the socket refuses; return the refusal."""

    class Refusing(MemoryReactorClock):
        def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            raise CannotListenError(interface, port, why)

    options = parsed(*arguments)
    options.parent = parent
    service = makeService(options, Refusing())
    with pytest.raises(CannotStartError) as caught:
        service.privilegedStartService()
    assert not service.running
    return caught.value


def os_error(code: int) -> OSError:
    return OSError(code, f"strerror {code}")


@pytest.mark.parametrize(
    ("why", "message"),
    [
        (
            os_error(errno.EADDRINUSE),
            "--port 7: in use on 127.0.0.1; allowed: a free port, or 0 to take one",
        ),
        (
            os_error(errno.EACCES),
            f"--port 7: this user may not bind it (strerror {errno.EACCES}); allowed: a port of "
            "net.ipv4.ip_unprivileged_port_start or above; or start as root, with twistd's "
            "--uid and --gid to serve as another user",
        ),
        (
            os_error(errno.EADDRNOTAVAIL),
            "--interface 127.0.0.1: not an address of this machine; "
            "allowed: one that `ip address` shows",
        ),
        (
            os_error(errno.EINVAL),
            f"--interface 127.0.0.1: cannot be bound (strerror {errno.EINVAL}); allowed: one that "
            "`ip address` shows; a link-local one with its device, as in fe80::1%eth0",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "--interface 127.0.0.1: does not resolve (Name or service not known); "
            "allowed: an address or a host name",
        ),
        (
            os_error(errno.EMFILE),
            f"--interface 127.0.0.1: cannot listen on port 7 (strerror {errno.EMFILE}); "
            "allowed: another one",
        ),
    ],
)
def test_why_it_cannot_start(monkeypatch: pytest.MonkeyPatch, why: Exception, message: str) -> None:
    assert str(refused(monkeypatch, why, "--port", "7")) == message


@pytest.mark.parametrize(
    ("parent", "code"),
    [
        ({"nodaemon": True, "logfile": None}, 1),
        ({"nodaemon": True, "logfile": "-"}, 1),
        ({"nodaemon": True, "logfile": "echo.log"}, None),
        ({"nodaemon": False, "logfile": None}, None),
    ],
)
def test_the_line_is_on_the_terminal_once(
    monkeypatch: pytest.MonkeyPatch, parent: dict[str, object], code: int | None
) -> None:
    terminal = StringIO()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    refusal = refused(monkeypatch, os_error(errno.EADDRINUSE), parent=parent)
    line = "--port 9999: in use on 127.0.0.1; allowed: a free port, or 0 to take one"
    assert terminal.getvalue() == f"{line}\n"
    # With a code instead, the interpreter prints nothing more.
    assert refusal.code == (line if code is None else code)


def test_a_refusal_is_met_by_those_who_meet_exceptions() -> None:
    # twistd removes its pid file only after these.
    assert issubclass(CannotStartError, Exception)
