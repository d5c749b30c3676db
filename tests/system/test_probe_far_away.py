"""The probe over a link with a delay of 50 ms each way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from tests.system.link import SERVER, Link, Weather, linked
from tests.system.server import running, twistd

pytestmark = [pytest.mark.slow, pytest.mark.waits, pytest.mark.timeout(240)]


@pytest.fixture
def link() -> Iterator[Link]:
    with linked() as made:
        made.weather = Weather(delay=0.05)
        yield made


@pytest.fixture
def target(link: Link) -> Iterator[str]:
    """An echo at the other end of the link."""
    with running([*link.server.inside, *twistd("--interface", SERVER)]) as server:
        yield f"{SERVER}:{server.port}"


def probe(link: Link, folder: File, *args: str) -> subprocess.CompletedProcess[str]:
    command = [*link.client.inside, sys.executable, "-m", "echoproto", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_correct_echo_behind_fifty_milliseconds(link: Link, target: str, tmp_path: File) -> None:
    done = probe(link, tmp_path, "ping", target, "-c", "3", "-i", "0", "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["lost"] == 0
    assert summary["ms"]["min"] >= 100
    # A few cases only: each takes some round trips.
    cases = [word for number in (1, 4, 5, 6, 12, 68, 80) for word in ("--case", f"E-{number:03}")]
    done = probe(link, tmp_path, "fuzz", target, *cases)
    assert done.returncode == 0, done.stdout
    assert "half-close survives" in done.stdout
