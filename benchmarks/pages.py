"""The results of a run as reStructuredText, which docs/performance.rst includes."""

from collections.abc import Iterable, Sequence

from benchmarks.goals import Verdict
from benchmarks.peers import Peer
from benchmarks.report import MICRO, compare_latency, machine, noise, verdict_cells
from benchmarks.rounds import Run
from benchmarks.spread import Spread
from benchmarks.works import Work

_HEAD = ".. Written by python -m benchmarks --rst. Changes are lost with the next run.\n"


def page(
    run: Run, works: Sequence[Work], peers: Sequence[Peer], verdicts: Iterable[Verdict]
) -> str:
    """Return the machine, the costs of TCP and TLS, the latency and the goals of a run."""
    closed = [work for work in works if work.mode != "open"]
    costs = (
        _costs(run, [work for work in closed if work.tls is tls], peers) for tls in (False, True)
    )
    parts = [_HEAD, _machine(run), *costs, compare_latency(run, works) or "", _goals(verdicts)]
    return "\n".join(part for part in parts if part)


def _machine(run: Run) -> str:
    found = machine()
    rounds = 1 + max((m.round for m in run.measurements if m.rate is None), default=0)
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    text = (
        f"{found['processor']}, {found['cores']} cores, {found['system']}, {found['python']}; "
        f"versions: {versions}. Medians over {rounds} rounds, with the quartiles in parentheses.\n"
    )
    busy = noise(run)
    return f"{text}\n{busy}\n" if busy else text


def _costs(run: Run, works: Sequence[Work], peers: Sequence[Peer]) -> str:
    """Return the CPU time per message of each peer, a column for each workload."""
    measured = [work for work in works if any(m.work == work.name for m in run.measurements)]
    if not measured:
        return ""
    rows = [["", *(f"``{work.name}``" for work in measured)]]
    for peer in peers:
        cells = [_cost(run, peer, work) for work in measured]
        if any(cells):
            rows.append([peer.title, *cells])
    meaning = "\n".join(f"- ``{work.name}``: {work.title}" for work in measured)
    title = "CPU time of the server per message, in microseconds:"
    return f"{meaning}\n\n{title}\n\n{list_table(rows)}"


def _cost(run: Run, peer: Peer, work: Work) -> str:
    cost = Spread.of(m.cpu_per_echo * MICRO for m in run.of(peer.name, work.name))
    return f"{cost.median:.3g} ({cost.low:.3g}-{cost.high:.3g})" if cost else ""


def _goals(verdicts: Iterable[Verdict]) -> str:
    rows = [["Workload", "Compared with", "Goal", "Measured (quartiles)", "Result"]]
    for verdict in verdicts:
        if verdict.found is not None:
            title, against, wanted, median, quartiles, word = verdict_cells(verdict)
            rows.append([title, against, wanted, f"{median} ({quartiles})", word])
    if len(rows) == 1:
        return ""
    title = "Ratios of echoproto to the other server, within the same round:"
    return f"{title}\n\n{list_table(rows)}"


def list_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first row is its head."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines) + "\n"
