"""What there is to tell, as the tests of the status make it up."""

from __future__ import annotations

from collections import Counter
from typing import Any

from echoproto.core.stats import Stats
from echoproto.status.health import Health
from echoproto.status.report import Report
from echoproto.status.snapshot import Listener, Process, Snapshot

REPORT = Report(
    pid=7,
    live=3,
    stats=Stats(
        accepted=10,
        failed=1,
        silent=2,
        refused=Counter(source=4),
        ended=Counter(idle=6),
        bytes_echoed=1000,
        bytes_discarded=5,
        bytes_unreturned=9,
        durations=[1, 2, 3, 1, 0, 0, 0, 0, 0],
        seconds=1.5,
    ),
    sources={"192.0.2.1": 2, "2001:db8::/64": 1},
    lag=0.25,
    max_lag=0.5,
)


WELL = Health(listening=True, draining=False, serving=1, answering=1)


def snapshot(**changed: Any) -> Snapshot:
    """A server of one process that serves."""
    members: dict[str, Any] = {
        "started": 1e9,
        "uptime": 60.0,
        "health": WELL,
        "total": REPORT,
        "processes": (Process("echo", 7, True, REPORT),),
        "workers": False,
        "listeners": (Listener("127.0.0.1:9999", 1, 2, 1024),),
        "drops": None,
        "lag": 0.25,
        "max_lag": 0.5,
        "settings": {"port": "9999"},
        "max_live": 0,
    }
    return Snapshot(**{**members, **changed})


class FakeCollector:
    """Tells what it was given, and how it was asked."""

    def __init__(self, told: Snapshot | None = None) -> None:
        self.error: Exception | None = None
        self.told = told or snapshot()
        self.asked: list[bool] = []
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def collect(self, sources: bool = False) -> Snapshot:
        self.asked.append(sources)
        if self.error is not None:
            raise self.error
        return self.told

    def health(self) -> Health:
        if self.error is not None:
            raise self.error
        return self.told.health
