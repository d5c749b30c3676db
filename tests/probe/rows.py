"""Faults of time and of numbers: is each found, and explained right, with most seeds?

``python -m tests.probe.rows`` runs ten campaigns for each and prints a table; ``--seeds N`` takes
another number, and names of faults only these. The slow test takes one seed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Container
from dataclasses import dataclass, field, replace
from pathlib import Path as File

from echoproto.probe.report.explanation import to_json
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, Failure
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import named

__all__ = ["CLEAN", "ROWS", "Row", "clean", "find"]


@dataclass(frozen=True)
class Row:
    """A fault that needs a time or a number.

    :param fault: as ``--fault`` takes it.
    :param says: fields of the right explanation, each with the values that are right.
    :param idle: as ``--idle``; None for the default.
    :param examples: how many conversations are drawn.
    :param explain: whether it is shrunk and explained, which takes minutes for some.
    :param kinds: the right verdicts, where it is not explained.
    """

    fault: str
    says: dict[str, Container[object]] = field(default_factory=dict)
    idle: float | None = None
    examples: int = 50
    explain: bool = True
    kinds: str = "stalled"

    def __str__(self) -> str:
        return self.fault

    @property
    def settings(self) -> Settings:
        """Of a campaign that finds it; 2 s of silence are enough on this machine."""
        return Settings(
            patience=2,
            examples=self.examples,
            idle=self.idle,
            shrink=self.explain,
            explain=self.explain,
        )

    def shows(self, failure: Failure) -> bool:
        """Whether a failure is this fault, and says so."""
        if not self.explain:
            return str(failure.kind) in self.kinds and failure.reproduced > 0
        said = to_json(failure.explanation) if failure.explanation is not None else {}
        return all(said.get(name) in values for name, values in self.says.items())


def _near(value: int) -> range:
    """Timers of a busy machine are late, and a path counts from another moment."""
    return range(value - value // 20, value + value // 10 + 10)


def _silence(fault: str, ms: int, idle: float | None) -> Row:
    return Row(f"{fault}={ms}ms", {"needs": [["pause"]], "pause_ms": _near(ms)}, idle)


def _held(fault: str, ms: int, needs: list[str], idle: float | None = None) -> Row:
    return Row(f"{fault}={ms}ms", {"needs": [needs], "hold_ms": _near(ms)}, idle)


ROWS = [
    # No byte for a while.
    _silence("idle-reset", 500, None),
    _silence("idle-mute", 1000, 2),
    _silence("idle-close", 1000, 2),
    _silence("idle-cut", 2000, 2),
    _silence("idle-mute", 7000, 10),
    # Cut a while after FIN; a client that takes nothing; what waits for one is dropped.
    _held("cut-after-fin", 500, ["fin", "hold"]),
    _held("cut-after-fin", 3000, ["fin", "hold"], 5),
    _held("write-timeout", 300, ["hold"]),
    _held("write-timeout", 5000, ["hold"], 5),
    # It drops only while something waits, which depends on how quick the rest was.
    Row("drops-at-end=100ms", {"needs": [["fin", "hold"], ["hold"]], "hold_ms": range(90, 250)}),
    # Numbers.
    Row("stall-at=16M", explain=False),
    Row("stale-after=2s", {"needs": [["no-connection"]], "pause_ms": _near(2000)}),
    Row("serves-at-most=50", explain=False),
    Row("nth-reset=2", {"every": [2]}),
    Row("nth-mute=3", {"every": [3]}),
    Row("nth-reset=7", {"every": [7]}),
    Row("nth-mute=20", {"every": [20]}),
    Row("reset-from=2", {"after_connections": [1]}),
    Row("mute-from=2", {"after_connections": [1]}),
    Row("reset-from=257", {"after_connections": [256]}),
    Row("mute-from=257", {"after_connections": [256]}),
    Row("reset-from=1025", {"after_connections": [1024]}, examples=1000),
    Row("mute-from=1025", {"after_connections": [1024]}, examples=1000),
]

#: Paths that are right, however late.
CLEAN = ["slice=1400", "latency=20ms", "latency=75ms", "jitter=30ms", "delay-one-in=20,200ms"]


class _UntilFound(Observer):
    def __init__(self, row: Row) -> None:
        self._row: Row | None = row

    def failure(self, failure: Failure) -> None:
        if self._row is not None and self._row.shows(failure):
            self._row = None
            raise KeyboardInterrupt


def find(row: Row, seed: int) -> tuple[Failure | None, CampaignResult]:
    """Return the failure that shows the fault, if it is found, and the result."""
    with Path(named(row.fault)) as path, tempfile.TemporaryDirectory() as folder:
        result = Campaign(
            Target.parse(f"127.0.0.1:{path.port}"),
            replace(row.settings, seed=seed),
            _UntilFound(row),
            SavedFailures(File(folder)),
        ).run()
    return next((one for one in result.failures if row.shows(one)), None), result


def clean(fault: str, seed: int) -> CampaignResult:
    """Return the result of a campaign on a path that is right, but late."""
    with Path(named(fault)) as path, tempfile.TemporaryDirectory() as folder:
        target = Target.parse(f"127.0.0.1:{path.port}")
        settings = Settings(examples=200, seed=seed, idle=2)
        return Campaign(target, settings, saved=SavedFailures(File(folder))).run()


def _measure(row: Row, seeds: range) -> None:
    seconds, said = [], ""
    missed = []
    for seed in seeds:
        began = time.monotonic()
        failure, result = find(row, seed)
        if failure is None:
            told = [one.explanation and one.explanation.text for one in result.failures]
            missed.append(f"seed {seed}: {result.error or told}")
            continue
        seconds.append(time.monotonic() - began)
        said = failure.explanation.text if failure.explanation is not None else str(failure.kind)
    found = len(seeds) - len(missed)
    median = f"{statistics.median(seconds):5.1f} s" if seconds else "      -"
    print(f"{row.fault:<24} {found} of {len(seeds)}  {median}  {said}", flush=True)
    for line in missed:
        print(f"{'':<24} not with {line}", flush=True)


def _measure_clean(fault: str, seeds: range) -> None:
    results = [clean(fault, seed) for seed in seeds]
    right = sum(result.exit_code == 0 for result in results)
    once = sum(result.transients for result in results)
    print(f"{fault:<24} {right} of {len(seeds)} clean; {once} that did not come again", flush=True)
    for result in results:
        for failure in result.failures:
            print(f"{'':<24} {failure.kind}: {failure.session}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("faults", nargs="*", help="names of faults, as idle-reset; all by default")
    arguments = parser.parse_args()
    seeds, chosen = range(arguments.seeds), set(arguments.faults)
    for row in ROWS:
        if not chosen or row.fault in chosen or row.fault.partition("=")[0] in chosen:
            _measure(row, seeds)
    for fault in CLEAN:
        if not chosen or fault in chosen or fault.partition("=")[0] in chosen:
            _measure_clean(fault, seeds)


if __name__ == "__main__":
    main()
