"""The command line: ``python -m benchmarks``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from benchmarks import pages, plots, report
from benchmarks.build import BuildError, compiled, tls_missing
from benchmarks.goals import COMPARED, OURS, UVLOOP, judge
from benchmarks.load import Timing
from benchmarks.peers import PEERS, Peer
from benchmarks.processes import Cores, end_descendants
from benchmarks.rounds import Run, run_rounds, smoke
from benchmarks.works import Work, works

T = TypeVar("T")

# Many short rounds rather than a few long ones: noise comes in bursts of seconds, and should hit
# all peers that are compared.
FULL = Timing(seconds=0.5, warmup=0.1)
FULL_ROUNDS = 15
QUICK = Timing(seconds=0.2, warmup=0.05)
QUICK_ROUNDS = 3
PLOT_ROUNDS = 5
SMOKE = Timing(seconds=0.05, warmup=0.01)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure echoproto and other echo servers in one interleaved run.",
        epilog=f"Peers: {', '.join(peer.name for peer in PEERS)}. "
        f"Workloads: {', '.join(work.name for work in works(0))}.",
    )
    short = parser.add_mutually_exclusive_group()
    short.add_argument(
        "--quick",
        action="store_true",
        help=f"short runs, under a minute in total; by default only {', '.join(COMPARED)}",
    )
    short.add_argument(
        "--smoke",
        action="store_true",
        help="check correctness only, in a few seconds; print and judge no figures",
    )
    parser.add_argument(
        "--peers", metavar="A,B", help="peers to measure (default: all that are installed)"
    )
    parser.add_argument("--works", metavar="X,Y", help="workloads to run (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"number of rounds, of workload latency twice as many (default: {FULL_ROUNDS}; "
        f"{QUICK_ROUNDS} with --quick)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement to FILE")
    parser.add_argument(
        "--rst", type=Path, metavar="FILE", help="write the tables of docs/performance.rst to FILE"
    )
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        help="also plot cost against connections and message size; write SVG files to DIR",
    )
    return parser


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check a command line; name the chosen peers and workloads."""
    parser = _parser()
    parsed = parser.parse_args(words)
    if parsed.rounds is not None and parsed.rounds < 1:
        parser.error(f"argument --rounds: {parsed.rounds}: at least 1 is needed")
    for option, path in (("--json", parsed.json), ("--rst", parsed.rst)):
        if path and not path.parent.is_dir():
            parser.error(f"argument {option}: {path}: no such folder")
    if parsed.plots and not parsed.plots.is_dir():
        parser.error(f"argument --plots: {parsed.plots}: no such folder")
    if parsed.plots and (why := plots.missing()):
        parser.error(f"argument --plots: {why}")
    if parsed.smoke and (parsed.json or parsed.rst or parsed.plots or parsed.rounds):
        parser.error("argument --smoke: measures nothing, so no --rounds, --json, --rst or --plots")
    known_peers = {peer.name: peer for peer in PEERS}
    known_works = {work.name: work for work in works(200 if parsed.smoke else 10_000)}
    default = ",".join(COMPARED if parsed.quick else known_peers)
    parsed.chosen_peers = _chosen(parser, "--peers", parsed.peers or default, known_peers)
    parsed.chosen_works = _chosen(
        parser, "--works", parsed.works or ",".join(known_works), known_works
    )
    return parsed


def _chosen(
    parser: argparse.ArgumentParser, option: str, text: str, known: dict[str, T]
) -> list[T]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            parser.error(f"argument {option}: {name!r}: not one of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(words: Sequence[str] | None = None) -> int:
    """
    Run a command line.

    Arguments:
        words: the arguments; None for those of this process.

    Returns:
        The exit code: 1 if a peer was at fault. A goal that is not met is not an error.
    """
    arguments = _arguments(words)
    if sys.platform != "linux":
        print("benchmarks: Linux is required: epoll, /proc, CPU affinity", file=sys.stderr)
        return 2
    # Ended by a signal, it ends every server and load generator too, as after Ctrl-C.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    missing = {peer.name: why for peer in arguments.chosen_peers if (why := peer.missing())}
    peers = [peer for peer in arguments.chosen_peers if peer.name not in missing]
    for name, why in missing.items():
        print(f"missing: {name}: {why}")
    if any(work.tls for work in arguments.chosen_works) and (why := tls_missing()):
        print(f"missing: TLS: {why}")
        arguments.chosen_works = [work for work in arguments.chosen_works if not work.tls]
    if not peers or not arguments.chosen_works:
        which = "workloads" if peers else "peers"
        print(f"benchmarks: none of the requested {which} can run here", file=sys.stderr)
        return 1
    try:
        compiled("load.c")
        run = _smoke(arguments, peers) if arguments.smoke else _measure(arguments, peers, missing)
    except BuildError as error:
        print(f"benchmarks: the load generator cannot be built: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _progress("")
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    finally:
        # Each process is ended where it is started; this ends one whose start was interrupted.
        end_descendants()
    for line in run.left_out:
        print(f"left out: {line}")
    for line in run.faults:
        print(f"FAULT: {line}")
    return 1 if run.faults else 0


def _smoke(arguments: argparse.Namespace, peers: list[Peer]) -> Run:
    run = smoke(peers, arguments.chosen_works, SMOKE, Cores.allowed(), _progress)
    _progress("")
    for work in arguments.chosen_works:
        right = [peer.name for peer in peers if run.of(peer.name, work.name)]
        print(f"{work.name}: every byte right: {', '.join(right) or 'none'}")
    return run


def _measure(arguments: argparse.Namespace, peers: list[Peer], missing: dict[str, str]) -> Run:
    timing, rounds = (QUICK, QUICK_ROUNDS) if arguments.quick else (FULL, FULL_ROUNDS)
    rounds = arguments.rounds or rounds
    cores = Cores.allowed()
    if cores.server is None:
        print("only one core is allowed: server and load share it; the figures are unreliable")
    chosen: list[Work] = arguments.chosen_works
    run = run_rounds(peers, chosen, rounds, timing, cores, _progress, (OURS, UVLOOP))
    _progress("")
    verdicts = judge(run)
    if arguments.rst:
        arguments.rst.write_text(pages.page(run, chosen, peers, verdicts))
    tables = (
        report.works_table(run, chosen, peers),
        report.ratios_table(run, chosen, peers),
        (report.compare_latency(run, chosen) or "").strip(),
        report.goals_table(verdicts),
        report.noise(run),
    )
    print("\n\n".join(table for table in tables if table))
    if arguments.plots:
        _plot(arguments.plots, run, peers, arguments.rounds or PLOT_ROUNDS, cores)
    if arguments.json:
        arguments.json.write_text(
            report.as_json(run, verdicts, chosen, peers, missing, timing, cores) + "\n"
        )
    return run


def _plot(folder: Path, run: Run, peers: list[Peer], rounds: int, cores: Cores) -> None:
    """Measure the workloads of the plots, add them to `run`, and draw."""
    for plot in plots.PLOTS:
        points = run_rounds(peers, plot.works, rounds, QUICK, cores, _progress)
        _progress("")
        run.extend(points)
        print(f"drawn: {plots.draw(plot, points, peers, folder)}")


if __name__ == "__main__":
    sys.exit(main())
