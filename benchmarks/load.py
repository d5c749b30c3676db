"""Runs the load generator, load.c, against a port and follows it step by step."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.build import TLS_OPTIONS, compiled
from benchmarks.processes import pinned
from benchmarks.works import Work


class FaultError(Exception):
    """The peer sent a wrong byte, closed, or stalled; the message says which byte, or when."""


@dataclass(frozen=True)
class Timing:
    """
    How long a measurement takes.

    Attributes:
        seconds: how long new messages are sent.
        warmup: seconds before that, which are not counted.
        stall: seconds without a byte after which a peer is at fault.
    """

    seconds: float
    warmup: float
    stall: float = 5.0


class Load:
    """A running load generator; the comment at the top of load.c describes the steps."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def wait_for(self, step: str) -> None:
        """
        Wait until it reports `step`.

        Raises:
            FaultError: the peer is at fault, or the load generator ended.
        """
        line = self._line()
        if line != step:
            raise FaultError(f"the load generator printed {line!r}, expected {step!r}")

    def go_on(self) -> None:
        """Let it take the next step."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; the next wait_for() reports why

    def result(self) -> dict[str, Any]:
        """
        Return what it counted, after the last step.

        Raises:
            FaultError: as for `wait_for`.
        """
        result: dict[str, Any] = json.loads(self._line())
        return result

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise FaultError(f"the load generator ended with {self._process.wait()}")
        if line.startswith("{"):
            said = json.loads(line)
            if "fault" in said:
                raise FaultError(said["fault"])
        return line


@contextmanager
def load(
    work: Work, port: int, timing: Timing, core: int | None, rate: float | None = None
) -> Iterator[Load]:
    """
    Run the load generator against a port of 127.0.0.1; it is killed when the block ends.

    Arguments:
        core: the core that it runs on, or None for any.
        rate: messages per second, for a workload of mode ``open``.

    Raises:
        BuildError: it cannot be compiled.
    """
    command = [
        str(compiled("load.c", *(TLS_OPTIONS if work.tls else ()))),
        *("--port", str(port)),
        *("--connections", str(work.connections)),
        *("--size", str(work.size)),
        *("--idle", str(work.idle)),
        *("--seconds", str(timing.seconds)),
        *("--warmup", str(timing.warmup)),
        *("--stall", str(timing.stall)),
        *(("--rate", str(rate)) if rate else ()),
        work.mode,
    ]
    with (
        pinned(core),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            yield Load(process)
        finally:
            process.kill()
