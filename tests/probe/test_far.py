"""Right paths that are far, late, slow or busy: no false alarm, and half-close judged right.

The whole catalogue, and conversations that are drawn. None of this is quick.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path as File
from typing import ClassVar

import pytest

from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.result import CampaignResult
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import Path, Relay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_CHANCE = random.Random(862)


class Delaying(Relay):
    """Delays what it passes on, each direction in order."""

    def opened(self) -> None:
        self.free = {"up": 0.0, "down": 0.0}
        self.waiting: dict[str, deque[Callable[[], None]]] = {"up": deque(), "down": deque()}

    def ms(self, size: int) -> float:
        """How long the next bytes take, in milliseconds."""
        return 0

    def delayed(self, way: str, size: int) -> float:
        """How many milliseconds from now the next bytes are passed on."""
        now = time.monotonic()
        at = self.free[way] = max(self.free[way], now + self.ms(size) / 1000)
        return 1000 * (at - now)

    def pass_on(self, way: str, size: int, call: Callable[[], None]) -> None:
        """Call later; each timer makes the oldest call, so that the order is kept."""
        self.waiting[way].append(call)
        self.later(self.delayed(way, size), lambda: self.waiting[way].popleft()())

    def client_sent(self, data: bytes) -> None:
        self.pass_on("up", len(data), lambda: self.to_echo(data))

    def echo_sent(self, data: bytes) -> None:
        self.pass_on("down", len(data), lambda: self.to_client(data))

    def client_ended(self) -> None:
        self.pass_on("up", 0, super().client_ended)

    def echo_ended(self) -> None:
        self.pass_on("down", 0, super().echo_ended)


class Jitter(Delaying):
    """0 to 200 ms each way."""

    def ms(self, size: int) -> float:
        return _CHANCE.uniform(0, 200)


class OneInTwoHundred(Delaying):
    """2 s for one chunk in 200."""

    def ms(self, size: int) -> float:
        return 2000 if size and not _CHANCE.randrange(200) else 0


class Far(Delaying):
    """150 ms each way."""

    def ms(self, size: int) -> float:
        return 150


class LateEnd(Delaying):
    """Closes 1.9 s after the client does."""

    def ms(self, size: int) -> float:
        return 0 if size else 950


class Link(Delaying):
    """1 Mbit/s each way, for all connections together."""

    links: ClassVar[dict[str, float]] = {"up": 0.0, "down": 0.0}

    def delayed(self, way: str, size: int) -> float:
        now = time.monotonic()
        self.links[way] = max(self.links[way], now) + size / 125_000
        return 1000 * (self.links[way] - now)


def result_of(path: Path, folder: File, seed: int, examples: int) -> CampaignResult:
    target = Target.parse(f"127.0.0.1:{path.port}")
    settings = Settings(examples=examples, seed=seed)
    return Campaign(target, settings, None, SavedFailures(folder)).run()


def judge(result: CampaignResult) -> None:
    assert (result.error, result.failures) == (None, [])
    assert result.preflight is not None
    assert result.preflight.half_close
    assert result.held == result.wanted
    assert result.exit_code == 0


@pytest.mark.waits
@pytest.mark.parametrize(
    ("relay", "examples"),
    [(Jitter, 400), (OneInTwoHundred, 400), (Far, 300), (LateEnd, 200), (Link, 60)],
)
def test_a_right_path_is_never_accused(relay: type[Relay], examples: int, tmp_path: File) -> None:
    with Path(relay) as path:
        result = result_of(path, tmp_path, 1, examples)
    judge(result)
    if relay in (OneInTwoHundred, LateEnd):
        assert result.delayed > 0
        assert 1.8 < result.longest_delay < 20


@pytest.fixture
def busy() -> Iterator[None]:
    """Both cores are busy with something else."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.usefixtures("busy")
def test_a_busy_machine_is_not_the_paths_fault(echo_port: int, tmp_path: File) -> None:
    target = Target.parse(f"127.0.0.1:{echo_port}")
    for seed in range(2):
        settings = Settings(seed=seed)
        judge(Campaign(target, settings, None, SavedFailures(tmp_path)).run())
