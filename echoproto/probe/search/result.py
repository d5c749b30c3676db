"""What a campaign found: plain data for the terminal, the reports and the pytest plugin."""

from __future__ import annotations

import enum
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.verdict import Fault, Outcome

__all__ = [
    "CampaignResult",
    "CaseRecord",
    "Failure",
    "Observer",
    "Phase",
    "Preflight",
    "Settings",
    "example_line",
    "replay_line",
]


class Phase(str, enum.Enum):
    """The phases of a campaign, in order."""

    PREFLIGHT = "preflight"
    SAVED = "saved failures"
    CATALOGUE = "catalogue"
    FUZZ = "fuzz"
    SHRINK = "shrink"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Settings:
    """What a campaign was asked to do; the defaults are those of the command line.

    Attributes:
        examples: how many conversations (or sessions) to draw in the fuzz phase.
        seed: of what is drawn; the same seed and version of Hypothesis draw the same.
        max_time: seconds for the whole campaign, or None.
        shrink: whether to look for the shortest conversation that fails.
        retries: how often a candidate that passes is tried again while shrinking a flaky
            failure, at most.
        rate: connections a second at most, or None for no limit.
        parallel: connections at the same time at most.
        exclude: kinds that do not count as failures.
        tokens: byte strings to draw more often, beside the built-in ones.
        sizes: payload sizes to draw more often, beside the built-in ones.
        cases: numbers of the catalogue to run instead of everything, e.g. ``("E-017",)``.
    """

    examples: int = 1000
    seed: int = 0
    max_time: float | None = None
    shrink: bool = True
    retries: int = 100
    rate: float | None = None
    parallel: int = 32
    exclude: frozenset[Fault] = frozenset()
    tokens: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = ()
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preflight:
    """What the first connections told about the path.

    Attributes:
        address: the address connected to, for people.
        round_trips: seconds, one for each small echo.
        timeout: seconds without progress after which a conversation counts as stalled while
            shrinking: 20 times the 99th percentile of the round trips, at least 50 ms.
        patience: the same where it matters that a busy machine on either side is not taken for
            a fault: six times as long, at least 1 s.
        half_close: whether what was sent before a FIN comes back after it, and then EOF; over
            TLS, where close_notify says what a FIN says, the same of that.
        tls_version: that the handshakes agreed on, as ``TLSv1.3``; empty without TLS.
    """

    address: str
    round_trips: tuple[float, ...]
    timeout: float
    patience: float
    half_close: bool
    tls_version: str = ""

    @property
    def half_close_in_words(self) -> str:
        """What was tried, and how it went."""
        tried = f" ({self.tls_version} close_notify)" if self.tls_version else ""
        if self.half_close:
            return f"half-close{tried} survives"
        if self.tls_version and self.tls_version < "TLSv1.3":
            # RFC 5246, 7.2.1: who is sent close_notify discards what is pending.
            return f"half-close{tried} does not survive, as it need not before TLSv1.3"
        return f"half-close{tried} does not survive"


@dataclass(frozen=True)
class CaseRecord:
    """One session held, as the JSON lines and the matrix of the HTML report have it.

    Attributes:
        phase: in which it was held: saved failures, catalogue, fuzz or shrink.
        name: the number of the catalogue (``E-017``), the id of the saved failure, or a count.
        title: what the catalogue says about it, else empty.
        script: the session's text form.
        kind: of its verdict; ``Fault.NONE`` if all is well.
        message: of its verdict.
        seconds: how long it took.
        sent: bytes sent, over all conversations of the session.
        received: bytes received.
        explained_by: the index in ``CampaignResult.failures`` of the shorter failure that this
            one contains; None for a session that passed.
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
    """The command that holds ``session`` on a target given in these words."""
    return shlex.join(["echoproto", "replay", *target, str(session)])


def example_line(session: Session) -> str:
    """The line that pins ``session`` in a Hypothesis test."""
    cls = "Conversation" if len(session.conversations) == 1 else "Session"
    return f'@example({cls}.parse("{session}"))'


@dataclass(frozen=True)
class Failure:
    """One fault of the path, shrunk.

    Attributes:
        kind: of fault.
        session: the shortest session found that shows it.
        outcome: what a run of ``session`` came to, with its time lines.
        found: the session that first showed it.
        found_by: a number of the catalogue, the id of a saved failure, or ``fuzz``.
        reproduced: how often ``session`` failed again ...
        runs: ... in so many runs.
        shrink_runs: how many sessions were held to shrink it.
        seconds: from the first sight to the shrunk session.
        id: under which it is saved, or None.
        target: the target as given, with its options, for the ``replay`` line.
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

    @property
    def flaky(self) -> bool:
        """Whether it did not fail in every run."""
        return self.reproduced < self.runs

    @property
    def replay(self) -> str:
        """The command that holds the shrunk session again."""
        return replay_line(self.target, self.session)

    @property
    def example(self) -> str:
        """The line that pins the session in a Hypothesis test."""
        return example_line(self.session)


@dataclass
class CampaignResult:
    """All of it. Filled while the campaign runs, so that an interrupted one can be told too.

    Attributes:
        target: the target as given, with its options.
        settings: what was asked.
        preflight: None if the target could not be tested.
        error: why it could not be tested, in one line; else None.
        interrupted: whether it was stopped by the user.
        failures: in the order found.
        records: of the saved failures and the catalogue, and of every failing session; those
            that passed in the fuzz phase are only counted (an :class:`Observer` sees them all).
        counts: sessions held, by phase.
        kinds: sessions held, by kind of verdict.
        known: how many failing sessions of the fuzz phase contained a failure already found.
        transients: pauses long enough for a stall, that never came again: not failures.
        passing: ids of saved failures that pass now.
        bytes_sent: over all sessions.
        round_trips: payload size and seconds of waits that were met.
        phase_seconds: how long each phase took.
        seconds: how long it all took.
        rate: sessions a second in the fuzz phase.
        command: the command line that repeats the run.
    """

    target: tuple[str, ...]
    settings: Settings
    preflight: Preflight | None = None
    error: str | None = None
    interrupted: bool = False
    failures: list[Failure] = field(default_factory=list)
    records: list[CaseRecord] = field(default_factory=list)
    counts: Counter[Phase] = field(default_factory=Counter)
    kinds: Counter[Fault] = field(default_factory=Counter)
    known: int = 0
    transients: int = 0
    passing: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    round_trips: list[tuple[int, float]] = field(default_factory=list)
    phase_seconds: dict[Phase, float] = field(default_factory=dict)
    seconds: float = 0.0
    rate: float = 0.0
    command: str = ""

    @property
    def exit_code(self) -> int:
        """0 clean, 1 failure found, 2 could not test, 130 interrupted."""
        if self.interrupted:
            return 130
        if self.error is not None:
            return 2
        return 1 if self.failures else 0


class Observer:
    """Is told what a campaign does while it runs. Every method may be left as it is."""

    def phase(self, phase: Phase, total: int | None) -> None:
        """``phase`` begins, with ``total`` sessions to hold (None: not known)."""

    def record(self, record: CaseRecord) -> None:
        """One session was held."""

    def failure(self, failure: Failure) -> None:
        """A fault was found and shrunk."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""
