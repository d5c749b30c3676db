from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path as File

import pytest
from hypothesis import example, given, settings

from echoproto.probe import pytest_plugin
from echoproto.probe.pytest_plugin import EchoTarget
from echoproto.probe.script.conversation import Conversation, ConversationError
from echoproto.probe.script.strategies import conversations
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import FAULTS, NOT_AN_ECHO, Path

pytest_plugins = ["pytester"]

IAC = next(fault for fault in FAULTS if fault.name == "iac-swallowed")

FUZZING = """
from hypothesis import given, settings
from echoproto.probe import conversations

@settings(deadline=None, max_examples=100, database=None)
@given(conversations())
def test_nothing_is_lost(echo_target, conversation):
    echo_target.check(conversation)
"""


@pytest.fixture
def right() -> Iterator[str]:
    with Path() as path:
        yield f"127.0.0.1:{path.port}"


@pytest.fixture
def wrong() -> Iterator[str]:
    with Path(IAC.relay) as path:
        yield f"127.0.0.1:{path.port}"


def test_pytest_finds_the_plugin() -> None:
    (found,) = entry_points(group="pytest11", name="echoproto")
    assert found.value == pytest_plugin.__name__


def test_importing_the_plugin_is_cheap() -> None:
    """pytest imports it in every run wherever echoproto is installed."""
    heavy = ("hypothesis", "click", "rich", "twisted", "ssl")
    code = (
        "import pytest, sys; before = set(sys.modules); import echoproto.probe.pytest_plugin;"
        f"print(sorted(set({heavy!r}) & (set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_correct_path_passes_every_conversation(right: str) -> None:
    target = EchoTarget(Target.parse(right))

    @settings(deadline=None, max_examples=50, database=None)
    @example(Conversation())
    @given(conversations())
    def passes(conversation: Conversation) -> None:
        target.check(conversation)

    passes()
    target.check("send 0d ff; await; send 00*4097; fin")
    target.check("send 41 | send 42")


def test_the_message_of_a_failed_check(wrong: str) -> None:
    target = EchoTarget(Target.parse(wrong))
    with pytest.raises(AssertionError) as raised:
        target.check("send 41 ff 42; fin")
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{wrong} does not echo this conversation:"
    assert lines[1].strip() == "send 41 ff 42; fin"
    assert lines[2] == "corrupt: byte 1 came back as 42 instead of ff"
    assert any(re.search(r"ms  sent 3 bytes: 41 ff 42$", line) for line in lines)
    assert lines[-2] == f"replay:  echoproto replay {wrong} 'send 41 ff 42; fin'"
    assert lines[-1] == 'pin:     @example(Conversation.parse("send 41 ff 42; fin"))'


def test_an_invalid_text_is_an_error(right: str) -> None:
    with pytest.raises(ConversationError, match="hello"):
        EchoTarget(Target.parse(right)).check("hello")


def test_the_option_names_the_target(pytester: pytest.Pytester, wrong: str) -> None:
    pytester.makepyfile(FUZZING)
    result = pytester.runpytest("--echo-target", wrong)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"echo target: {wrong}",
            "*does not echo this conversation:*",
            f"*replay:  echoproto replay {wrong} 'send ff'*",
        ]
    )
    # The frames of the fixture are hidden.
    result.stdout.no_re_match_line(r".*pytest_plugin\.py:\d+: AssertionError")


def test_the_ini_file_names_the_target(pytester: pytest.Pytester, right: str) -> None:
    pytester.makeini(f"[pytest]\necho_target = {right}\n")
    pytester.makepyfile(FUZZING)
    result = pytester.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"echo target: {right}"])


def test_the_option_takes_precedence_over_the_ini_file(
    pytester: pytest.Pytester, right: str
) -> None:
    pytester.makeini("[pytest]\necho_target = 127.0.0.1:1\n")
    pytester.makepyfile("def test_it(echo_target): echo_target.check('send 00')")
    pytester.runpytest("--echo-target", right).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("127.0.0.1:1", "*--echo-target 127.0.0.1:1: *refused*"),
        ("127.0.0.1:70000", "*--echo-target 127.0.0.1:70000: *70000*"),
    ],
)
def test_an_unreachable_target_is_reported_in_one_line(
    pytester: pytest.Pytester, target: str, line: str
) -> None:
    pytester.makepyfile("def test_it(echo_target): pass")
    result = pytester.runpytest("--echo-target", target)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([line])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_target_that_is_not_an_echo_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(echo_target): pass")
    with Path(NOT_AN_ECHO["greeting"]) as path:
        result = pytester.runpytest("--echo-target", f"127.0.0.1:{path.port}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*not an echo*banner*220 ready*"])


@pytest.mark.slow
def test_the_hypothesis_database_and_profiles_work(pytester: pytest.Pytester, wrong: str) -> None:
    pytester.makepyfile(FUZZING.replace(", max_examples=100, database=None", ""))
    # Without drawing anything new, the shrunk conversation comes from the database.
    pytester.makeconftest(
        "from hypothesis import Phase, settings\n"
        "from hypothesis.database import DirectoryBasedExampleDatabase\n"
        # On CI, Hypothesis uses a profile without a database.
        "kept = settings(database=DirectoryBasedExampleDatabase('examples'), derandomize=False)\n"
        "settings.register_profile('draw', kept)\n"
        "settings.register_profile('again', kept, phases=[Phase.reuse])\n"
    )

    def run(profile: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess(
            "--echo-target", wrong, f"--hypothesis-profile={profile}"
        )

    run("again").assert_outcomes(skipped=1)
    run("draw").assert_outcomes(failed=1)
    result = run("again")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'send ff'*"])


@pytest.mark.slow
def test_each_worker_of_xdist_tests_the_target(pytester: pytest.Pytester, right: str) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_it(echo_target, n):
            echo_target.check("send 00..ff; fin")
        """
    )
    result = pytester.runpytest_subprocess("-n", "2", "--echo-target", right)
    result.assert_outcomes(passed=4)


STUB = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print("2026-01-01 [-] listening on 127.0.0.1:%d; queue" % listener.getsockname()[1], flush=True)

def serve(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)

while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""


def test_without_a_target_a_server_is_started_and_stopped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: File
) -> None:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(pytest_plugin, "SERVER", (sys.executable, str(stub)))
    pytester.makepyfile("def test_it(echo_target): echo_target.check('send 00..ff; fin')")
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_server_that_does_not_start_is_reported(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest_plugin, "SERVER", (sys.executable, "-c", "exit('no such plugin')"))
    pytester.makepyfile("def test_it(echo_target): pass")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*our own echo server did not start: no such plugin*"])


@pytest.mark.skipif(
    importlib.util.find_spec("echoproto.command.tap") is None,
    reason="the serve wing is not installed",
)
def test_our_own_server_is_the_default_target(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FUZZING)
    pytester.runpytest().assert_outcomes(passed=1)
