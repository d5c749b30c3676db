"""Steps through an open connection, and the state machine that takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import (
    get_state_machine_test,
    precondition,
    rule,
    run_state_machine_as_test,
)

from echoproto.probe import Conversation, EchoMachine, EchoTarget, Fault, Send, Session, Target
from echoproto.probe.pytest_plugin import running_test
from echoproto.probe.pytest_plugin.steps import Steps
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.open_session import OpenSession
from tests.probe.faulty_paths import FAULTS, Path, Relay

LIMITS = Limits(5.0, half_close=True)


@pytest.fixture(autouse=True)
def test_of_its_own() -> Iterator[None]:
    """A memory that does not last until the test has ended."""
    with running_test.begin():
        yield


def take(steps: OpenSession | Steps, text: str) -> Any:
    """Take the steps of a conversation; return what the last one returned."""
    found = None
    for step in Conversation.parse(text).steps:
        found = steps.take(step)
    return found


@pytest.mark.parametrize(
    "text", ["", "send 61; await; send 00*300000; send ff; await", "send 61; fin", "await; reset"]
)
def test_a_right_path_shows_no_fault(right_connector: Connector, text: str) -> None:
    session = OpenSession(right_connector, LIMITS)
    for _ in range(2):
        assert session.connect() is None
        assert take(session, text) is None
        assert session.close() is None
        # It is done.
        assert session.close() is None
    session.drop()


class Wrong(Relay):
    """Turns ff into fe, and closes after 7f."""

    def client_sent(self, data: bytes) -> None:
        self.to_echo(data.replace(b"\xff", b"\xfe"))
        if b"\x7f" in data:
            self.end_client()


@pytest.mark.parametrize(
    ("text", "kind"),
    [("send 61; await; send ff; await", Fault.CORRUPT), ("send 7f 61*9; await; await", None)],
)
def test_a_fault_is_an_outcome_of_the_steps_so_far(text: str, kind: Fault | None) -> None:
    with Path(Wrong) as path:
        target = EchoTarget(Target.parse(f"127.0.0.1:{path.port}"))
        session = OpenSession(target._connect()[0], LIMITS)
        assert session.connect() is None
        found = [session.take(step) for step in Conversation.parse(text).steps]
        closed = session.close()
    (outcome,) = [each for each in (*found, closed) if each is not None]
    if kind is not None:
        assert (outcome.kind, str(outcome.session)) == (kind, text)
        assert outcome.verdict.offset == 1


def test_a_step_that_cannot_follow_begins_another_conversation() -> None:
    with Path() as path:
        steps = EchoTarget(Target.parse(f"127.0.0.1:{path.port}")).steps()
        steps.connect()
        take(steps, "send 61; fin; await")
        take(steps, "send 62; reset")
        take(steps, "await")
        steps.close()
        take(steps, "fin")
        steps.end()
    assert str(steps.session) == ("send 61; fin; await then send 62; reset then await then fin")


def test_once_a_failure_is_known_nothing_is_sent() -> None:
    with Path(Wrong) as path:
        echo = EchoTarget(Target.parse(f"127.0.0.1:{path.port}"))
        steps = echo.steps()
        steps.connect()
        take(steps, "send 61 ff; await; send 62; fin")
        with pytest.raises(AssertionError, match=r'pin: +@example\(Conversation.parse\("send ff"'):
            steps.end()
    # The path is gone.
    for text, fails in (("send 00; await; send 00 ff 00", True), ("send fe; reset", False)):
        again = echo.steps()
        again.connect()
        take(again, text)
        if fails:
            with pytest.raises(AssertionError, match=r"send ff"):
                again.end()
        else:
            again.end()


def test_the_machine_passes_on_a_right_path() -> None:
    with Path() as path:
        echo = EchoTarget(Target.parse(f"127.0.0.1:{path.port}"))
        quick = settings(database=None, deadline=None, max_examples=5, stateful_step_count=6)
        make: Any = lambda: EchoMachine(echo)  # noqa: E731  # annotated as a class, but any will do
        run_state_machine_as_test(make, settings=quick)


def shrunk(machine: type[EchoMachine], echo: EchoTarget, seed_: int) -> Session:
    """Return the steps that Hypothesis ends with."""
    ran: list[EchoMachine] = []

    def made() -> EchoMachine:
        ran.append(machine(echo))
        return ran[-1]

    make: Any = made
    quiet = settings(database=None, deadline=None, max_examples=500, stateful_step_count=10)
    with pytest.raises(AssertionError, match="does not echo this conversation"):
        seed(seed_)(get_state_machine_test(make, settings=quiet))()
    steps = ran[-1]._steps
    assert steps is not None
    return steps.session


@pytest.mark.slow
def test_the_steps_are_the_shortest() -> None:
    (fault,) = (fault for fault in FAULTS if fault.name == "crlf-to-lf")
    with Path(fault.relay) as path:
        echo = EchoTarget(Target.parse(f"127.0.0.1:{path.port}"), patience=1)
        assert str(shrunk(EchoMachine, echo, 1)) == fault.shortest


class Reloaded(Relay):
    """Corrupts what old connections send after a reload."""

    reloads = 0
    opened_at: int | None = None

    def client_sent(self, data: bytes) -> None:
        if self.opened_at is None:
            self.opened_at = Reloaded.reloads
        self.to_echo(data if self.opened_at == Reloaded.reloads else data.replace(b"\0", b"\1"))


class Reloading(EchoMachine):
    @rule()
    @precondition(lambda self: self._steps is not None)
    def reload(self) -> None:
        # The path knows the connection, if it has sent anything.
        self.wait()
        Reloaded.reloads += 1


@pytest.mark.slow
def test_rules_of_its_own_are_run_again_and_shrunk() -> None:
    with Path(Reloaded) as path:
        echo = EchoTarget(Target.parse(f"127.0.0.1:{path.port}"), patience=1)
        steps = shrunk(Reloading, echo, 1)
    # What is sent first makes the connection an old one.
    first, second = (s for s in steps.conversations[-1].steps if isinstance(s, Send))
    assert (first.payload, second.payload) == (b"\0", b"\0")
