"""The metrics of a process: those of the library, without its listing of descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.process_collector import ProcessCollector

from echoproto.status.process_metrics import process_metrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def kinds(metrics: Iterable[Metric]) -> set[tuple[str, str, str]]:
    return {(each.name, each.documentation, each.type) for each in metrics}


def values(metrics: Iterable[Metric]) -> dict[str, float]:
    return {sample.name: sample.value for each in metrics for sample in each.samples}


@pytest.mark.parametrize("namespace", ["", "echoproto_worker"])
def test_they_are_those_of_the_library(namespace: str) -> None:
    pid = str(os.getpid())
    theirs = list(ProcessCollector(namespace, pid=lambda: pid, registry=None).collect())
    ours = list(process_metrics(namespace, pid))
    assert len(ours) == 6
    assert kinds(ours) == kinds(theirs)
    found, expected = values(ours), values(theirs)
    for name in expected:
        # Some change between the two looks; the library's listing has a descriptor of its own.
        assert found[name] == pytest.approx(expected[name], rel=0.2, abs=1.5)


def test_descriptors_are_counted() -> None:
    before = values(process_metrics())["process_open_fds"]
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    after = values(process_metrics())["process_open_fds"]
    for descriptor in opened:
        os.close(descriptor)
    assert after - before == 5


def test_a_process_that_has_ended_has_none() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert list(process_metrics("echoproto_worker", str(ended.pid))) == []


def test_a_kernel_that_does_not_tell_is_asked_as_the_library_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stat = Path.stat

    class Older:
        st_size = 0

    def older(path: Path, **options: bool) -> object:
        return Older() if path.name == "fd" else stat(path, **options)

    monkeypatch.setattr(Path, "stat", older)
    found = values(process_metrics())
    assert len(found) == 6
    assert found["process_open_fds"] > 0
