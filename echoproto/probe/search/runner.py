"""Runs the sessions of a campaign on a path whose preflight is known."""

from __future__ import annotations

import dataclasses
import math
import resource
from collections.abc import Sequence

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.availability import Availability
from echoproto.probe.search.mask import Mask, layer_of
from echoproto.probe.search.plan import Plan, Planned
from echoproto.probe.search.pool import Held, Pool, Room
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.progress import Progress
from echoproto.probe.search.settings import Settings
from echoproto.probe.search.window import Window
from echoproto.probe.wire.clock import Clock
from echoproto.probe.wire.connector import Connector, LocalError
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.machine import Machine
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = ["Runner"]

# Descriptors that others need: the terminal, the reports, Python's own.
_OTHER_DESCRIPTORS = 32

# Round trips of more bytes than this are those of the link's rate, too.
_SMALL = 1448

# A conversation that goes on for so many seconds after its patience has run out hangs, too.
_TOTAL = 60.0


class Runner:
    """Holds sessions in a window, and runs others alone.

    Args:
        connector: where to connect.
        known: what the preflight found.
        settings: of the campaign.
        progress: where the sessions are counted.

    Attributes:
        clock: how long to wait.
        window: how many sessions are held at the same time.
        pool: those under way.
        answers: which connections were answered.
        availability: whether the path works at all.
    """

    def __init__(
        self, connector: Connector, known: Preflight, settings: Settings, progress: Progress
    ) -> None:
        self._connector = connector
        self._known = known
        self._settings = settings
        self._progress = progress
        self._machine = Machine()
        self.clock = Clock(known.round_trips, settings.timeout)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_DESCRIPTORS
        self.window = Window(settings.window, most=max(1, min(64, descriptors // 4)))
        room = Room(settings.parallel, Plan(known).bytes_at_once)
        self.pool = Pool(connector, self._patient, self.window, room)
        self.answers = connector.answers
        self.availability = Availability(self._check, self.answers, settings.patience)

    def failed(self, outcome: Outcome) -> bool:
        """Return whether any verdict of the session counts as a failure."""
        excluded = self._settings.exclude
        return any(not v.ok and v.kind not in excluded for v in outcome.verdicts)

    def look_past(self, mask: Mask) -> None:
        """Compare no more the bytes at some offsets, on connections opened from now on."""
        self._connector.layers.append(layer_of(mask))

    def hold(self, planned: Planned, first: Held | None = None, apart: bool = False) -> None:
        """Begin a session of a phase.

        Args:
            planned: which.
            first: as in :class:`Held`.
            apart: the same.

        Raises:
            LocalError: if this machine is out of ports, descriptors or memory; so do the others.
        """
        # What crashes a server fails all that is under way.
        self.window.alone = self.availability.goes_away
        if self.window.alone:
            self.availability.wait()
        self.pool.hold(planned, first, apart)
        self._progress.result.saw_window(len(self.pool.in_time))

    def ended(self, wait: bool = True) -> list[Held]:
        """Return the sessions that have ended.

        Args:
            wait: whether to wait until something happens, for a while at most.
        """
        ended = self.pool.turn(wait)
        for held in ended:
            if self.failed(held.outcome):
                self._check_machine()
            elif held.outcome.ok:
                self._learn(held)
        return ended

    def run_candidate(
        self, session: Session, patient: bool, capture: int = 0, fin: bool = True
    ) -> Outcome:
        """Run a session in order to reproduce, shrink or explain another.

        Args:
            session: to run.
            patient: whether to wait as long as for a verdict.
            capture: as in :class:`Limits`.
            fin: as in :class:`Candidate`.

        Returns:
            the outcome, in which excluded kinds are no failure.

        Raises:
            LocalError: if it failed for a trouble of this machine.
            PathGoneError: if nothing works any more.
        """
        # What is judged by how late it comes has to be waited for.
        patient = patient or self._settings.max_delay is not None
        limits = self._patient(fin) if patient else self._limits(self.clock.timeout, fin)
        limits = dataclasses.replace(limits, capture=capture)
        (outcome,) = self._while_it_works([session], limits)
        excluded = self._settings.exclude
        if not any(verdict.kind in excluded for verdict in outcome.verdicts):
            return outcome
        verdicts = (
            dataclasses.replace(v, kind=Fault.NONE) if v.kind in excluded else v
            for v in outcome.verdicts
        )
        return dataclasses.replace(outcome, verdicts=tuple(verdicts))

    def run_together(self, sessions: Sequence[Session]) -> list[Outcome]:
        """Run candidates at the same time, as far as the path bears; return their outcomes.

        Raises:
            LocalError, PathGoneError: as :meth:`run_candidate`.
        """
        limits = self._limits(self.clock.timeout)
        most = max(1, self.window.size)
        outcomes: list[Outcome] = []
        for start in range(0, len(sessions), most):
            outcomes += self._while_it_works(sessions[start : start + most], limits)
        return outcomes

    def _while_it_works(self, sessions: Sequence[Session], limits: Limits) -> list[Outcome]:
        """Run candidates at the same time; once more if the path was away."""
        return self.availability.run(lambda: self._run_together(sessions, limits), self.failed)

    def _run_together(self, sessions: Sequence[Session], limits: Limits) -> list[Outcome]:
        outcomes = self.pool.run_together(sessions, limits)
        for outcome in outcomes:
            self._progress.count_candidate(outcome)
        if any(map(self.failed, outcomes)):
            self._check_machine()
        return outcomes

    def _check(self) -> Outcome:
        """Hold a conversation that worked in the preflight."""
        return self.pool.run_alone(Session((self._known.check,)), self._limits(self.clock.late))

    def _learn(self, held: Held) -> None:
        trips = [seconds for size, seconds in held.outcome.round_trips if size <= _SMALL]
        if trips:
            # The first bytes of a connection may wait for what a proxy sets up, or looks for.
            self.clock.add(min(trips))
        self.window.passed(trips)

    def _check_machine(self) -> None:
        """Raise LocalError if a failure may be this machine's own."""
        if trouble := self._machine.trouble():
            raise LocalError(trouble)

    def _patient(self, fin: bool = True) -> Limits:
        return self._limits(max(self._settings.patience, self.clock.timeout), fin)

    def _limits(self, stall: float, fin: bool = True) -> Limits:
        delay = self._settings.max_delay
        return Limits(
            stall=stall,
            half_close=self._known.half_close and fin,
            connect=max(self._settings.connect_timeout, self.clock.timeout),
            total=_TOTAL + stall,
            grace=self.clock.grace,
            late=self.clock.late,
            max_delay=math.inf if delay is None else delay,
        )
