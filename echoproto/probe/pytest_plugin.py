"""The probe for a test suite of one's own: the fixture ``echo_target``.

    @given(conversations())
    @settings(deadline=None)
    def test_the_balancer_loses_nothing(echo_target, conversation):
        echo_target.check(conversation)

``pytest --echo-target balancer:7`` says what to test, or ``echo_target`` in the ini file;
without either, our own server is started as a process for the session.

pytest imports this module in every run of everybody who has echoproto installed: whatever
costs time is imported when the fixture is used. The fixture itself needs nothing but pytest;
the strategies need Hypothesis, which comes with the extra ``probe``.
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

#: Seconds that our own server may take to listen.
START_TIMEOUT = 30
#: What starts our own server on a free port. The path name of a twistd script is not known here,
#: and twist leaves no pid file behind.
SERVER = (sys.executable, "-m", "twisted", "--log-format=text", "echo", "--port", "0")

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--echo-target`` and ``echo_target``."""
    group = parser.getgroup("echoproto", "echoproto: what does a network path do to bytes?")
    group.addoption(
        "--echo-target",
        metavar="TARGET",
        help="the echo behind the path that the fixture echo_target tests: host:port, "
        "tls:host:port, unix:/path; without it, an echo server of its own is started",
    )
    parser.addini("echo_target", "the same as --echo-target, which goes before it")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the target, if one is given."""
    target, _ = _asked(config)
    return f"echo target: {target}" if target else None


class EchoTarget:
    """An echo behind some path, to hold conversations with.

    Args:
        target: where it is.

    Raises:
        TargetError: if there is no connection.
        NotAnEchoError: if what answers is no echo.
    """

    def __init__(self, target: Target) -> None:
        from echoproto.probe.search.preflight import preflight

        self.target = target
        self._connector, self._preflight = preflight(target)
        self._failed = False

    def __repr__(self) -> str:
        return f"<EchoTarget {self.target}>"

    def check(self, script: Conversation | Session | str) -> None:
        """Hold a conversation, and fail unless all that was sent comes back.

        Args:
            script: a conversation or session, or the text of one: ``"send 0d ff; fin"``.

        Raises:
            AssertionError: if anything else came back, with what was sent and received.
            ConversationError: if the text is no conversation.
        """
        __tracebackhide__ = True
        from echoproto.probe.script.conversation import Session
        from echoproto.probe.wire.run import run

        session = Session.parse(script) if isinstance(script, str) else Session.of(script)
        # Patient until something is wrong, so that a busy machine is not taken for a fault;
        # then quick, because Hypothesis shrinks.
        known = self._preflight
        stall = known.timeout if self._failed else known.patience
        outcome = run(session, self._connector, known.limits(stall))
        if not outcome.ok:
            self._failed = True
            raise AssertionError(_message(self.target, outcome))


@pytest.fixture(scope="session")
def echo_target(request: pytest.FixtureRequest) -> Iterator[EchoTarget]:
    """The echo to test: that of ``--echo-target``, or a server of our own."""
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
    """The target asked for, and where: on the command line or in the ini file."""
    option = config.getoption("--echo-target")
    if option:
        return str(option), "--echo-target"
    return str(config.getini("echo_target")), "echo_target"


@contextlib.contextmanager
def _own_server() -> Iterator[str]:
    """Our own server as a process, to the end of the block; its address."""
    with subprocess.Popen(
        SERVER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        # The thread reads to the end, so that the server never waits for room in the pipe.
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
    """What pytest shows of a failed check."""
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
