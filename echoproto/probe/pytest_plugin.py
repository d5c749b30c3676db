"""The probe in your own test suite: the fixture ``echo_target``.

    @given(conversations())
    @settings(deadline=None)
    def test_the_balancer_loses_nothing(echo_target, conversation):
        echo_target.check(conversation)

``pytest --echo-target balancer:7`` names the target, or ``echo_target`` in the ini file. Without
either, echoproto's own server is started as a process for the session.

pytest imports this module in every run wherever echoproto is installed, so what costs time is
imported when the fixture is used. The fixture needs only pytest; the strategies need Hypothesis,
which comes with the extra ``probe``.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from echoproto.probe.script.conversation import Conversation, Session
    from echoproto.probe.wire.target import Target
    from echoproto.probe.wire.verdict import Outcome

__all__ = ["EchoTarget", "echo_target"]

#: How long our own server may take to listen, in seconds.
START_TIMEOUT = 30
#: Starts our own server on a free port. ``twist`` rather than ``twistd``, whose path is not known
#: here and which would write a pid file.
SERVER = (sys.executable, "-m", "twisted", "--log-format=text", "echo", "--port", "0")

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--echo-target`` and ``echo_target``."""
    group = parser.getgroup("echoproto", "echoproto: find out what a network path does to bytes")
    group.addoption(
        "--echo-target",
        metavar="TARGET",
        help="the target of the fixture echo_target, an echo behind a path: host:port, "
        "tls:host:port or unix:/path (default: start an echo server)",
    )
    parser.addini("echo_target", "the same as --echo-target, which takes precedence")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the target, if one is given."""
    target, _ = _asked(config)
    return f"echo target: {target}" if target else None


class EchoTarget:
    """An echo behind some path, to run conversations with.

    Args:
        target: where to connect.

    Raises:
        TargetError: if there is no connection.
        NotAnEchoError: if the target is not an echo.
    """

    def __init__(self, target: Target) -> None:
        from echoproto.probe.search.preflight import preflight

        self.target = target
        self._connector, self._preflight = preflight(target)
        self._failed = False

    def __repr__(self) -> str:
        return f"<EchoTarget {self.target}>"

    def check(self, script: Conversation | Session | str) -> None:
        """Run a conversation, and fail unless exactly the bytes sent come back.

        Args:
            script: a conversation or session, or the text of one: ``"send 0d ff; fin"``.

        Raises:
            AssertionError: if they do not; the message shows what was sent and received.
            ConversationError: if the text is not a conversation.
        """
        __tracebackhide__ = True
        from echoproto.probe.script.conversation import Session
        from echoproto.probe.wire.run import run

        session = Session.parse(script) if isinstance(script, str) else Session.of(script)
        # The long timeout until something fails, so that a busy machine is not taken for a
        # fault; then the short one, because Hypothesis shrinks.
        known = self._preflight
        stall = known.timeout if self._failed else known.patience
        outcome = run(session, self._connector, known.limits(stall))
        if not outcome.ok:
            self._failed = True
            raise AssertionError(_message(self.target, outcome))


@pytest.fixture(scope="session")
def echo_target(request: pytest.FixtureRequest) -> Iterator[EchoTarget]:
    """The echo to test: that of ``--echo-target``, or our own server."""
    from echoproto.probe.search.preflight import NotAnEchoError
    from echoproto.probe.wire.target import Target, TargetError

    place, asked_by = _asked(request.config)
    with contextlib.ExitStack() as stack:
        if not place:
            place, asked_by = stack.enter_context(_own_server()), "our own server"
        try:
            target = EchoTarget(Target.parse(place))
        except (TargetError, NotAnEchoError) as error:
            pytest.fail(f"{asked_by} {place}: {error}", pytrace=False)
        yield target


def _asked(config: pytest.Config) -> tuple[str, str]:
    """Return the target asked for, and the name of the option that named it."""
    option = config.getoption("--echo-target")
    if option:
        return str(option), "--echo-target"
    return str(config.getini("echo_target")), "echo_target"


@contextlib.contextmanager
def _own_server() -> Iterator[str]:
    """Run our own server as a process to the end of the block; yield its address."""
    with subprocess.Popen(
        SERVER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        # The thread reads to the end, so that the server never blocks on a full pipe.
        log: deque[str] = deque(maxlen=5)
        heard = threading.Event()
        found: list[str] = []

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line.strip())
                match = _LISTENING.search(line)
                if match:
                    found.append(match[1])
                    heard.set()
            heard.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            heard.wait(START_TIMEOUT)
            if not found:
                output = " / ".join(log) or "it printed nothing"
                pytest.fail(f"our own echo server did not start: {output}", pytrace=False)
            yield found[0]
        finally:
            process.kill()
            reader.join()


def _message(target: Target, outcome: Outcome) -> str:
    """Return the message of a failed check."""
    from echoproto.probe.report.describe import describe
    from echoproto.probe.search.result import example_line, replay_line

    lines = [
        f"{target} does not echo this conversation:",
        f"    {outcome.session}",
        *describe(outcome),
        "",
        f"replay:  {replay_line(target.words, outcome.session)}",
        f"pin:     {example_line(outcome.session)}",
    ]
    return "\n".join(lines)
