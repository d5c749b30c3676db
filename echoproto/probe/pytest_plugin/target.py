"""An echo behind some path, to run conversations with in a test."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Collection, Iterable

from echoproto.probe.pytest_plugin import running_test
from echoproto.probe.pytest_plugin.checks import Checks, Failed
from echoproto.probe.pytest_plugin.message import fail
from echoproto.probe.pytest_plugin.steps import Steps
from echoproto.probe.script.catalogue import Case
from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Reset,
    Session,
)
from echoproto.probe.search.availability import Availability, availability_of
from echoproto.probe.search.preflight import Preflight, preflight
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import PATIENCE
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["EchoTarget"]

Script = Conversation | Session | Case | str


class EchoTarget:
    """An echo behind some path, to run conversations with.

    It connects when it is first used, so that it may be made where no network is: at the top of
    a module, or before the proxy that it tests.

    Args:
        target: where to connect.
        exclude: the kinds of fault that are no failure, as ``never-closed``.
        patience: seconds of silence after which bytes are lost; before, they are late.

    Raises:
        ValueError: if ``exclude`` has a kind that does not exist.
    """

    def __init__(
        self,
        target: Target,
        *,
        exclude: Iterable[Fault | str] = (),
        patience: float = PATIENCE,
    ) -> None:
        self.target = target
        self._patience = patience
        self._excluded = _kinds(exclude)
        self._path: tuple[Connector, Preflight] | None = None
        self._availability: Availability | None = None
        self._connecting = threading.Lock()

    def __repr__(self) -> str:
        return f"<EchoTarget {self.target}>"

    def connect(self) -> Preflight:
        """Find out what all verdicts depend on, unless it is known; return it.

        Raises:
            TargetError: if there is no connection.
            NotAnEchoError: if the target is not an echo.
            LocalError: if this machine is out of ports or descriptors.
        """
        return self._connect()[1]

    def _connect(self) -> tuple[Connector, Preflight]:
        with self._connecting:
            if self._path is None:
                self._path = preflight(self.target, patience=self._patience)
            return self._path

    def _checks(self) -> Checks:
        """Return the checks of one test."""
        connector, known = self._connect()
        with self._connecting:
            if self._availability is None:
                self._availability = availability_of(connector, known)
        return Checks(connector, known, self._availability)

    def check(self, script: Script, *, exclude: Iterable[Fault | str] = ()) -> Outcome:
        """Run a conversation, and fail unless exactly the bytes sent come back.

        In a test that Hypothesis runs, the first failure is shrunk to the shortest, and the test
        then looks for this failure only.

        Args:
            script: a conversation, a session, a case of the catalogue, or the text of a session:
                ``"send 0d ff; fin"``.
            exclude: kinds of fault that are no failure here, besides those of the target.

        Returns:
            what happened, of a session that passed.

        Raises:
            AssertionError: if other bytes come back; the message shows what was sent and
                received.
            ConversationError: if the text is not a conversation.
            TypeError: if ``script`` is none of these.
            RuntimeError: in an event loop, which it would block; see :meth:`acheck`.
            TargetError, NotAnEchoError, LocalError: as :meth:`connect`.
        """
        __tracebackhide__ = True
        if _in_event_loop():
            raise RuntimeError(
                "check() would block the event loop that runs; use 'await echo_target.acheck(...)'"
            )
        job = _Job(self, script, self._excluded | _kinds(exclude))
        return job.conclude(job.run())

    async def acheck(self, script: Script, *, exclude: Iterable[Fault | str] = ()) -> Outcome:
        """Do what :meth:`check` does, in a thread, so that the event loop can run the echo.

        Args:
            script: as for :meth:`check`.
            exclude: as for :meth:`check`.

        Returns:
            as :meth:`check`.

        Raises:
            AssertionError: as :meth:`check`, like the others.
        """
        __tracebackhide__ = True
        job = _Job(self, script, self._excluded | _kinds(exclude))
        return job.conclude(await asyncio.to_thread(job.run))

    def steps(self, alone: bool = True) -> Steps:
        """Return a session to take step by step, for :class:`EchoMachine`.

        Args:
            alone: whether nothing but these steps happens to the path.

        Raises:
            TargetError, NotAnEchoError, LocalError: as :meth:`connect`.
        """
        test = running_test.current()
        if test is None:
            return Steps(self.target, self._checks(), None, self._excluded, alone)
        checks: Checks = test.keep(self, self._checks)
        return Steps(self.target, checks, test, self._excluded, alone)


class _Job:
    """One check: begun and concluded in the thread of the test, run in any."""

    def __init__(self, echo: EchoTarget, script: Script, excluded: Collection[Fault]) -> None:
        self._echo = echo
        self._test = running_test.current()
        self._excluded = excluded
        self._as_session = isinstance(script, Session)
        self._session = _session(script)
        # Outside of pytest nothing ends the memory of a failure, and another tool shrinks.
        self._drawn = self._test is not None and _in_hypothesis()

    def run(self) -> Outcome | Failed | None:
        make = self._echo._checks  # noqa: SLF001  # of this file
        if self._test is None:
            return make().check(self._session, self._excluded)
        checks: Checks = self._test.keep(self._echo, make)
        before = checks.ignored_stalls
        check = checks.check_drawn if self._drawn else checks.check
        found = check(self._session, self._excluded)
        self._test.ignored_stalls += checks.ignored_stalls - before
        return found

    def conclude(self, found: Outcome | Failed | None) -> Outcome:
        __tracebackhide__ = True
        if isinstance(found, Failed):
            fail(self._echo.target, found, self._test, self._as_session)
        if self._drawn:
            _tell_hypothesis(self._session, found)
        assert found is not None
        return found


def _tell_hypothesis(session: Session, found: Outcome | None) -> None:
    """Note what was drawn, for its statistics; discard what was not run."""
    import hypothesis

    if found is None:
        # Neither passed nor failed: this test has found its failure, and this is not it.
        hypothesis.reject()
    last = session.conversations[-1].steps[-1:]
    ends = {Await: "await", HalfClose: "fin", Reset: "reset"}
    size = sum(len(conversation.payload) for conversation in session.conversations)
    count = len(session.conversations)
    hypothesis.event("ends with", ends.get(type(last[0]), "data") if last else "nothing")
    hypothesis.event("bytes sent", _magnitude(size))
    hypothesis.event("connections", "1" if count == 1 else "in turn" if session.sequential
                     else "several at once")  # fmt: skip


def _magnitude(size: int) -> str:
    for most in (0, 99, 1499, 65_535):
        if size <= most:
            return f"at most {most:,}"
    return "65,536 or more"


def _session(script: Script) -> Session:
    """Return the session to run.

    Raises:
        ConversationError: if it is a text that is none.
        TypeError: if it is anything else, such as the bytes to send.
    """
    if isinstance(script, str):
        return Session.parse(script)
    if isinstance(script, Case):
        return script.session
    if isinstance(script, Conversation | Session):
        return Session.of(script)
    raise TypeError(
        "a conversation, a session, a case or a text such as 'send 00; fin' is needed, "
        f"not {type(script).__name__}"
    )


def _kinds(names: Iterable[Fault | str]) -> frozenset[Fault]:
    """Return the kinds of these names.

    Raises:
        ValueError: naming the kinds that exist.
    """
    allowed = [str(kind) for kind in Fault if kind is not Fault.NONE]
    given = [names] if isinstance(names, str) else list(names)
    for name in given:
        if str(name) not in allowed:
            raise ValueError(f"exclude: {str(name)!r}; must be of {', '.join(allowed)}")
    return frozenset(map(Fault, given))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_hypothesis() -> bool:
    if "hypothesis" not in sys.modules:
        return False
    import hypothesis

    return hypothesis.currently_in_test_context()
