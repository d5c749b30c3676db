"""The options of the command line: parsing, defaults, and error messages."""

from __future__ import annotations

import ipaddress
import re
import sys
from io import StringIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.application.twist._options import TwistOptions
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions

from echoproto.command.errors import CannotStartError
from echoproto.command.json_log import LogFormat
from echoproto.command.options import Options
from echoproto.core.connection_log import LogDetail
from echoproto.proxy_protocol.gate import ProxyMode

OPTIONS = [
    "port",
    "interface",
    "listen",
    "backlog",
    "drain-timeout",
    "drain-delay",
    "max-connections",
    "max-per-source",
    "idle-timeout",
    "max-bytes-per-second",
    "keepalive",
    "proxy-protocol",
    "proxy-from",
    "status",
    "tls-client-ca",
    "tls-min-version",
    "status-host",
    "log",
    "log-format",
    "lane",
    "reuse-address",
]


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
        "drain-delay": 0,
        "max-connections": 0,
        "max-per-source": 0,
        "idle-timeout": 0,
        "max-bytes-per-second": 0,
        "keepalive": 60.0,
        "proxy-protocol": ProxyMode.OFF,
        "proxy-from": [],
        "listen": [],
        "status-host": [],
        "status": None,
        "tls-client-ca": None,
        "tls-min-version": None,
        "log": LogDetail.LISTENING,
        "log-format": LogFormat.TEXT,
        "lane": "fast",
        "workers": 1,
        "worker-timeout": 30,
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
        (["-b", "2147483647"], "backlog", 2147483647),
        (["--drain-timeout", "0"], "drain-timeout", 0.0),
        (["--drain-timeout", ".5"], "drain-timeout", 0.5),
        (["--drain-timeout", "1.25"], "drain-timeout", 1.25),
        (["--drain-timeout", "500ms"], "drain-timeout", 0.5),
        (["--drain-timeout", "90s"], "drain-timeout", 90.0),
        (["--drain-delay", "1.5m"], "drain-delay", 90.0),
        (["--idle-timeout", "1h"], "idle-timeout", 3600.0),
        (["--idle-timeout", "100ms"], "idle-timeout", 0.1),
        (["--idle-timeout", "365d"], "idle-timeout", 31536000.0),
        (["--keepalive", "2m"], "keepalive", 120.0),
        (["--keepalive", "0"], "keepalive", 0.0),
        (["--max-bytes-per-second", "1k"], "max-bytes-per-second", 1024),
        (["--max-bytes-per-second", "1M"], "max-bytes-per-second", 1 << 20),
        (["--max-bytes-per-second", "64KiB"], "max-bytes-per-second", 1 << 16),
        (["--max-bytes-per-second", "2Gi"], "max-bytes-per-second", 2 << 30),
        (["--max-bytes-per-second", "1T"], "max-bytes-per-second", 1 << 40),
        (["--log", "chunks"], "log", LogDetail.CHUNKS),
        (["--reuse-address"], "reuse-address", True),
        (["--no-reuse-address"], "reuse-address", False),
        (["--reuse-address", "--no-reuse-address"], "reuse-address", False),
        (["--no-reuse-address", "--reuse-address"], "reuse-address", True),
        (["--port", "1", "--port", "2"], "port", 2),
        (["--listen", "tcp:1", "--listen", "unix:a"], "listen", ["tcp:1", "unix:a"]),
        (["--listen", "tcp:1"], "port", None),
        (["--listen", "tcp:1", "--port", "2"], "port", 2),
        (["--drain-delay", "2.5"], "drain-delay", 2.5),
        (["--max-connections", "10"], "max-connections", 10),
        (["--max-per-source", "0"], "max-per-source", 0),
        (["--idle-timeout", "30"], "idle-timeout", 30.0),
        (["--max-bytes-per-second", "1"], "max-bytes-per-second", 1),
        (["--proxy-protocol", "required"], "proxy-protocol", ProxyMode.REQUIRED),
        (
            ["--proxy-protocol=optional", "--proxy-from=::1", "--proxy-from=192.0.2.0/24"],
            "proxy-from",
            [ipaddress.ip_network("::1"), ipaddress.ip_network("192.0.2.0/24")],
        ),
        (["--status", "tcp:0"], "status", "tcp:0"),
        (["--listen=ssl:1", "--tls-client-ca", "ca.pem"], "tls-client-ca", "ca.pem"),
        (["--listen=tls:a", "--tls-min-version", "1.3"], "tls-min-version", "1.3"),
        (["--log-format", "json"], "log-format", LogFormat.JSON),
    ],
)
def test_options(arguments: list[str], option: str, value: object) -> None:
    assert parsed(*arguments)[option] == value


WHOLE = "not a whole number"
NO_TLS = "no TLS listener; allowed: with --listen ssl: or tls:"
BACKLOG = "a whole number of connections, up to 2147483647"
COUNT = "a whole number, up to 2147483647; 0 for no limit"
SECONDS = "to 31536000 seconds, or with a unit, as 500ms, 90s, 5m, 1h"
SIZE = (
    "1 to 1099511627776 bytes, or with a unit, as 64K or 64KiB, 1M, 1G (K is 1024); 0 for no limit"
)
REJECTED = [
    (["--tls-min-version", "1.3"], f"--tls-min-version 1.3: {NO_TLS}"),
    (["--listen=tcp:1", "--tls-client-ca", "a"], f"--tls-client-ca a: {NO_TLS}"),
    (["--tls-client-ca", ""], f"--tls-client-ca '': {NO_TLS}"),
    (["--tls-min-version", "1.1"], "--tls-min-version 1.1: no such version; allowed: 1.2, 1.3"),
    (["--port", "70000"], "--port 70000: out of range; allowed: 0 to 65535; 0 picks a free port"),
    (["--port", "-1"], "--port -1: out of range; allowed: 0 to 65535; 0 picks a free port"),
    (["--port", "x"], f"--port x: {WHOLE}; allowed: 0 to 65535; 0 picks a free port"),
    (["--port", ""], f"--port '': {WHOLE}; allowed: 0 to 65535; 0 picks a free port"),
    (["--port", " 1"], f"--port ' 1': {WHOLE}; allowed: 0 to 65535; 0 picks a free port"),
    (["--port", "1_0"], f"--port 1_0: {WHOLE}; allowed: 0 to 65535; 0 picks a free port"),
    (["--port", "٣"], f"--port ٣: {WHOLE}; allowed: 0 to 65535; 0 picks a free port"),
    (["--backlog", "many"], f"--backlog many: {WHOLE}; allowed: {BACKLOG}"),
    (["--backlog", "1e3"], f"--backlog 1e3: {WHOLE}; allowed: {BACKLOG}"),
    (
        ["--backlog", "9" * 5000],
        f"--backlog {'9' * 60}...{'9' * 17}: {WHOLE}; allowed: {BACKLOG}",
    ),
    *(
        (
            ["--drain-timeout", value],
            f"--drain-timeout {value}: not a duration; allowed: 0 {SECONDS}; 0 aborts immediately",
        )
        for value in ("-1", "nan", "inf", "1e3", "soon", "1_0", "1 s", "5x", ".", "1h30m")
    ),
    (
        ["--log", "all"],
        "--log all: no such detail; allowed: listening, connections, chunks",
    ),
    (["--log", "a\nb"], r"--log a\nb: no such detail; allowed: listening, connections, chunks"),
    (
        ["--max-connections", "-1"],
        f"--max-connections -1: out of range; allowed: {COUNT}",
    ),
    (
        ["--max-per-source", "few"],
        f"--max-per-source few: {WHOLE}; allowed: {COUNT}",
    ),
    (
        ["--max-bytes-per-second", "1.5M"],
        f"--max-bytes-per-second 1.5M: not a number of bytes; allowed: {SIZE}",
    ),
    (
        ["--max-bytes-per-second", "1MB"],
        f"--max-bytes-per-second 1MB: not a number of bytes; allowed: {SIZE}",
    ),
    (
        ["--max-bytes-per-second", "9" * 400],
        f"--max-bytes-per-second {'9' * 60}...{'9' * 17}: out of range; allowed: {SIZE}",
    ),
    (
        ["--max-bytes-per-second", "2T"],
        f"--max-bytes-per-second 2T: out of range; allowed: {SIZE}",
    ),
    *(
        (
            ["--idle-timeout", value],
            f"--idle-timeout {value}: out of range; allowed: 0.1 {SECONDS}; 0 for no limit",
        )
        for value in (".000000001", "99ms", "366d")
    ),
    (
        ["--drain-timeout", "9" * 400],
        f"--drain-timeout {'9' * 60}...{'9' * 17}: out of range; allowed: 0 {SECONDS}; "
        "0 aborts immediately",
    ),
    (
        ["--keepalive", "10h"],
        "--keepalive 10h: out of range; allowed: 1 to 32767 seconds, or with a unit, "
        "as 500ms, 90s, 5m, 1h; 0 never asks",
    ),
    (
        ["--backlog", "2147483648"],
        f"--backlog 2147483648: out of range; allowed: {BACKLOG}",
    ),
    (
        ["--drain-delay", "soon"],
        f"--drain-delay soon: not a duration; allowed: 0 {SECONDS}",
    ),
    (
        ["--proxy-protocol", "on"],
        "--proxy-protocol on: no such mode; allowed: off, optional, required",
    ),
    (
        ["--proxy-protocol", "required", "--proxy-from", "192.0.2.1/24"],
        "--proxy-from 192.0.2.1/24: not a network (host bits are set; 192.0.2.0/24 has none); "
        "allowed: an IPv4 or IPv6 network, such as 192.0.2.0/24 or 2001:db8::/32",
    ),
    (
        ["--proxy-from", "::1"],
        "--proxy-from ::1/128: PROXY headers are off; "
        "allowed: only with --proxy-protocol optional or required",
    ),
    (["--log-format", "xml"], "--log-format xml: no such format; allowed: text, json"),
    (
        ["--listen", "ssl:1", "--proxy-protocol", "required"],
        "--proxy-protocol required: a balancer sends the header before the TLS handshake, "
        "which ssl:1 does not read; allowed: listeners without TLS",
    ),
    (["--nonsense"], "unknown option --nonsense; see --help"),
    (["--x\ny"], r"unknown option --x\ny; see --help"),
    (["--max-conections", "5"], "unknown option --max-conections; did you mean --max-connections?"),
    (["--bind=::"], "unknown option --bind; see --help"),
    (["-z"], "unknown option -z; see --help"),
    (["--port"], "option --port requires a value; see --help"),
    (["-p"], "option -p requires a value; see --help"),
    (["--reuse-port=1"], "option --reuse-port takes no value; see --help"),
    (
        ["--drain", "5"],
        "ambiguous option --drain; did you mean --drain-delay or --drain-timeout?",
    ),
    (["--="], "ambiguous option --; see --help"),
    (["--not a unique prefix"], "unknown option --not a unique prefix; see --help"),
    (
        ["--status-host", "echo.example"],
        "--status-host echo.example: there is no --status; allowed: with --status",
    ),
    (
        ["--status-host", "echo.example:80", "--status", "0"],
        "--status-host echo.example:80: not a host name; allowed: a name, such as echo.example",
    ),
    (
        ["--listen", "TLS:/certs:1", "--proxy-protocol", "required"],
        "--proxy-protocol required: a balancer sends the header before the TLS handshake, "
        "which TLS:/certs:1 does not read; allowed: listeners without TLS",
    ),
    (
        ["--listen", "unix:a", "--interface", "::1"],
        "--interface ::1: there is no --port to bind; allowed: with --port, or an address in "
        "--listen, such as 192.0.2.1:9999",
    ),
    (["9999"], "unexpected argument '9999'; allowed: options only"),
]


@pytest.mark.parametrize(("arguments", "message"), REJECTED)
def test_invalid_options_are_rejected_in_one_line(arguments: list[str], message: str) -> None:
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


@pytest.mark.parametrize("program", [ServerOptions, TwistOptions])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pidfile", "x"], "--pidfile VALUE"),
        (["--pidfile="], "--pidfile VALUE"),
        (["--logfile=x"], "--logfile VALUE"),
        (["--uid=nobody"], "--uid VALUE"),
        (["--nodaemon"], "--nodaemon"),
        (["-n"], "-n"),
        (["-l", "x"], "-l VALUE"),
        (["--reactor=poll"], "--reactor VALUE"),
        (["-ny"], "-n"),
    ],
)
def test_an_option_of_the_program_belongs_before_the_word_echo(
    arguments: list[str], said: str, program: type[usage.Options]
) -> None:
    options = Options()
    options.parent = program()
    name = said.split()[0]
    with pytest.raises(CannotStartError) as refused:
        options.parseOptions(arguments)
    if program is TwistOptions and name != "--reactor":
        assert str(refused.value.code).startswith(f"unknown option {name};")
    else:
        word = "twist" if program is TwistOptions else "twistd"
        assert refused.value.code == (
            f"{name} is an option of the program; allowed: before the word echo: {word} {said} echo"
        )


def test_json_cannot_be_logged_to_syslog() -> None:
    options = Options()
    options.parent = usage.Options()
    options.parent["syslog"] = True
    with pytest.raises(CannotStartError, match="--log-format json: the log goes to syslog"):
        options.parseOptions(["--log-format", "json"])


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


@pytest.mark.parametrize("value", ["x" * 1000, "\x1f" * 1000, "\U00018cd6" * 1000])
@pytest.mark.parametrize("option", sorted({*OPTIONS} - {"interface", "listen", "status"}))
def test_a_long_value_is_rejected_in_a_short_line(option: str, value: str) -> None:
    with pytest.raises(usage.UsageError) as raised:
        Options().parseOptions([f"--{option}={value}"])
    assert f"--{option} " in str(raised.value)
    assert len(str(raised.value)) < 300


@given(arguments=words, has_parent=st.booleans())
@example(arguments=["--nonsense\nsecond line"], has_parent=True)
@example(arguments=["-\n"], has_parent=False)
@example(arguments=["\udcff" * 1000], has_parent=True)
@example(arguments=["--" + "x" * 5000], has_parent=True)
@example(arguments=["--="], has_parent=False)
def test_any_arguments_are_accepted_or_rejected_in_one_line(
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
        assert options["listen"] or 0 <= options["port"] <= 65535
        assert options["drain-timeout"] >= 0
        assert isinstance(options["backlog"], int)
        assert isinstance(options["log"], LogDetail)
        return
    assert len(message) < 300
    assert message.isprintable()
    assert re.search(r"; (allowed: |did you mean -|see --help$)", message)


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
    for default in ("9999, or none if --listen is given", "127.0.0.1", "1024", "10", "listening"):
        assert f"[default: {default}]" in text
