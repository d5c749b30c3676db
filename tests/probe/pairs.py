"""Two faults on one path: does the probe tell them apart, each as short as when it is alone?

``python -m tests.probe.pairs`` measures it for every byte, position and size fault with every close
fault, and for 100 more pairs drawn by a seed. ``--sample N`` takes each Nth of them. The pairs of
``CHANGED`` are counted, and counted apart: there, one fault changes what shows the other.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File

from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, Failure
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import FAULTS, FaultyPath, Path
from tests.probe.shortest import PATIENT, shows

__all__ = ["CHANGED", "Pair", "missing", "pairs", "run_pair"]

#: What shows a fault where the other one of the pair changes that, and why: the pair, the fault,
#: the shortest session and the verdicts. Without a session nothing can show it: it never acts.
CHANGED: dict[str, tuple[str, str, str, str]] = {
    "eot-is-eof+end-not-passed-on": ("eot-is-eof", "send 04", "stalled",
        "04 becomes a FIN, which is not passed on"),
    "eot-is-eof+end-resets": ("eot-is-eof", "send 04", "reset",
        "04 becomes a FIN, after which the client is reset"),
    "eot-is-eof+empty-resets": ("eot-is-eof", "send 04", "reset",
        "04 becomes a FIN before anything else, for which the client is reset"),
    "eot-is-eof+trailer": ("eot-is-eof", "send 04", "corrupt",
        "04 becomes a FIN, for which the goodbye comes back"),
    "last-byte-lost-at-fin+empty-resets": ("last-byte-lost-at-fin", "send 00; fin", "reset",
        "the lost byte was the only one, and the client is reset as one that sent nothing"),
    "first-byte-eaten+end-closes-both": ("end-closes-both", "send 00 00; fin", "truncated reset",
        "of one byte nothing is left to be lost on its way back"),
    "first-byte-eaten+one-answer": ("one-answer", "send 00 00; await; send 00",
        "truncated reset", "of one byte nothing is left to be answered"),
    "first-byte-eaten+bulk-cut-at-end": ("bulk-cut-at-end", "send 00*32770; fin", "truncated",
        "one byte of them is lost before"),
    "first-byte-eaten+stalls-at-65536": ("stalls-at-65536", "send 00*65537",
        "stalled truncated never-closed", "one byte of them is lost before"),
    "lost-at-32768+bulk-cut-at-end": ("bulk-cut-at-end", "send 00*32770; fin", "truncated",
        "one byte of them is lost before"),
    "lost-at-32768+policer": ("policer", "send 00*100002", "truncated stalled",
        "one byte of them is lost before"),
    "one-byte-segments-lost+end-closes-both": ("end-closes-both", "send 00 00; fin",
        "truncated reset", "of one byte nothing is left to be lost on its way back"),
    "cut-at-8192+closes-unread": ("closes-unread",
        "send 00*8192; await; send 00*1809; await; send 00", "truncated reset stalled",
        "no write brings more than 8192 bytes there"),
    "high-bit-stripped+flood-after-ff": ("flood-after-ff", "", "",
        "FF is 7F before it gets there"),
    "lf-to-crlf+proxy-v2-mute": ("proxy-v2-mute", "", "",
        "every LF follows a CR there, and the last one of a PROXY v2 header follows a T"),
}  # fmt: skip
MORE = 100
CONTENT = ("byte", "position", "size")


@dataclass(frozen=True)
class Pair:
    """Two faults, from the client to the echo."""

    first: FaultyPath
    second: FaultyPath

    def __str__(self) -> str:
        return f"{self.first}+{self.second}"

    @property
    def visible(self) -> tuple[FaultyPath, ...]:
        """Those that a conversation can show, as they show on this path."""
        changed, shortest, verdicts, _ = CHANGED.get(str(self), ("", "", "", ""))
        return tuple(
            replace(fault, shortest=shortest, verdicts=frozenset(verdicts.split()))
            if fault.name == changed
            else fault
            for fault in (self.first, self.second)
            if fault.name != changed or shortest
        )


@functools.cache
def pairs(seed: int = 862) -> tuple[Pair, ...]:
    """All pairs to measure: the product of kinds, then those drawn."""
    content = [fault for fault in FAULTS if fault.kind in CONTENT]
    closing = [fault for fault in FAULTS if fault.kind == "close"]
    chained = list(map(Pair, *zip(*itertools.product(content, closing), strict=True)))
    # One that restarts is away at times, which is no matter of two faults.
    served = [fault for fault in FAULTS if fault.kind != "restart"]
    others = [
        Pair(one, other)
        for one, other in itertools.combinations(served, 2)
        if not (one.kind in CONTENT and other.kind == "close")
    ]
    return (*chained, *random.Random(seed).sample(others, MORE))


class UntilBoth(Observer):
    """Interrupts a campaign once it has found both faults."""

    def __init__(self, pair: Pair) -> None:
        self._pair: Pair | None = pair
        self._found: list[Failure] = []

    def failure(self, failure: Failure) -> None:
        self._found.append(failure)
        least = len(self._pair.visible) if self._pair else 0
        if self._pair and len(self._found) >= least and not missing(self._pair, self._found):
            self._pair = None
            raise KeyboardInterrupt


def run_pair(pair: Pair, folder: File, **settings: object) -> CampaignResult:
    """Run a campaign on a path with both faults, until both are found."""
    with Path(pair.first.relay, pair.second.relay) as path:
        return Campaign(
            Target.parse(f"127.0.0.1:{path.port}"),
            replace(PATIENT, **{"explain": False, **settings}),  # type: ignore[arg-type]
            UntilBoth(pair),
            SavedFailures(folder),
        ).run()


def missing(pair: Pair, failures: Sequence[Failure]) -> list[str]:
    """The faults that no failure of its own shows."""
    first, second = pair.visible[0], pair.visible[-1]
    by_first = [failure for failure in failures if shows(first, failure)]
    by_second = [failure for failure in failures if shows(second, failure)]
    if len(pair.visible) == 1:
        return [] if by_first else [first.name]
    if any(one is not other for one in by_first for other in by_second):
        return []
    if by_first and not by_second:
        return [pair.second.name]
    if by_second and not by_first:
        return [pair.first.name]
    return [pair.first.name, pair.second.name] if not by_first else ["one of the two"]


def _measure(index: int) -> tuple[str, list[str], list[str], float]:
    pair = pairs()[index]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run_pair(pair, File(folder), explain=True)
    found = [f"{failure.session} ({failure.kind})" for failure in result.failures]
    if result.error:
        found.append(result.error)
    return str(pair), missing(pair, result.failures), found, time.monotonic() - began


def _results(
    indexes: Sequence[int], jobs: int
) -> Iterator[tuple[str, list[str], list[str], float]]:
    if jobs == 1:
        yield from map(_measure, indexes)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(_measure, indexes)


def main() -> None:
    """Measure, and print each pair and the share that was told apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="each Nth pair only")
    parser.add_argument("--start", type=int, default=0, help="index of the first one")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="pairs whose name contains this")
    options = parser.parse_args()
    indexes = range(options.start, len(pairs()), options.sample)
    chosen = [index for index in indexes if options.only in str(pairs()[index])]
    apart = total = changed = 0
    for name, lost, found, seconds in _results(chosen, options.jobs):
        total += 1
        apart += not lost
        changed += not lost and name in CHANGED
        print(f"{'ok ' if not lost else 'BAD'} {seconds:5.1f} s  {name}", end="")
        print("" if not lost else f": {', '.join(lost)}; found {'; '.join(s[:90] for s in found)}")
        sys.stdout.flush()
    print(f"told apart: {apart} of {total} ({apart / max(total, 1):.1%}), {changed} as in CHANGED")


if __name__ == "__main__":
    main()
