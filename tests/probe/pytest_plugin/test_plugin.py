from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path as File

import pytest
from hypothesis import example, given, settings

from echoproto.probe import EchoTarget, pytest_plugin
from echoproto.probe.pytest_plugin import server
from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import Conversation, ConversationError
from echoproto.probe.script.strategies import conversations
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import FAULTS, NOT_AN_ECHO, FaultyPath, Path, Relay

pytest_plugins = ["pytester"]

IAC = next(fault for fault in FAULTS if fault.name == "iac-swallowed")

#: Of each kind, one whose shortest conversation is long where it can be.
SHOWN = (
    "iac-swallowed",
    "cr-nul-to-cr",
    "flipped-at-4095",
    "flipped-at-65535",
    "end-resets",
)


class Stalling(Relay):
    """Swallows one conversation: the first that sends as many bytes as the tests below."""

    stalled = False

    def client_sent(self, data: bytes) -> None:
        if len(data) == 256 and not Stalling.stalled:
            Stalling.stalled = True
            self.mute()
        else:
            self.to_echo(data)


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
    target = EchoTarget(Target.parse(wrong), patience=1)
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


def test_the_option_names_the_target(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    # In CI, the short summary of pytest has whole messages.
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile(FUZZING)
    result = pytester.runpytest("--echo-target", wrong, "--echo-patience", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"echo target: {wrong}",
            "*does not echo this conversation:*",
            f"*replay:  echoproto replay {wrong} 'send ff'*",
            f"FAILED * - {wrong}: *: send ff",
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


def test_an_unreachable_target_is_reported_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(echo_target): pass")
    result = pytester.runpytest("--echo-target", "127.0.0.1:1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--echo-target 127.0.0.1:1: *refused*"])
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
            "--echo-target", wrong, "--echo-patience", "1", f"--hypothesis-profile={profile}"
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


def test_the_catalogue_is_a_test_for_each_case(pytester: pytest.Pytester, wrong: str) -> None:
    pytester.makepyfile(
        "def test_the_catalogue(echo_target, echo_case): echo_target.check(echo_case)"
    )
    result = pytester.runpytest(
        "--echo-target", wrong, "--echo-patience", "1", "-k", "E-011 or E-021", "-rA"
    )
    result.assert_outcomes(passed=1, failed=1, deselected=len(catalogue()) - 2)
    result.stdout.fnmatch_lines(["*PASSED*E-0?1*"])


def test_in_an_event_loop_the_echo_may_run_in_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from echoproto.probe import EchoTarget, Target

        async def serve(reader, writer):
            while data := await reader.read(65536):
                writer.write(data.replace(b"\\xff", b"\\xfe"))
            writer.close()

        def test_it():
            asyncio.run(main())

        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            target = EchoTarget(Target.parse(f"127.0.0.1:{port}"))
            with pytest.raises(RuntimeError, match="await echo_target.acheck"):
                target.check("send 61")
            assert (await target.acheck("send 61; fin")).ok
            with pytest.raises(AssertionError, match="byte 0 came back as fe instead of ff"):
                await target.acheck("send ff")
            server.close()
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_what_was_drawn_is_in_the_statistics(pytester: pytest.Pytester, right: str) -> None:
    pytester.makepyfile(FUZZING)
    result = pytester.runpytest("--echo-target", right, "--hypothesis-show-statistics")
    result.stdout.fnmatch_lines_random(
        ["*bytes sent: at most 1,499", "*ends with: fin", "*connections: 1"]
    )


def test_a_test_of_unittest(pytester: pytest.Pytester, wrong: str) -> None:
    pytester.makepyfile(
        """
        import unittest
        import pytest
        from hypothesis import given, settings
        from echoproto.probe import conversations

        class TestBalancer(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _target(self, echo_target):
                self.echo = echo_target

            @settings(deadline=None, database=None)
            @given(conversations())
            def test_it(self, conversation):
                self.echo.check(conversation)
        """
    )
    result = pytester.runpytest("--echo-target", wrong, "--echo-patience", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*conversation=Conversation.parse(*send ff*"])


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in SHOWN], ids=str)
def test_a_failure_is_short_to_read(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fault: FaultyPath
) -> None:
    # In CI, the short summary of pytest has whole messages.
    monkeypatch.setenv("CI", "true")
    # With one seed of ten, Hypothesis ends with a longer one: see test_shrinking.
    pytester.makepyfile(FUZZING.replace("database=None", "database=None, derandomize=True"))
    with Path(fault.relay) as path:
        target = f"127.0.0.1:{path.port}"
        result = pytester.runpytest("-W", "error", "--echo-target", target, "--echo-patience", "2")
    result.assert_outcomes(failed=1)
    assert len(result.outlines) < 60
    assert max(map(len, result.outlines)) < 200
    result.stdout.fnmatch_lines(
        [
            f'*pin: *Conversation.parse("{fault.shortest}")*',
            f'*Conversation.parse("{fault.shortest}")*',
            f"FAILED * - 127.0.0.1:{path.port}: *: {fault.shortest}",
        ]
    )


@pytest.mark.slow
def test_a_stall_that_does_not_recur_is_only_counted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "def test_it(echo_target): echo_target.check('send 00..ff; fin')\n"
        "def test_others(echo_target): echo_target.check('send 00..ff; fin')\n"
    )
    with Path(Stalling) as path:
        target = ("--echo-target", f"127.0.0.1:{path.port}", "--echo-patience", "1")
        result = pytester.runpytest_subprocess("-n", "1", *target)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["echo target: ignored 1 stall that did not recur"])


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
    monkeypatch.setattr(server, "SERVER", (sys.executable, str(stub)))
    pytester.makepyfile("def test_it(echo_target): echo_target.check('send 00..ff; fin')")
    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.slow
def test_our_own_server_ends_when_pytest_is_killed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, signal
        def test_it(echo_target):
            print("port", echo_target.target.port, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result = pytester.runpytest_subprocess("-s")
    assert result.ret == -signal.SIGKILL
    (port,) = re.findall(r"port (\d+)", result.stdout.str())
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", int(port))).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("the server still listens")


def test_a_server_that_does_not_start_is_reported(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SERVER", (sys.executable, "-c", "exit('no such plugin')"))
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


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", "inf"])
def test_a_patience_that_is_no_time_is_a_usage_error(pytester: pytest.Pytester, value: str) -> None:
    result = pytester.runpytest("--echo-patience", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--echo-patience '{value}'; must be a number of seconds*"])
