"""What a campaign found: plain data for the terminal, the reports and the pytest plugin."""

from __future__ import annotations

import dataclasses
import enum
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.explanation import Explanation
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = [
    "CampaignResult",
    "CaseRecord",
    "Failure",
    "Phase",
    "example_line",
    "replay_line",
]

_MAX_ROUND_TRIPS = 5000


class Phase(str, enum.Enum):
    """The phases of a campaign, in order."""

    PREFLIGHT = "preflight"
    SAVED = "saved failures"
    CATALOGUE = "catalogue"
    FUZZ = "fuzz"
    IDLE = "idle"
    SHRINK = "shrink"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class CaseRecord:
    """One session that was run, as in the JSON lines and the matrix of the HTML report.

    Attributes:
        phase: in which it was run: saved failures, catalogue, fuzz, idle or shrink.
        name: the number of the catalogue (``E-017``), the id of the saved failure, or a count.
        title: its title in the catalogue; else empty.
        script: the session's text form.
        kind: of its verdict; ``Fault.NONE`` if it passed.
        message: of its verdict.
        seconds: how long it took.
        sent: bytes sent, over all conversations of the session.
        received: bytes received.
        explained_by: the index in ``CampaignResult.failures`` of the shorter failure that this
            one contains. None for a session that passed, and for one that is not a failure or
            was not analysed. It is found out after the session was run, so an observer sees None.
    """

    phase: Phase
    name: str
    title: str
    script: str
    kind: Fault
    message: str
    seconds: float
    sent: int
    received: int
    explained_by: int | None = None


def replay_line(target: Sequence[str], session: Session) -> str:
    """Return the command that runs ``session`` on a target given in these words."""
    return shlex.join(["echoproto", "replay", *target, str(session)])


def example_line(session: Session) -> str:
    """Return the line that pins ``session`` in a Hypothesis test."""
    cls = "Conversation" if len(session.conversations) == 1 else "Session"
    return f'@example({cls}.parse("{session}"))'


@dataclass(frozen=True)
class Failure:
    """One fault of the path, shrunk.

    Attributes:
        kind: of fault.
        session: the shortest session found that shows it.
        outcome: of one run of ``session``, with its time lines.
        found: the session that first showed it.
        found_by: a number of the catalogue, the id of a saved failure, or ``fuzz``.
        reproduced: how often ``session`` failed again ...
        runs: ... in so many runs.
        shrink_runs: how many sessions were run to shrink it.
        seconds: the time that took.
        id: under which it is saved, or None.
        target: the target as given, with its options, for the ``replay`` line.
        explanation: what about ``session`` matters; None if that was not found out.
        not_explained: that it was not found out, in a sentence, where that was tried; else empty.
        remark: what else is known of it, in a sentence; else empty.
        away: how long nothing worked after it, in seconds at most; 0 if the path works on.
    """

    kind: Fault
    session: Session
    outcome: Outcome
    found: Session
    found_by: str
    reproduced: int
    runs: int
    shrink_runs: int
    seconds: float
    id: str | None
    target: tuple[str, ...]
    explanation: Explanation | None = None
    not_explained: str = ""
    remark: str = ""
    away: float = 0.0

    @property
    def flaky(self) -> bool:
        """Whether it passed in any run."""
        return self.reproduced < self.runs

    @property
    def replay(self) -> str:
        """The command that runs the shrunk session again."""
        return replay_line(self.target, self.session)

    @property
    def example(self) -> str:
        """The line that pins the session in a Hypothesis test."""
        return example_line(self.session)


@dataclass
class CampaignResult:
    """The result of a campaign.

    It is filled while the campaign runs, so that an interrupted one can be reported too.

    Attributes:
        target: the target as given, with its options.
        settings: what was asked for.
        command: the command line that repeats the run.
        started: when, in local time.
        preflight: None if the target could not be tested.
        error: why it could not be tested, in one line; else None.
        interrupted: whether the user stopped it.
        interrupted_code: the exit code of that: 130 for SIGINT, 143 for SIGTERM.
        failures: in the order found.
        records: of the saved failures and the catalogue, and of every failing session. Those
            that passed in the fuzz phase are only counted (an observer sees them all).
        counts: sessions run, by phase.
        kinds: sessions run, by kind of verdict.
        longest_silence: milliseconds that a connection was silent, and passed, at most.
        known: how many failing sessions of the fuzz phase contained a failure already found.
        left_out: the records, by index, of failing sessions that there was no time to shrink.
        transients: failing sessions that never failed again: not failures of the path.
        delayed: how many sessions waited longer than expected, and passed.
        longest_delay: of these, in seconds.
        asked: sessions to run, by phase.
        window: how many sessions were under way at the same time, at most.
        passing: ids of saved failures that pass now.
        bytes_sent: over all sessions.
        round_trips: payload size and seconds of waits that were met.
        phase_seconds: how long each phase took.
        seconds: how long the campaign took.
    """

    target: tuple[str, ...]
    settings: Settings
    command: str = ""
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc).astimezone())
    preflight: Preflight | None = None
    error: str | None = None
    interrupted: bool = False
    interrupted_code: int = 130
    failures: list[Failure] = field(default_factory=list)
    records: list[CaseRecord] = field(default_factory=list)
    counts: Counter[Phase] = field(default_factory=Counter)
    kinds: Counter[Fault] = field(default_factory=Counter)
    longest_silence: int = 0
    known: int = 0
    left_out: list[int] = field(default_factory=list)
    transients: int = 0
    delayed: int = 0
    longest_delay: float = 0.0
    asked: Counter[Phase] = field(default_factory=Counter)
    window: int = 0
    passing: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    round_trips: list[tuple[int, float]] = field(default_factory=list)
    phase_seconds: dict[Phase, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Sessions per second in the fuzz phase; 0 if there was none."""
        spent = self.phase_seconds.get(Phase.FUZZ, 0.0)
        return self.counts[Phase.FUZZ] / spent if spent > 0 else 0.0

    @property
    def held(self) -> int:
        """How many sessions of the catalogue and of the fuzz phase were run."""
        return self.counts[Phase.CATALOGUE] + self.counts[Phase.FUZZ]

    @property
    def wanted(self) -> int:
        """How many of them were asked for."""
        return self.asked[Phase.CATALOGUE] + self.asked[Phase.FUZZ]

    @property
    def complete(self) -> bool:
        """Whether it ran what was asked for: all, or with ``--max-time`` the whole catalogue."""
        if self.settings.max_time is not None:
            return self.counts[Phase.CATALOGUE] >= self.asked[Phase.CATALOGUE]
        return self.held >= self.wanted

    @property
    def exit_code(self) -> int:
        """0 clean, 1 failure found, 2 could not test (all), 130 or 143 interrupted."""
        if self.interrupted:
            return self.interrupted_code
        if self.error is not None:
            return 2
        if self.failures:
            return 1
        return 0 if self.complete else 2

    # How a campaign fills it.

    def reached(self, preflight: Preflight) -> None:
        """Note what the preflight found."""
        self.preflight = preflight

    def count(self, phase: Phase, outcome: Outcome) -> None:
        """Count a session that was run."""
        self.counts[phase] += 1
        self.kinds[outcome.kind] += 1
        self.bytes_sent += sum(verdict.sent for verdict in outcome.verdicts)
        room = _MAX_ROUND_TRIPS - len(self.round_trips)
        self.round_trips += outcome.round_trips[:room]

    def passed_silence(self, ms: int) -> None:
        """Note that a connection passed that was silent for so long."""
        self.longest_silence = max(self.longest_silence, ms)

    def count_known(self) -> None:
        """Count a failing session that contains a failure already found."""
        self.known += 1

    def leave_out(self, record: int) -> None:
        """Note that there was no time for a failing session, by the index of its record."""
        self.left_out.append(record)

    def count_transient(self) -> None:
        """Count a failing session that never failed again."""
        self.transients += 1

    def count_delay(self, seconds: float) -> None:
        """Count a session that passed, but waited so long."""
        self.delayed += 1
        self.longest_delay = max(self.longest_delay, seconds)

    def ask(self, phase: Phase, count: int) -> None:
        """Note how many sessions a phase is to run."""
        self.asked[phase] = count

    def saw_window(self, size: int) -> None:
        """Note how many sessions were under way."""
        self.window = max(self.window, size)

    def explain(self, record: int, failure: int) -> None:
        """Note which failure a record contains, both by index."""
        self.records[record] = dataclasses.replace(self.records[record], explained_by=failure)

    def spend(self, phase: Phase, seconds: float) -> None:
        """Add to the time that a phase took."""
        self.phase_seconds[phase] = self.phase_seconds.get(phase, 0.0) + seconds

    def fail(self, error: str) -> None:
        """Note why the target cannot be tested."""
        self.error = error

    def interrupt(self, code: int = 130) -> None:
        """Note that the user stopped the campaign, and the exit code of that."""
        self.interrupted = True
        self.interrupted_code = code

    def end(self, seconds: float) -> None:
        """Note how long the campaign took."""
        self.seconds = seconds
