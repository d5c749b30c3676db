"""A state machine of Hypothesis with an open connection to step through."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from echoproto.probe.pytest_plugin.steps import Steps
from echoproto.probe.pytest_plugin.target import EchoTarget
from echoproto.probe.script.conversation import Await, HalfClose, Reset, Send, Step
from echoproto.probe.script.strategies import payloads

__all__ = ["EchoMachine"]


def _connected(machine: Any) -> bool:
    return machine._steps is not None  # noqa: SLF001  # of this file


class EchoMachine(RuleBasedStateMachine):
    """Steps through conversations with a target, one after the other.

    A step that cannot follow the one before it, as a ``send`` after a ``fin``, is the first of
    another conversation, on a new connection.

    Each rule is one step, and is done when it returns: bytes are with the kernel, what is awaited
    is back. A subclass may have rules of its own, which run while the connection is open: one
    that reloads the configuration of a proxy, for example.

    The first failure is shrunk as by :meth:`EchoTarget.check`. If it does not come again without
    the rules of a subclass, Hypothesis shrinks it, by running all of them.

    Args:
        echo: the target.

    Attributes:
        echo: the target.
    """

    def __init__(self, echo: EchoTarget) -> None:
        super().__init__()
        self.echo = echo
        self._steps: Steps | None = None

    # The first step is always this one. Hypothesis draws there also which rules to use at all, so
    # it cannot leave the first step out. It can leave out each of the others.
    @rule()
    @precondition(lambda self: self._steps is None)
    def connect(self) -> None:
        """Open the first connection."""
        self._steps = self.echo.steps(alone=not _has_own(type(self)))
        self._steps.connect()

    @rule(step=payloads().map(Send))
    @precondition(_connected)
    def send(self, step: Send) -> None:
        """Send bytes in one write."""
        self._take(step)

    @rule()
    @precondition(_connected)
    def wait(self) -> None:
        """Wait until everything sent so far is back."""
        self._take(Await())

    @rule()
    @precondition(_connected)
    def fin(self) -> None:
        """Close the sending side."""
        self._take(HalfClose())

    @rule()
    @precondition(_connected)
    def reset(self) -> None:
        """Abort the connection with RST."""
        self._take(Reset())

    @rule()
    @precondition(_connected)
    def close(self) -> None:
        """End the connection as a conversation ends."""
        if self._steps is not None:
            self._steps.close()

    def _take(self, step: Step) -> None:
        if self._steps is not None:
            self._steps.take(step)

    def teardown(self) -> None:
        """End the connection; Hypothesis calls this after the last step."""
        __tracebackhide__ = True
        if self._steps is not None:
            self._steps.end()


def _has_own(machine: type) -> bool:
    """Return whether a subclass has methods of its own, which may do something to the path."""
    own = machine.__mro__[: machine.__mro__.index(EchoMachine)]
    return any(
        callable(value) and not name.startswith("__")
        for each in own
        for name, value in vars(each).items()
    )
