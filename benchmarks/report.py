"""The results of a run, as tables for a terminal and as JSON."""

import dataclasses
import json
import os
import platform
import ssl
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.goals import COMPARED, OURS, UVLOOP, Verdict, ratios
from benchmarks.load import Timing
from benchmarks.peers import Peer
from benchmarks.processes import Cores
from benchmarks.rounds import Measurement, Run
from benchmarks.spread import Spread, median_interval
from benchmarks.works import Work

MICRO = 1e6
MIB = 1024 * 1024


def _row(peer: str, rounds: Sequence[Measurement], idle: bool) -> list[str]:
    def middle(quantity: Callable[[Measurement], float]) -> float:
        return statistics.median(quantity(m) for m in rounds)

    cost = Spread.of(m.cpu_per_echo * MICRO for m in rounds)
    assert cost is not None
    # The kernel samples this at its ticks; the sum over all rounds has the most samples.
    ticked = sum(m.user + m.system for m in rounds)
    user_share = sum(m.user for m in rounds) / ticked if ticked else 0.0
    row = [
        peer,
        f"{cost.median:.2f}",
        f"{cost.low:.2f}-{cost.high:.2f}",
        f"{cost.median * user_share:.2f}",
        f"{cost.median * (1 - user_share):.2f}",
        f"{middle(lambda m: m.echoes_per_second):,.0f}",
        f"{middle(lambda m: m.bytes_per_second) / 1e9:.3f}",
        f"{middle(lambda m: m.p50) * MICRO:,.0f}",
        f"{middle(lambda m: m.p99) * MICRO:,.0f}",
        f"{middle(lambda m: m.p999) * MICRO:,.0f}",
        f"{middle(lambda m: m.rss) / MIB:.1f}",
        f"{middle(lambda m: m.cpu / m.seconds):.0%}",
        f"{middle(lambda m: m.load_cpu / m.seconds):.0%}",
        f"{middle(lambda m: m.waited / m.seconds):.0%}",
    ]
    if idle:
        row.append(f"{middle(lambda m: m.rss_per_idle or 0.0) / 1024:.2f}")
    return row


HEAD = (
    "peer",
    "us/echo",
    "(quartiles)",
    "user",
    "system",
    "echoes/s",
    "GB/s",
    "p50 us",
    "p99",
    "p99.9",
    "RSS MiB",
    "server",
    "load",
    "waited",
)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def works_table(run: Run, works: Iterable[Work], peers: Sequence[Peer]) -> str:
    """Return a table for each workload: medians over the rounds, a line for each peer."""
    parts = []
    for work in works:
        head = [*HEAD, "KiB/idle"] if work.idle else list(HEAD)
        rows = [
            _row(peer.name, rounds, bool(work.idle))
            for peer in peers
            if (rounds := run.of(peer.name, work.name))
        ]
        if rows:
            rates = sorted({m.rate for m in run.measurements if m.work == work.name and m.rate})
            rate = f", {rates[-1]:,.0f} echoes/s asked for" if rates else ""
            slower = f" ({rates[0]:,.0f} and up of the slower)" if len(rates) > 1 else ""
            parts.append(f"{work.name}: {work.title}{rate}{slower}\n{_aligned([head, *rows])}")
    return "\n\n".join(parts)


def ratios_table(run: Run, works: Sequence[Work], peers: Sequence[Peer]) -> str:
    """Return the CPU time per echo of each peer as a multiple of ours, a column for each workload.

    A cell has the median over the rounds, then the quartiles. The table is empty if ours was not
    measured.
    """
    columns = [work.name for work in works if run.of(OURS, work.name)]
    rows = [["peer", *columns]]
    for peer in peers:
        row = [peer.name]
        for work in columns:
            found = Spread.of(
                ratios(run, lambda m: m.cpu_per_echo, (peer.name, work), (OURS, work))
            )
            row.append(f"{found.median:.2f} ({found.low:.2f}-{found.high:.2f})" if found else "-")
        rows.append(row)
    title = "CPU time per echo, as a multiple of ours (python-epoll: the interpreter's floor)"
    return f"{title}\n{_aligned(rows)}" if columns else ""


def noise(run: Run) -> str | None:
    """Return a warning if another process had the server's core for more than 5% of the time."""
    shares = [m.waited / m.seconds for m in run.measurements]
    if not shares or statistics.median(shares) <= 0.05:
        return None
    return (
        f"This machine was busy: the servers waited for their core for "
        f"{statistics.median(shares):.0%} of the time (median), up to {max(shares):.0%}. "
        "Ratios are more reliable than figures; a quiet machine is more reliable than both."
    )


def compare_latency(run: Run, works: Iterable[Work]) -> str | None:
    """
    Say whether ours or uvloop has the better p99 at a fixed rate, or that it is undecided.

    Returns:
        A line for each such workload; None if there is none.
    """
    lines = []
    for work in works:
        found = ratios(run, lambda m: m.p99, (OURS, work.name), (UVLOOP, work.name))
        if work.mode != "open" or not found:
            continue
        interval = median_interval(found)
        text = f"{work.name}: p99 of {OURS} is {statistics.median(found):.2f} of {UVLOOP}'s"
        if interval is None:
            lines.append(f"{text}; {len(found)} rounds are too few to tell which is better.")
            continue
        low, high = interval
        better = OURS if high < 1 else UVLOOP if low > 1 else None
        verdict = f"{better} is better" if better else "undecided"
        lines.append(
            f"{text} (95% confidence: {low:.2f}-{high:.2f}, {len(found)} rounds): {verdict}."
        )
    return "\n".join(lines) + "\n" if lines else None


def verdict_cells(verdict: Verdict) -> list[str]:
    """Return the goal, what it is compared with, its limit, the median, the quartiles, a verdict.

    Arguments:
        verdict: one whose goal was measured.
    """
    goal, found = verdict.goal, verdict.found
    assert found is not None
    return [
        goal.title,
        goal.peer_work if goal.peer_work else goal.peer or "-",
        f"{'>=' if goal.at_least else '<='} {goal.limit:g}{goal.unit}",
        f"{found.median:.2f}{goal.unit}",
        f"{found.low:.2f}-{found.high:.2f}",
        verdict.word + (", within the spread" if verdict.within_spread else ""),
    ]


def goals_table(verdicts: Iterable[Verdict]) -> str:
    """
    Return a line for each goal: the measured value, its spread over the rounds, met or not.

    The last line counts the goals that were not measured.
    """
    rows = [["goal", "against", "wanted", "measured", "(quartiles)", ""]]
    unmeasured = 0
    for verdict in verdicts:
        if verdict.found is None:
            unmeasured += 1
            continue
        rows.append(verdict_cells(verdict))
    table = _aligned(rows) if len(rows) > 1 else ""
    if not unmeasured:
        return table
    rest = f"goals not measured: {unmeasured}; all need the peers {', '.join(COMPARED)}"
    return f"{table}\n{rest}" if table else rest


CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _openssl_of_cryptography() -> str | None:
    try:
        from cryptography.hazmat.backends.openssl import backend
    except ImportError:
        return None
    return backend.openssl_version_text()


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, kernel, congestion control, versions."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "congestion control": CONGESTION_CONTROL.read_text().strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {
            "OpenSSL of Python": ssl.OPENSSL_VERSION,
            "OpenSSL of cryptography": _openssl_of_cryptography(),
            **{name: _version(name) for name in ("Twisted", "uvloop", "trio")},
        },
    }


def as_json(
    run: Run,
    verdicts: Iterable[Verdict],
    works: Iterable[Work],
    peers: Sequence[Peer],
    missing: dict[str, str],
    timing: Timing,
    cores: Cores,
) -> str:
    """Return everything: each measurement of each round, times in seconds, sizes in bytes."""
    return json.dumps(
        {
            "machine": machine(),
            "command": ["python", "-m", "benchmarks", *sys.argv[1:]],
            "timing": dataclasses.asdict(timing),
            "cores": dataclasses.asdict(cores),
            "peers": {peer.name: peer.title for peer in peers},
            "missing": missing,
            "works": [dataclasses.asdict(work) for work in works],
            "measurements": [
                {**dataclasses.asdict(m), "cpu_per_echo": m.cpu_per_echo} for m in run.measurements
            ],
            "goals": [
                {
                    "title": verdict.goal.title,
                    "work": verdict.goal.work,
                    "against": verdict.goal.peer_work or verdict.goal.peer,
                    "limit": verdict.goal.limit,
                    "at_least": verdict.goal.at_least,
                    "found": dataclasses.asdict(verdict.found) if verdict.found else None,
                    "verdict": verdict.word,
                }
                for verdict in verdicts
            ],
            "left_out": run.left_out,
            "faults": run.faults,
        },
        indent=1,
    )
