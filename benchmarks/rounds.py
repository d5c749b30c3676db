"""Measures peers in interleaved rounds: every round runs every workload against every peer once."""

import itertools
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.build import BuildError
from benchmarks.load import FaultError, Timing, load
from benchmarks.peers import Peer
from benchmarks.processes import Cores, Server, ServerError, Usage, resident, usage
from benchmarks.works import Work

#: How many rounds of the open loop there are for each of the others.
OPEN_ROUNDS = 2


@dataclass(frozen=True)
class Measurement:
    """
    One workload, run once against one peer.

    Attributes:
        peer, work: their names.
        round: the round, from 0.
        echoes: messages that were echoed correctly.
        bytes: their payload.
        seconds: from the first message to the last byte.
        cpu: seconds of CPU time of the server; `user` and `system` are their shares, which the
            kernel samples at its ticks.
        waited: seconds for which the server was ready to run but another process had its core.
        load_cpu: seconds of CPU time of the load generator.
        p50, p99, p999: latency in seconds. In closed loops from the sending of a message; in the
            open loop from the time at which it should have been sent.
        late: p99 of the load generator's own delay in sending, in seconds; open loop only.
        rate: messages per second requested; open loop only.
        rss: memory of the server in bytes at the end, with all connections open.
        rss_per_idle: growth of that memory per idle connection; None if there are none.
    """

    peer: str
    work: str
    round: int
    echoes: int
    bytes: int
    seconds: float
    cpu: float
    user: float
    system: float
    waited: float
    load_cpu: float
    p50: float
    p99: float
    p999: float
    late: float
    rate: float | None
    rss: int
    rss_per_idle: float | None

    @property
    def cpu_per_echo(self) -> float:
        """Seconds of CPU time of the server for each message."""
        return self.cpu / self.echoes

    @property
    def echoes_per_second(self) -> float:
        """Messages per second of wall time."""
        return self.echoes / self.seconds

    @property
    def bytes_per_second(self) -> float:
        """Payload per second of wall time. It goes both ways, and is counted once."""
        return self.bytes / self.seconds


@dataclass
class Run:
    """All measurements of a run, what was not measured, and the faults of peers."""

    measurements: list[Measurement] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def extend(self, other: "Run") -> None:
        """Add the contents of another run."""
        self.measurements += other.measurements
        self.left_out += other.left_out
        self.faults += other.faults

    def of(self, peer: str, work: str) -> list[Measurement]:
        """Return the measurements of `peer` at `work`, in the order of rounds."""
        return [m for m in self.measurements if m.peer == peer and m.work == work]


def raise_descriptor_limit(wanted: int) -> int:
    """Allow this process and its children `wanted` open files, or as many as possible.

    Returns:
        The limit now in force.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for new in ((wanted, max(wanted, hard)), (min(wanted, hard), hard)):
        if soft >= wanted:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, new)
        except (OSError, ValueError):
            continue  # only root may raise the hard limit
        soft = new[0]
    return soft


def measure(
    server: Server,
    work: Work,
    timing: Timing,
    cores: Cores,
    number: int = 0,
    rate: float | None = None,
) -> Measurement:
    """
    Run a workload once against a server that listens and is idle.

    Arguments:
        number: the round.
        rate: messages per second, for a workload of mode ``open``.

    Raises:
        FaultError: a wrong answer, a close or a stall.
        ServerError: the server died, or does not become idle.
    """
    server.wait_idle()
    with load(work, server.port, timing, cores.load, rate) as running:
        try:
            running.wait_for("warm")
            memory_before = resident(server.pid)
            running.go_on()
            running.wait_for("idle")
            server.wait_idle()
            memory = resident(server.pid)
            before = usage(server.pid)
            running.go_on()
            running.wait_for("done")
            after = usage(server.pid)
            memory_after = resident(server.pid)
            running.go_on()
            result = running.result()
        except (FaultError, ProcessLookupError) as fault:
            said = server.output().strip().rpartition("\n")[2]
            raise FaultError(f"{fault}" + (f"; it printed: {said}" if said else "")) from None
    if not result["echoes"]:
        raise FaultError(f"no message came back in {timing.seconds:g} s")
    return Measurement(
        peer=server.name,
        work=work.name,
        round=number,
        rate=rate,
        rss=memory_after,
        rss_per_idle=(memory - memory_before) / work.idle if work.idle else None,
        **_used(before, after),
        **_counted(result),
    )


def _used(before: Usage, after: Usage) -> dict[str, Any]:
    """Return what a server used between two readings, by the names of `Measurement`."""
    cpu = after.cpu - before.cpu
    # The total is exact. Its division is an estimate of the kernel, so only its share is taken.
    user, system = after.user - before.user, after.system - before.system
    share = user / (user + system) if user + system else 0.0
    return {
        "cpu": cpu,
        "user": cpu * share,
        "system": cpu * (1 - share),
        "waited": after.waited - before.waited,
    }


def _counted(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the load generator counted, by the names of `Measurement`."""
    latency = result["latency_ns"]
    return {
        **{name: result[name] for name in ("echoes", "bytes", "seconds", "load_cpu")},
        "p50": latency["p50"] / 1e9,
        "p99": latency["p99"] / 1e9,
        "p999": latency["p99.9"] / 1e9,
        "late": result["late_ns"]["p99"] / 1e9,
    }


def measure_fresh(
    peer: Peer, work: Work, timing: Timing, cores: Cores, number: int, rate: float | None = None
) -> Measurement:
    """
    Start a peer, run a workload against it as `measure` does, and end it.

    A fresh process inherits nothing from an earlier workload, and differences due to its memory
    layout become part of the spread between rounds.

    Raises:
        FaultError, ServerError: as for `measure`, or the peer does not start.
        BuildError: the peer cannot be compiled.
    """
    with peer.start(cores.server, work.tls) as server:
        server.wait_listening()
        return measure(server, work, timing, cores, number, rate)


def smoke(
    peers: Iterable[Peer],
    works: Sequence[Work],
    timing: Timing,
    cores: Cores,
    say: Callable[[str], None],
) -> Run:
    """Run every workload once against every peer to check that it echoes correctly.

    A peer is started once, and once more for TLS. The open loop runs at a rate that every peer
    sustains.
    """
    run = Run()
    for peer in peers:
        say(peer.name)
        able = _able(peer, works, run)
        for tls, some in itertools.groupby(able, lambda work: work.tls):
            try:
                with peer.start(cores.server, tls) as server:
                    server.wait_listening()
                    for work in some:
                        rate = 1000.0 if work.mode == "open" else None
                        run.measurements.append(measure(server, work, timing, cores, rate=rate))
            except (BuildError, FaultError, ServerError) as fault:
                run.faults.append(f"{peer.name}: {fault}")
    return run


def _able(peer: Peer, works: Iterable[Work], run: Run) -> list[Work]:
    """Return the workloads that a peer can run, and record in `run` what is left out."""
    able = []
    unable: dict[str, list[str]] = {}
    for work in works:
        if why := peer.unable(work):
            unable.setdefault(why, []).append(work.name)
        else:
            able.append(work)
    run.left_out += [f"{peer.name}, {', '.join(names)}: {why}" for why, names in unable.items()]
    return able


def run_rounds(
    peers: Sequence[Peer],
    works: Sequence[Work],
    rounds: int,
    timing: Timing,
    cores: Cores,
    say: Callable[[str], None],
    judged: Sequence[str] = (),
) -> Run:
    """
    Run every workload against every peer in every round; the order of peers rotates.

    A peer at fault does not end the run. The fault is recorded, and that workload is not run
    against that peer again.

    Arguments:
        say: is called with a line about the progress.
        judged: the names of the peers whose saturation sets the rate of the open loop.
    """
    run = Run()
    possible = _possible(peers, works, run)
    barred: set[tuple[str, str]] = set()

    def do(some: Sequence[Work], rates: Mapping[str, float], rounds: int) -> None:
        for number, work, place in itertools.product(range(rounds), some, range(len(peers))):
            peer = peers[(place + number) % len(peers)]
            pair = (peer.name, work.name)
            if pair not in possible or pair in barred:
                continue
            say(f"round {number + 1} of {rounds}: {work.name}, {peer.name}")
            try:
                run.measurements.append(
                    measure_fresh(peer, work, timing, cores, number, rates.get(peer.name))
                )
            except (BuildError, FaultError, ServerError) as fault:
                run.faults.append(f"{peer.name}, {work.name}: {fault}")
                barred.add(pair)

    do([work for work in works if work.mode != "open"], {}, rounds)
    # The open loop comes last: by then the rates that the peers sustain are known. A high quantile
    # varies more than a sum, so it gets more rounds.
    for work in works:
        if work.mode == "open":
            saturation = {
                peer.name: rate
                for peer in peers
                if (peer.name, work.name) in possible
                and (rate := _saturation(peer, work, timing, cores, run))
            }
            do([work], _open_rates(saturation, judged), rounds * OPEN_ROUNDS)
    return run


def _possible(peers: Sequence[Peer], works: Sequence[Work], run: Run) -> set[tuple[str, str]]:
    """Return the pairs of peer and workload that can run, and record in `run` what is left out."""
    limit = raise_descriptor_limit(max(work.descriptors for work in works))
    within = []
    for work in works:
        if work.descriptors > limit:
            run.left_out.append(
                f"{work.name}: needs {work.descriptors:,} open files, `ulimit -n` allows {limit:,}"
            )
        else:
            within.append(work)
    return {(peer.name, work.name) for peer in peers for work in _able(peer, within, run)}


def _saturation(peer: Peer, work: Work, timing: Timing, cores: Cores, run: Run) -> float | None:
    """
    Return how many messages per second a peer echoes in a closed loop; None at a fault.

    It is the best of several rounds, those in `run` or three more, because noise only lowers it.
    """
    closed = replace(work, name="saturation", mode="pingpong")
    known = [m for m in run.of(peer.name, "pingpong-50") if m.bytes == m.echoes * work.size]
    try:
        found = known or [measure_fresh(peer, closed, timing, cores, n) for n in range(3)]
    except (BuildError, FaultError, ServerError):
        return None  # the workload itself is going to report it
    return max(m.echoes_per_second for m in found)


def _open_rates(saturation: Mapping[str, float], judged: Iterable[str]) -> dict[str, float]:
    """
    Return the rate of the open loop for each peer, in messages per second.

    All peers get half of the lowest saturation rate of the judged peers. A peer that saturates
    below that gets half of its own.
    """
    among = [saturation[name] for name in judged if name in saturation] or saturation.values()
    common = min(among, default=0.0)
    return {name: min(common, own) / 2 for name, own in saturation.items()}
