"""A session that a state machine takes step by step, and that ends the test when it fails."""

from __future__ import annotations

from collections.abc import Collection

from echoproto.probe.pytest_plugin.checks import Checks, Failed, without
from echoproto.probe.pytest_plugin.message import fail
from echoproto.probe.pytest_plugin.running_test import RunningTest
from echoproto.probe.script.conversation import (
    Conversation,
    HalfClose,
    Reset,
    Send,
    Session,
    Step,
)
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Steps"]


class Steps:
    """Conversations in turn, on an open connection.

    A failure is raised at the end. Hypothesis would see a test that depends on the network if a
    run ended at the step that failed, and the same steps later went on, or the other way round.
    What follows the failure is not run.

    Once the shortest failure of a test is known, nothing is sent any more: steps fail if they
    contain it. So Hypothesis shrinks them without a network.

    Args:
        target: where to connect.
        checks: what the test knows of the target.
        test: that runs; None outside of pytest, where another tool shrinks.
        excluded: the kinds of fault that are no failure.
        alone: whether nothing but these steps happens to the path.
    """

    def __init__(
        self,
        target: Target,
        checks: Checks,
        test: RunningTest | None,
        excluded: Collection[Fault],
        alone: bool,
    ) -> None:
        self._target = target
        self._checks = checks
        self._test = test
        self._excluded = excluded
        self._alone = alone
        self._conversations: list[tuple[Step, ...]] = []
        self._closed = True
        self._open = None if checks.has_failed else checks.open()
        self._outcome: Outcome | None = None

    @property
    def session(self) -> Session:
        """The steps so far."""
        return Session(tuple(map(Conversation, self._conversations)), sequential=True)

    def connect(self) -> None:
        """Begin a conversation.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory.
        """
        self._closed = False
        self._conversations.append(())
        if self._open is not None:
            self._note(self._open.connect())

    def take(self, step: Step) -> None:
        """Take a step, and return when it is done.

        A step that cannot follow the one before it is the first of another conversation. So each
        of them can be left out, which is what Hypothesis tries in order to shrink.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory.
            TargetError: if the step cannot be taken with the target.
        """
        if not _can_follow(self._conversations[-1], step):
            self.close()
        if self._closed:
            self.connect()
        self._conversations[-1] += (step,)
        if self._open is not None:
            self._note(self._open.take(step))

    def close(self) -> None:
        """End the conversation. The next step is the first of another one.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory.
        """
        if not self._closed and self._open is not None:
            self._note(self._open.close())
        self._closed = True

    def end(self) -> None:
        """End the conversation, and with it the session.

        Raises:
            AssertionError: if the path failed.
            LocalError: if this machine is out of ports, descriptors or memory.
        """
        __tracebackhide__ = True
        try:
            self.close()
        finally:
            self._drop()
        failed = self._failed()
        if failed is not None:
            fail(self._target, failed, self._test)

    def _note(self, outcome: Outcome | None) -> None:
        if outcome is not None and not without(outcome, self._excluded).ok:
            self._outcome = outcome
            self._drop()

    def _drop(self) -> None:
        if self._open is not None:
            self._open.drop()
            self._open = None

    def _failed(self) -> Failed | None:
        """Return the failure; None if there is none, or it did not come again."""
        checks, outcome = self._checks, self._outcome
        if outcome is None:
            if checks.has_failed:
                return checks.known_failure(self.session)
            checks.passed(self.session)
            return None
        if self._test is None:
            return Failed(without(outcome, self._excluded))
        before = checks.ignored_stalls
        found = checks.judge_drawn(outcome, self._excluded, self.session, self._alone)
        self._test.ignored_stalls += checks.ignored_stalls - before
        return found if isinstance(found, Failed) else None


def _can_follow(steps: tuple[Step, ...], step: Step) -> bool:
    """Return whether a conversation can go on with this step."""
    if any(isinstance(before, Reset) for before in steps):
        return False
    closed = any(isinstance(before, HalfClose) for before in steps)
    return not (closed and isinstance(step, Send | HalfClose))
