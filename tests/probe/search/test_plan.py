from __future__ import annotations

import math

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.plan import Plan, Planned
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.result import Phase


def planned(text: str) -> Planned:
    return Planned(Phase.FUZZ, "1", "", Session.parse(text))


def plan(round_trip: float, rate: float = math.inf) -> Plan:
    return Plan(Preflight("a", (round_trip,), 0.05, 30, True, rate=rate))


def test_a_path_without_a_limit_carries_everything() -> None:
    assert plan(0.1).most_bytes == math.inf
    assert plan(0.1).bytes_at_once == math.inf


def test_a_slow_path_carries_what_it_can_in_time() -> None:
    slow = plan(0.1, rate=11_000)
    assert slow.most_bytes == 55_000
    assert slow.bytes_at_once < slow.most_bytes
    # 100 sessions of 11,000 bytes take a second each, whatever the round trip.
    assert slow.seconds([planned("send 61*11000")], 100) == pytest.approx(100)


@pytest.mark.parametrize(
    ("text", "round_trips"),
    [
        ("nothing", 2),
        ("send 61; fin", 2),
        ("send 61; await; send 62", 3),
        ("send 61; await | send 61; await; send 62; await", 4),
        ("send 61 then send 62", 4),
    ],
)
def test_a_far_path_takes_round_trips(text: str, round_trips: int) -> None:
    many = 32 * 10
    assert plan(1.0).seconds([planned(text)], many) == pytest.approx(10 * round_trips)


def test_nothing_takes_no_time() -> None:
    assert plan(1.0).seconds([], 0) == 0


def test_connections_at_the_same_time() -> None:
    assert planned("send 61 | send 62").parallel == 2
    assert planned("send 61 then send 62").parallel == 1
