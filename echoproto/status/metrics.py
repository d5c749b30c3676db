"""A snapshot as Prometheus reads it.

Names follow https://prometheus.io/docs/practices/naming/. Counters of several workers are
summed; a metric that makes sense for one process only has a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from echoproto.core.stats import DURATION_BOUNDS, Stats
from echoproto.status.process_metrics import process_metrics
from echoproto.status.report import Report
from echoproto.status.snapshot import Listener, Process, Snapshot

# Of the text format that generate_latest writes. The library has no constant for it that
# all its versions share.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# The reasons of the counters that have some, as the fields of Stats are named.
REASONS = {"refused": ("proxy", "slots", "source"), "ended": ("idle",)}

__all__ = ["CONTENT_TYPE", "REASONS", "exposition"]


def exposition(snapshot: Snapshot) -> bytes:
    """Return a snapshot, and metrics of the processes, in Prometheus' text format 0.0.4.

    :param snapshot: what to export.
    """
    return generate_latest(_Families(snapshot))


class _Families(Collector):
    """A registry with one snapshot in it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield InfoMetricFamily(
            "echoproto_build",
            "Versions.",
            {
                "version": snapshot.build.version,
                "twisted": snapshot.build.twisted,
                "python": snapshot.build.python,
            },
        )
        yield from _connections(snapshot.total, snapshot.max_live)
        yield from _state(snapshot)
        yield from _queues(snapshot.listeners)
        if snapshot.drops is not None:
            yield CounterMetricFamily(
                "echoproto_listen_overflows",
                "Handshakes dropped because an accept queue was full (ListenOverflows), since "
                "the start, in the whole network namespace.",
                snapshot.drops.overflows,
            )
            yield CounterMetricFamily(
                "echoproto_listen_drops",
                "Handshakes that a listening socket dropped for any reason (ListenDrops), since "
                "the start, in the whole network namespace.",
                snapshot.drops.drops,
            )
            yield CounterMetricFamily(
                "echoproto_syncookies_sent",
                "SYNs answered with a cookie because a SYN queue was full (SyncookiesSent), "
                "since the start, in the whole network namespace.",
                snapshot.drops.cookies,
            )
        yield from _lag(snapshot)
        yield from process_metrics()
        if snapshot.workers:
            yield from _workers(snapshot.processes)


def _connections(total: Report, max_live: int) -> Iterator[Metric]:
    yield GaugeMetricFamily("echoproto_connections_live", "Open connections.", total.live)
    if max_live:
        yield GaugeMetricFamily(
            "echoproto_connections_limit",
            "Connections that there may be at once (--max-connections).",
            max_live,
        )
    yield from _counters(total.stats)
    yield CounterMetricFamily(
        "echoproto_passed_descriptors",
        "Messages with descriptors (SCM_RIGHTS) from clients of UNIX sockets. The descriptors "
        "are closed.",
        total.descriptors,
    )
    yield _durations(total.stats)


def _counters(stats: Stats) -> Iterator[Metric]:
    for each in fields(stats):
        if "metric" in each.metadata:
            name, meaning = f"echoproto_{each.metadata['metric']}", each.metadata["meaning"]
            value = getattr(stats, each.name)
            if isinstance(value, Mapping):
                yield _by_reason(name, meaning, value, REASONS[each.name])
            else:
                yield CounterMetricFamily(name, meaning, value)


def _durations(stats: Stats) -> Metric:
    running = 0
    buckets = []
    for bound, count in zip((*DURATION_BOUNDS, "+Inf"), stats.durations, strict=True):
        running += count
        buckets.append((str(bound), running))
    return HistogramMetricFamily(
        "echoproto_connection_duration_seconds",
        "How long closed connections lasted.",
        buckets=buckets,
        sum_value=stats.seconds,
    )


def _by_reason(
    name: str, meaning: str, counts: Mapping[str, int], reasons: Iterable[str]
) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=["reason"])
    # From the start: a counter that appears with its first event hides that event from rate().
    for reason, count in sorted({**dict.fromkeys(reasons, 0), **counts}.items()):
        family.add_metric([reason], count)
    return family


def _state(snapshot: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "echoproto_ready", "1 while /readyz answers 200.", snapshot.health.not_ready is None
    )
    yield GaugeMetricFamily("echoproto_draining", "1 during a drain.", snapshot.health.draining)


def _queues(listeners: Iterable[Listener]) -> Iterator[Metric]:
    length = GaugeMetricFamily(
        "echoproto_accept_queue_length",
        "Connections waiting to be accepted.",
        labels=["listener", "socket"],
    )
    limit = GaugeMetricFamily(
        "echoproto_accept_queue_limit",
        "Connections that may wait before handshakes are dropped, as the kernel gave it.",
        labels=["listener", "socket"],
    )
    for each in listeners:
        if each.queued is not None and each.limit is not None:
            labels = [each.address, str(each.socket)]
            length.add_metric(labels, each.queued)
            limit.add_metric(labels, each.limit)
    yield length
    yield limit


def _lag(snapshot: Snapshot) -> Iterator[Metric]:
    last = GaugeMetricFamily(
        "echoproto_event_loop_lag_seconds",
        "Delay of a process's event loop when last measured.",
        labels=["process"],
    )
    most = GaugeMetricFamily(
        "echoproto_event_loop_lag_max_seconds",
        "Maximum delay of a process's event loop in the last minute.",
        labels=["process"],
    )
    lags = [("main", snapshot.lag, snapshot.max_lag)]
    if snapshot.workers:
        lags += [(each.name, each.report.lag, each.report.max_lag) for each in snapshot.processes]
    for name, lag, max_lag in lags:
        last.add_metric([name], lag)
        most.add_metric([name], max_lag)
    yield last
    yield most


def _workers(processes: Iterable[Process]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "echoproto_worker_up", "1 for a worker whose last report is recent.", labels=["process"]
    )
    families: dict[str, Metric] = {}
    for each in processes:
        up.add_metric([each.name], each.answering)
        for family in _of_process(each):
            families.setdefault(family.name, family)
            if families[family.name] is not family:
                families[family.name].samples += family.samples
    yield up
    yield from families.values()


def _of_process(process: Process) -> Iterator[Metric]:
    """Return the metrics of a worker that /proc has."""
    if not process.pid:
        return
    for family in process_metrics("echoproto_worker", str(process.pid)):
        family.samples = [
            sample._replace(labels={**sample.labels, "process": process.name})
            for sample in family.samples
        ]
        yield family
