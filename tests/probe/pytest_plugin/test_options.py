from __future__ import annotations

import inspect
from pathlib import Path as File

import pytest

from echoproto.probe.pytest_plugin import options
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.target_options import TARGET_OPTIONS

pytest_plugins = ["pytester"]


def test_every_option_of_a_target_is_an_option_of_pytest(pytester: pytest.Pytester) -> None:
    parameters = inspect.signature(Target.parse).parameters.values()
    names = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert set(TARGET_OPTIONS) == names
    config = pytester.parseconfig()
    for name in names:
        assert config.getoption(f"echo_target_{name}") is None
        assert not config.getini(f"echo_target_{name}")


def target(pytester: pytest.Pytester, *words: str) -> Target | None:
    return options.target_of(pytester.parseconfig(*words))


def test_without_options_there_is_no_target(pytester: pytest.Pytester) -> None:
    assert target(pytester) is None


def test_options_of_the_command_line(pytester: pytest.Pytester) -> None:
    words = "--echo-target tls:a:1 --echo-target-insecure --echo-target-server-name b"
    words += " --echo-target-send-proxy v2 --echo-target-family 6 --echo-target-skip-banner"
    words += " --echo-target-via http://b:1 --echo-target-via socks5://c:2"
    assert target(pytester, *words.split()) == Target.parse(
        "tls:a:1",
        insecure=True,
        server_name="b",
        send_proxy="v2",
        family="6",
        via=["http://b:1", "socks5://c:2"],
        skip_banner=True,
    )


def test_options_of_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\necho_target = tls:a:1\necho_target_insecure = yes\n"
        "echo_target_server_name = b\necho_target_send_proxy = v1\n"
        "echo_target_via =\n    http://b:1\n    socks5://c:2\n"
    )
    via = ["http://b:1", "socks5://c:2"]
    assert target(pytester) == Target.parse(
        "tls:a:1", insecure=True, server_name="b", send_proxy="v1", via=via
    )
    # Each option of the command line takes precedence over its own ini name.
    assert target(pytester, "--echo-target", "tls:c:2", "--echo-target-send-proxy=v2") == (
        Target.parse("tls:c:2", insecure=True, server_name="b", send_proxy="v2", via=via)
    )


def test_files_of_the_ini_file_are_relative_to_it(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("below")
    pytester.makeini("[pytest]\necho_target = tls:a:1\necho_target_ca = ca.pem\n")
    with pytest.raises(pytest.UsageError, match=f"{File(pytester.path, 'ca.pem')}: No such file"):
        target(pytester, str(folder))


def test_a_flag_of_the_ini_file_that_is_none(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\necho_target = tls:a:1\necho_target_insecure = maybe\n")
    with pytest.raises(pytest.UsageError, match=r"^echo_target_insecure: "):
        target(pytester)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--echo-target 127.0.0.1:70000", "--echo-target: *port '70000'; must be 1 to 65535*"),
        ("--echo-target http://a:9", "--echo-target: *is a URL; try a:9*"),
        ("--echo-target-ca x", "--echo-target-ca: needs --echo-target, or echo_target in the ini*"),
        ("--echo-target a:1 --echo-target-ca x", "*: --echo-target-ca needs a tls: target*"),
        ("--echo-target tls:a:1 --echo-target-key x", "*-key needs --echo-target-cert"),
        ("--echo-target tls:a:1 --echo-target-ca missing", "*-ca missing: No such file*"),
        ("--echo-target unix:/a --echo-target-family 4", "*: --echo-target-family 4 needs a host*"),
        ("--echo-target a:1 --echo-target-via b", "*: --echo-target-via 'b'; must be socks5:*"),
        ("--echo-target a:1 --echo-target-send-proxy v3", "*invalid choice: 'v3'*"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_a_usage_error(
    pytester: pytest.Pytester, words: str, message: str
) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest(*words.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])
    result.stdout.no_fnmatch_line("*passed*")
