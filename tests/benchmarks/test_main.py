"""The command line, from its errors to a whole run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.build import tls_missing
from benchmarks.processes import descendants
from benchmarks.works import works
from tests.benchmarks.test_processes import gone

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peers", "ours,apache"], "argument --peers: 'apache': not one of ours, "),
        (["--works", "juggling"], "argument --works: 'juggling': not one of pingpong-50, "),
        (["--rounds", "0"], "argument --rounds: 0: at least 1 is needed"),
        (["--rounds", "x"], "argument --rounds: invalid int value: 'x'"),
        (["--json", "/no/such/file"], "argument --json: /no/such/file: no such folder"),
        (["--rst", "/no/such/file"], "argument --rst: /no/such/file: no such folder"),
        (["--plots", "/no/such"], "argument --plots: /no/such: no such folder"),
        (["--quick", "--smoke"], "not allowed with argument"),
        (["--smoke", "--rounds", "2"], "argument --smoke: measures nothing"),
    ],
)
def test_bad_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("cc")
def test_smoke_of_every_work() -> None:
    if why := tls_missing():
        pytest.skip(why)
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--peers", "ours,c-epoll"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == [
        *(f"{work.name}: every byte right: ours, c-epoll" for work in works(0) if not work.tls),
        *(f"{work.name}: every byte right: ours" for work in works(0) if work.tls),
        "left out: c-epoll, tls-50, tls-bulk, tls-accept: it is not measured with TLS",
    ]


@pytest.mark.usefixtures("cc")
def test_without_openssl_the_works_with_tls_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.__main__.tls_missing", lambda: "openssl is not installed")
    assert main(["--smoke", "--peers", "c-epoll", "--works", "tls-50"]) == 1
    said = capsys.readouterr()
    assert said.out == "missing: TLS: openssl is not installed\n"
    assert said.err == "benchmarks: none of the requested workloads can run here\n"


@pytest.mark.slow
@pytest.mark.usefixtures("cc")
def test_a_run(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1"),
            *("--peers", "c-epoll,twisted", "--works", "pingpong-1,latency"),
            *("--json", str(tmp_path / "found.json")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    done = [(m["peer"], m["work"]) for m in found["measurements"]]
    assert sorted(done) == [
        ("c-epoll", "latency"),
        ("c-epoll", "latency"),
        ("c-epoll", "pingpong-1"),
        ("twisted", "latency"),
        ("twisted", "latency"),
        ("twisted", "pingpong-1"),
    ]
    for m in found["measurements"]:
        assert 0 < m["cpu"] < 2 * m["seconds"]
        assert m["user"] + m["system"] == pytest.approx(m["cpu"])
        assert 0 < m["p50"] <= m["p99"] <= m["p999"]
    assert "latency: 50 connections x 1 KiB at a fixed rate, " in result.stdout
    assert not found["faults"]


@pytest.mark.usefixtures("cc")
@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_interrupted_it_ends_all_it_started(ending: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--peers", "c-epoll", "--works", "pingpong-1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as run:
        deadline = time.monotonic() + 30
        started: list[int] = []
        while len(started) < 3:  # itself, the server and the load generator
            assert time.monotonic() < deadline
            started = descendants(run.pid)
            time.sleep(0.01)
        os.kill(run.pid, ending)
        _, said = run.communicate(timeout=30)
    assert run.returncode == code
    assert b"Traceback" not in said
    assert all(gone(pid) for pid in started)
