"""The probe behind a delay, in a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from tests.probe.conftest import ECHO_PROCESS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace"),
    pytest.mark.skipif(
        not (shutil.which("ip") and shutil.which("tc")), reason="needs ip and tc (iproute2)"
    ),
]


@pytest.fixture
def far_away() -> Iterator[list[str]]:
    """The words that run a command in a namespace whose loopback takes 50 ms each way."""
    name = f"echoproto-{uuid.uuid4().hex[:8]}"
    inside = ["ip", "netns", "exec", name]
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("cannot make a network namespace here")
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        delay = [*inside, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "50ms"]
        if subprocess.run(delay, capture_output=True, check=False).returncode:
            pytest.skip("the kernel has no netem")
        yield inside
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def far_port(far_away: list[str]) -> Iterator[int]:
    """The port of a right echo there."""
    with subprocess.Popen(
        [*far_away, sys.executable, "-c", ECHO_PROCESS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def probe(inside: list[str], folder: File, *args: str) -> subprocess.CompletedProcess[str]:
    command = [*inside, sys.executable, "-m", "echoproto", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_right_echo_behind_fifty_milliseconds(
    far_away: list[str], far_port: int, tmp_path: File
) -> None:
    target = f"127.0.0.1:{far_port}"
    done = probe(far_away, tmp_path, "ping", target, "-c", "3", "-i", "0", "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["lost"] == 0
    assert summary["ms"]["min"] >= 100
    # The first cases of the catalogue, by number: each takes some round trips.
    cases = [word for number in (1, 4, 5, 6, 12, 68, 80) for word in ("--case", f"E-{number:03}")]
    done = probe(far_away, tmp_path, "fuzz", target, *cases)
    assert done.returncode == 0, done.stdout
    assert "half-close survives" in done.stdout
    done = probe(far_away, tmp_path, "fuzz", target, "-n", "20", "--seed", "1", "--max-time", "40")
    assert done.returncode == 0, done.stdout
    assert "no failure" in done.stdout
