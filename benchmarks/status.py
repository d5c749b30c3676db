"""What a request to the status port costs with many connections: ``python -m benchmarks.status``.

While one is answered, all connections wait. So the figure is the CPU time that the server takes
from the request to the end of the answer. A second one includes what the request has caused to be
done in parts afterwards, between which connections are served.

It is measured twice. Before the one, the server is asked all the time for a second, so that what
it needs is in the caches: that is what the code costs. Before the other, nothing is asked for a
second: that includes what a machine takes to fetch all of it again.
"""

import argparse
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.build import HERE, BuildError
from benchmarks.load import FaultError, Timing, load
from benchmarks.peers import twistd
from benchmarks.processes import Cores, Server, ServerError, usage
from benchmarks.rounds import raise_descriptor_limit
from benchmarks.spread import Spread
from benchmarks.works import OWN_DESCRIPTORS, Work

PATHS = ("/metrics", "/status.json", "/readyz")

#: Milliseconds of CPU time that a request may take.
GOAL = 5.0

#: Seconds before each request. The sources are counted once a second at most.
PAUSE = 1.1
#: Seconds between two requests meanwhile.
STEP = 0.01


@dataclass(frozen=True)
class Cost:
    """
    CPU time of the server for one request, in milliseconds.

    Attributes:
        answer: until the answer has arrived.
        total: with what is done in parts afterwards.
        after_a_pause: as ``answer``, a second after the last request.
    """

    answer: float
    total: float
    after_a_pause: float


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.status", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    return parser


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _get(port: int, path: str) -> bytes:
    """Return the whole answer to a GET."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ServerError(f"{path}: {answer[:100]!r}")
    return answer


def _keep_asking(port: int, path: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _get(port, path)
        time.sleep(STEP)


def _once(server: Server, port: int, path: str) -> tuple[float, float]:
    """Return the CPU time of a request until it is answered, and in total, in milliseconds."""
    server.wait_idle()
    before = usage(server.pid).cpu
    _get(port, path)
    answered = usage(server.pid).cpu
    server.wait_idle()
    return (answered - before) * 1000, (usage(server.pid).cpu - before) * 1000


def _cost(server: Server, port: int, path: str) -> Cost:
    time.sleep(PAUSE)
    after_a_pause, _ = _once(server, port, path)
    # Not for the sources, which are to be counted for the request that is measured.
    _keep_asking(port, "/metrics" if path == "/status.json" else path, PAUSE)
    return Cost(*_once(server, port, path), after_a_pause)


def measure(connections: int, rounds: int) -> dict[str, list[Cost]]:
    """
    Measure all paths in interleaved rounds with connections that are open and silent.

    Returns:
        What each request cost, by path.

    Raises:
        BuildError, FaultError, ServerError: the server or the load generator failed.
    """
    raise_descriptor_limit(connections + 2 * OWN_DESCRIPTORS)
    cores = Cores.allowed()
    status = _free_port()
    # One connection sends before, so that the generator has something to do.
    work = Work("status", "", "pingpong", 1, 64, connections - 1)
    command = twistd("--status", str(status))
    with Server("ours", command, {"PYTHONPATH": str(HERE.parent)}, cores.server) as server:
        server.wait_listening()
        with load(work, server.port, Timing(0.1, 0.0), cores.load) as running:
            running.wait_for("warm")
            running.go_on()
            running.wait_for("idle")
            costs: dict[str, list[Cost]] = {path: [] for path in PATHS}
            # The first one imports and caches.
            for number in range(rounds + 1):
                for path in PATHS:
                    cost = _cost(server, status, path)
                    if number:
                        costs[path].append(cost)
    return costs


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code. A goal that is not met is not an error."""
    arguments = _parser().parse_args(words)
    try:
        costs = measure(arguments.connections, arguments.rounds)
    except (BuildError, FaultError, ServerError) as error:
        print(f"benchmarks.status: {error}", file=sys.stderr)
        return 1
    print(
        f"CPU time of a request with {arguments.connections:,} connections, in milliseconds:\n"
        "until it is answered (quartiles), in total, and until then after a pause"
    )
    for path, found in costs.items():
        answer = Spread.of(cost.answer for cost in found)
        total = Spread.of(cost.total for cost in found)
        paused = Spread.of(cost.after_a_pause for cost in found)
        assert answer
        assert total
        assert paused
        word = "met" if answer.median <= GOAL else "not met"
        print(
            f"{path:14}{answer.median:6.2f} ({answer.low:.2f}-{answer.high:.2f})"
            f"{total.median:8.2f}{paused.median:8.2f}   wanted <= {GOAL:g}: {word}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
