"""The signals of the program, with real signals and a reactor that the test turns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from echoproto.base.ending_signals import ending_signals
from echoproto.command.signals import SignalHandlers
from tests.logs import logged

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")


class SignalledReactor(MemoryReactorClock):
    """What a reactor has to do with signals."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped_by: list[int] = []
        self.queued: list[Callable[[], None]] = []

    def sigInt(self, number: int, frame: Any = None) -> None:
        self.stopped_by.append(number)

    def sigTerm(self, number: int, frame: Any = None) -> None:
        self.stopped_by.append(number)

    def callFromThread(self, function: Any, *args: Any, **named: Any) -> None:
        self.queued.append(lambda: function(*args, **named))

    def turn(self) -> None:
        queued, self.queued = self.queued, []
        for call in queued:
            call()


class Program:
    """A program with handlers, as the tests look at it."""

    def __init__(self) -> None:
        self.reactor = SignalledReactor()
        self.did: list[str] = []
        self.handlers = SignalHandlers(
            self.reactor,
            abort=lambda: self.did.append("abort"),
            reload=lambda: self.did.append("reload"),
            reopen_log=lambda: self.did.append("reopen"),
        )

    def run(self) -> None:
        """Do what twistd does: the program is made, then the reactor runs."""
        self.handlers.install()
        for signum, handler in (
            (signal.SIGINT, self.reactor.sigInt),
            (signal.SIGTERM, self.reactor.sigTerm),
        ):
            signal.signal(signum, handler)
        for hook, args, named in self.reactor.whenRunningHooks:
            hook(*args, **named)

    def signal(self, *numbers: int) -> None:
        """Send signals within one turn of the reactor."""
        for number in numbers:
            signal.raise_signal(number)
        # Handlers interrupt anything, and do nothing themselves.
        assert self.did == []
        self.reactor.turn()


@pytest.fixture
def program() -> Iterator[Program]:
    before = {signum: signal.getsignal(signum) for signum in ending_signals()}
    # pytest and its plug-ins may have handlers; a new process has none.
    for signum in before:
        signal.signal(signum, signal.SIG_DFL)
    yield Program()
    for signum, handler in before.items():
        signal.signal(signum, handler if handler is not None else signal.SIG_DFL)


@pytest.mark.parametrize(
    ("signum", "action"), [(signal.SIGHUP, "reload"), (signal.SIGUSR1, "reopen")]
)
@pytest.mark.parametrize("running", [False, True])
def test_files_are_read_again(
    program: Program, signum: signal.Signals, action: str, running: bool
) -> None:
    # Before the reactor runs, too: twistd would rotate the log for SIGUSR1 otherwise.
    if running:
        program.run()
    else:
        program.handlers.install()
    program.signal(signum)
    assert program.did == [action]


@pytest.mark.parametrize(
    ("signum", "ends_by"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        # Not by itself, which would dump core.
        (signal.SIGQUIT, signal.SIGTERM),
    ],
)
def test_the_first_signal_stops_and_the_next_abort(
    program: Program, signum: signal.Signals, ends_by: signal.Signals
) -> None:
    program.run()
    program.signal(signum)
    assert (program.reactor.stopped_by, program.did) == ([ends_by], [])
    program.signal(signal.SIGTERM)
    assert (program.reactor.stopped_by, program.did) == ([ends_by], ["abort"])
    program.did.clear()
    program.signal(signal.SIGQUIT)
    assert (program.reactor.stopped_by, program.did) == ([ends_by], ["abort"])


def test_two_signals_in_one_turn_stop_it_once(program: Program) -> None:
    program.run()
    program.signal(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
    assert program.reactor.stopped_by == [signal.SIGTERM]
    assert program.did == ["abort", "abort"]


def test_a_signal_while_it_stops_for_another_reason_aborts(program: Program) -> None:
    program.run()
    program.handlers.stopping()
    program.signal(signal.SIGTERM)
    assert (program.reactor.stopped_by, program.did) == ([], ["abort"])


def test_every_other_signal_is_logged_and_ignored(program: Program) -> None:
    program.run()
    others = ending_signals() - {
        *(signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    }
    assert {signal.SIGUSR2, signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM} < others
    with logged() as log:
        program.signal(*others)
        assert len(log.lines) == len(others)
        assert "ignored SIGUSR2" in log.lines_of("warn")
        assert (program.did, program.reactor.stopped_by) == ([], [])
        for _ in range(1000):
            signal.raise_signal(signal.SIGUSR2)
        program.reactor.turn()
        program.reactor.advance(1)
        assert log.lines[len(others) :] == ["ignored SIGUSR2 (and 999 more in the last second)"]


def test_the_handlers_of_an_application_stay(program: Program) -> None:
    def own(signum: int, frame: object) -> None:
        """Is never called here."""

    for signum in ending_signals():
        signal.signal(signum, own)
    program.handlers.install()
    for hook, args, named in program.reactor.whenRunningHooks:
        hook(*args, **named)
    assert {signal.getsignal(signum) for signum in ending_signals()} == {own}


def test_what_is_ignored(program: Program) -> None:
    """By nohup and by a shell's "&"; what they ignore would end a program, and ours does not."""
    for signum in ending_signals():
        signal.signal(signum, signal.SIG_IGN)
    program.handlers.install()
    for hook, args, named in program.reactor.whenRunningHooks:
        hook(*args, **named)
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    program.signal(signal.SIGHUP)
    assert program.did == ["reload"]
