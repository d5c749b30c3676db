"""A snapshot as Prometheus reads it."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from echoproto.core.stats import Stats
from echoproto.status import metrics
from echoproto.status.kernel import ListenDrops
from echoproto.status.metrics import REASONS, exposition
from echoproto.status.report import Report
from echoproto.status.snapshot import Listener, Process, Snapshot
from tests.status.played import REPORT, snapshot


def read(told: Snapshot) -> dict[tuple[str, ...], float]:
    """Return the value of each sample by its name and labels."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(exposition(told).decode()):
        assert family.documentation
        for sample in family.samples:
            name = (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))
            assert name not in found
            found[name] = sample.value
    return found


def one(told: Snapshot, *name: str) -> float:
    return read(told)[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (("echoproto_connections_accepted_total",), 10),
        (("echoproto_connections_live",), 3),
        (("echoproto_connections_failed_total",), 1),
        (("echoproto_connections_silent_total",), 2),
        (("echoproto_connections_refused_total", "reason=source"), 4),
        (("echoproto_connections_ended_total", "reason=idle"), 6),
        (("echoproto_unreturned_bytes_total",), 9),
        (("echoproto_echoed_bytes_total",), 1000),
        (("echoproto_discarded_bytes_total",), 5),
        (("echoproto_ready",), 1),
        (("echoproto_draining",), 0),
        (("echoproto_accept_queue_length", "listener=127.0.0.1:9999", "socket=1"), 2),
        (("echoproto_accept_queue_limit", "listener=127.0.0.1:9999", "socket=1"), 1024),
        (("echoproto_event_loop_lag_seconds", "process=main"), 0.25),
        (("echoproto_event_loop_lag_max_seconds", "process=main"), 0.5),
        (("echoproto_connection_duration_seconds_count",), 7),
        (("echoproto_connection_duration_seconds_sum",), 1.5),
        (("echoproto_connection_duration_seconds_bucket", "le=0.001"), 1),
        (("echoproto_connection_duration_seconds_bucket", "le=0.01"), 3),
        (("echoproto_connection_duration_seconds_bucket", "le=+Inf"), 7),
    ],
)
def test_the_numbers(name: tuple[str, ...], value: float) -> None:
    assert one(snapshot(), *name) == value


def test_what_is_not_known_is_not_there() -> None:
    names = {name for name, *_ in read(snapshot(listeners=(Listener("unix:", 1, None, None),)))}
    absent = {"listen_overflows_total", "listen_drops_total", "accept_queue_length"}
    absent |= {"connections_limit", "worker_up"}
    assert not names.intersection(f"echoproto_{each}" for each in absent)


def test_what_only_some_have() -> None:
    told = read(snapshot(drops=ListenDrops(3, 4, 6), max_live=5))
    assert told["echoproto_listen_overflows_total",] == 3
    assert told["echoproto_listen_drops_total",] == 4
    assert told["echoproto_syncookies_sent_total",] == 6
    assert told["echoproto_connections_limit",] == 5


def test_labels_are_escaped() -> None:
    hostile = 'a"b\\c\nd'
    assert one(
        snapshot(total=Report(stats=Stats(refused=Counter({hostile: 1})))),
        "echoproto_connections_refused_total",
        f"reason={hostile}",
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_processes() -> None:
    assert read(snapshot())["process_open_fds",] > 0
    processes: Any = (
        Process("worker 1", os.getpid(), True, REPORT),
        Process("worker 2", os.getppid(), False, REPORT),
        Process("worker 3", 0, False, REPORT),
    )
    told = read(snapshot(workers=True, processes=processes))
    assert told["echoproto_worker_up", "process=worker 1"] == 1
    assert told["echoproto_worker_up", "process=worker 2"] == 0
    assert told["echoproto_worker_up", "process=worker 3"] == 0
    assert told["echoproto_event_loop_lag_seconds", "process=worker 3"] == 0.25
    for name in ("worker 1", "worker 2"):
        assert told["echoproto_worker_process_resident_memory_bytes", f"process={name}"] > 0
    assert ("echoproto_worker_process_resident_memory_bytes", "process=worker 3") not in told


def test_the_documentation_names_each_metric_and_its_type() -> None:
    page = (Path(__file__).parents[2] / "docs" / "status.rst").read_text()
    documented = dict(re.findall(r"\* - ``(echoproto_\w+)``\n +- (\w+)\n", page))
    everything = exposition(
        snapshot(
            drops=ListenDrops(0, 0, 0),
            max_live=1,
            workers=True,
            processes=(Process("worker 1", 0, True, REPORT),),
        )
    ).decode()
    exposed = dict(re.findall(r"# TYPE (echoproto_\w+) (\w+)\n", everything))
    assert documented == exposed


def test_every_counter_exists_from_the_start() -> None:
    found = read(snapshot(total=Report()))
    for name, reasons in {"refused": ("proxy", "slots", "source"), "ended": ("idle",)}.items():
        for reason in reasons:
            assert found[f"echoproto_connections_{name}_total", f"reason={reason}"] == 0


def test_every_reason_is_known() -> None:
    """The first argument of each call that refuses or ends a connection."""
    called: dict[str, set[str]] = {"refuse": set(), "end": set()}
    package = Path(metrics.__file__).parents[1]
    for path in package.rglob("*.py"):
        if "probe" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in called
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                called[node.func.attr].add(node.args[0].value)
    assert called == {"refuse": set(REASONS["refused"]), "end": set(REASONS["ended"])}
