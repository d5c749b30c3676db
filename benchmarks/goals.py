"""The performance goals of the project. Each is a ratio or a size, judged on one run."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.rounds import Measurement, Run
from benchmarks.spread import Spread

OURS = "ours"
UVLOOP = "uvloop-protocol"
LIMIT = "c-epoll"
STOCK = "twisted"

#: The peers that the goals refer to.
COMPARED = (OURS, UVLOOP, LIMIT, STOCK)

Quantity = Callable[[Measurement], float]

#: A peer and a workload, by name.
Place = tuple[str, str]


@dataclass(frozen=True)
class Goal:
    """
    One goal.

    Attributes:
        title: what is compared.
        quantity: the figure that is taken from a measurement.
        work: the workload of ours.
        peer: the peer whose figure ours is divided by; None for no division.
        peer_work: the workload of that peer, if it differs.
        limit: the value to reach.
        at_least: whether more is better.
        unit: the unit of the quantity, where nothing is divided.
    """

    title: str
    quantity: Quantity
    work: str
    peer: str | None
    limit: float
    at_least: bool = False
    peer_work: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """
    Whether a goal was met.

    Attributes:
        goal: the goal.
        found: the measured value over the rounds; None if it was not measured.
    """

    goal: Goal
    found: Spread | None

    @property
    def word(self) -> str:
        """``met``, ``not met`` or ``not measured``, by the median."""
        if self.found is None:
            return "not measured"
        if self.goal.at_least:
            return "met" if self.found.median >= self.goal.limit else "not met"
        return "met" if self.found.median <= self.goal.limit else "not met"

    @property
    def within_spread(self) -> bool:
        """Whether the limit is between the quartiles: many rounds contradict the verdict."""
        return self.found is not None and self.found.low <= self.goal.limit <= self.found.high


def _cpu(m: Measurement) -> float:
    return m.cpu_per_echo


def _throughput(m: Measurement) -> float:
    return m.bytes_per_second


def _thrift(m: Measurement) -> float:
    return m.bytes / m.cpu


def _p99(m: Measurement) -> float:
    return m.p99


def _idle_kib(m: Measurement) -> float:
    return (m.rss_per_idle or 0.0) / 1024


GOALS = (
    Goal("CPU per echo, 50 x 1 KiB", _cpu, "pingpong-50", UVLOOP, 1.0),
    Goal("CPU per echo, 50 x 1 KiB", _cpu, "pingpong-50", LIMIT, 1.3),
    Goal("CPU per echo, 50 x 1 KiB", _cpu, "pingpong-50", STOCK, 0.33),
    Goal("CPU per echo, 1000 x 64 B", _cpu, "pingpong-1000", UVLOOP, 1.0),
    Goal("CPU per echo, 1000 x 64 B", _cpu, "pingpong-1000", LIMIT, 1.3),
    Goal("CPU per echo, 1000 x 64 B", _cpu, "pingpong-1000", STOCK, 0.33),
    Goal("CPU per echo, 1 x 64 B", _cpu, "pingpong-1", UVLOOP, 1.15),
    Goal("CPU per echo, 1 x 64 B", _cpu, "pingpong-1", STOCK, 0.6),
    Goal("bytes/s, 8 x 1 MiB", _throughput, "bulk", UVLOOP, 1.0, at_least=True),
    Goal("bytes/s, 8 x 1 MiB", _throughput, "bulk", LIMIT, 0.9, at_least=True),
    Goal("bytes/s, 8 x 1 MiB", _throughput, "bulk", STOCK, 2.0, at_least=True),
    Goal("bytes per CPU second, 8 x 1 MiB", _thrift, "bulk", UVLOOP, 1.2, at_least=True),
    Goal("bytes per CPU second, 8 x 1 MiB", _thrift, "bulk", LIMIT, 1.15, at_least=True),
    Goal("bytes per CPU second, 8 x 1 MiB", _thrift, "bulk", STOCK, 2.0, at_least=True),
    Goal("bytes per CPU second, 50 x 64 KiB", _thrift, "bulk-50", UVLOOP, 1.2, at_least=True),
    Goal("bytes per CPU second, 50 x 64 KiB", _thrift, "bulk-50", LIMIT, 1.15, at_least=True),
    Goal(
        "CPU per echo among idle neighbours",
        _cpu,
        "neighbours",
        OURS,
        1.1,
        peer_work="pingpong-50",
    ),
    Goal("RSS of an idle connection", _idle_kib, "neighbours", None, 2.0, unit=" KiB"),
    Goal("CPU per accept and one echo", _cpu, "accept", UVLOOP, 1.0),
    Goal("p99 latency at a fixed rate", _p99, "latency", UVLOOP, 1.0),
    Goal("CPU per TLS handshake and one echo", _cpu, "tls-accept", UVLOOP, 0.8),
)


def ratios(run: Run, quantity: Quantity, ours: Place, theirs: Place) -> list[float]:
    """
    Return `quantity` of `ours` divided by that of `theirs`, for each round that has both.

    Ratios are taken within a round, so that whatever slows the machine for a while slows both.
    """
    below = {m.round: quantity(m) for m in run.of(*theirs)}
    return [quantity(m) / below[m.round] for m in run.of(*ours) if m.round in below]


def values(run: Run, goal: Goal) -> list[float]:
    """Return the value of a goal for each round that has all its measurements."""
    ours = (OURS, goal.work)
    if goal.peer is None:
        return [goal.quantity(m) for m in run.of(*ours)]
    return ratios(run, goal.quantity, ours, (goal.peer, goal.peer_work or goal.work))


def judge(run: Run) -> list[Verdict]:
    """Return the verdict on every goal."""
    return [Verdict(goal, Spread.of(values(run, goal))) for goal in GOALS]
