"""The tables show medians and spreads; the JSON holds everything."""

import json

import pytest

from benchmarks.goals import judge
from benchmarks.load import Timing
from benchmarks.pages import page
from benchmarks.peers import PEERS
from benchmarks.processes import Cores
from benchmarks.report import (
    as_json,
    compare_latency,
    goals_table,
    noise,
    ratios_table,
    works_table,
)
from benchmarks.rounds import Run
from benchmarks.works import works
from tests.benchmarks.conftest import measurement

RUN = Run(
    [
        *(measurement("ours", number=n, cpu=cost) for n, cost in enumerate((0.7, 0.9, 0.8))),
        *(measurement("twisted", number=n, cpu=2.0) for n in range(3)),
        measurement("ours", "neighbours", rss_per_idle=1536.0),
        measurement("ours", "latency", rate=30_000.0),
        measurement("twisted", "latency", rate=10_000.0),
    ],
    left_out=["ncat, bulk: because"],
)


def test_a_line_for_each_peer() -> None:
    tables = works_table(RUN, works(10_000), PEERS).split("\n\n")
    assert [table.partition(":")[0] for table in tables] == ["pingpong-50", "neighbours", "latency"]
    title, head, ours, twisted = tables[0].splitlines()
    assert title == "pingpong-50: 50 connections x 1 KiB ping-pong"
    # Medians of 100,000 echoes in two seconds; user is a quarter of the CPU time.
    assert ours.split() == [
        "ours", "8.00", "7.50-8.50", "2.00", "6.00", "50,000", "0.051",
        "500", "1,000", "2,000", "30.0", "40%", "75%", "5%",
    ]  # fmt: skip
    assert twisted.split()[:3] == ["twisted", "20.00", "20.00-20.00"]
    assert len(head) == len(ours) == len(twisted)


def test_memory_of_the_idle_and_rates_are_shown() -> None:
    tables = works_table(RUN, works(10_000), PEERS).split("\n\n")
    assert tables[1].splitlines()[1].split()[-1] == "KiB/idle"
    assert tables[1].splitlines()[2].split()[-1] == "1.50"
    assert (
        tables[2]
        .splitlines()[0]
        .endswith("30,000 echoes/s asked for (10,000 and up of the slower)")
    )


def test_ratios() -> None:
    table = ratios_table(RUN, works(10_000), PEERS[:4]).splitlines()
    assert table[1].split() == ["peer", "pingpong-50", "neighbours", "latency"]
    assert table[2].split()[:3] == ["ours", "1.00", "(1.00-1.00)"]
    assert table[4].split() == ["twisted", "2.50", "(2.36-2.68)", "-", "1.00", "(1.00-1.00)"]
    assert table[5].split() == ["asyncio-protocol", "-", "-", "-"]
    assert not ratios_table(Run(), works(10_000), PEERS)


def test_noise_is_said() -> None:
    assert noise(Run()) is None
    assert noise(RUN) is None
    busy = Run([measurement(waited=share) for share in (0.1, 0.4, 1.0)])
    assert "for 20% of the time (median), up to 50%" in (noise(busy) or "")


@pytest.mark.parametrize(
    ("ours", "rounds", "verdict"),
    [
        (
            0.9,
            6,
            "(95% confidence: 0.90-0.90, 6 rounds): ours is better.",
        ),
        (1.1, 6, "(95% confidence: 1.10-1.10, 6 rounds): uvloop-protocol is better."),
        (1.0, 6, "(95% confidence: 1.00-1.00, 6 rounds): undecided."),
        (0.9, 5, "; 5 rounds are too few to tell which is better."),
    ],
)
def test_which_latency_is_better(ours: float, rounds: int, verdict: str) -> None:
    run = Run(
        [
            measurement(peer, "latency", number, p99=p99 * (1 + number), rate=1000.0)
            for peer, p99 in (("ours", ours), ("uvloop-protocol", 1.0))
            for number in range(rounds)
        ]
    )
    assert (compare_latency(run, works(10_000)) or "").endswith(f"{verdict}\n")
    assert compare_latency(RUN, works(10_000)) is None


def test_the_page() -> None:
    text = page(RUN, works(10_000), PEERS, judge(RUN))
    assert "Medians over 3 rounds" in text
    costs = """
   * -
     - ``pingpong-50``
     - ``neighbours``
   * - echoproto: twistd echo
     - 8 (7.5-8.5)
     - 10 (10-10)
   * - Twisted's wire.Echo on its epoll reactor
     - 20 (20-20)
     -
"""
    goals = """
   * - CPU per echo, 50 x 1 KiB
     - twisted
     - <= 0.33
     - 0.40 (0.38-0.42)
     - not met
"""
    assert costs in text
    assert goals in text
    assert text.count("list-table") == 2


def test_goals() -> None:
    lines = goals_table(judge(RUN)).splitlines()
    assert lines[1].split() == [
        *("CPU", "per", "echo,", "50", "x", "1", "KiB", "twisted"),
        *("<=", "0.33", "0.40", "0.38-0.42", "not", "met"),
    ]
    assert "1.50 KiB" in goals_table(judge(RUN))
    assert len(lines) == 5
    assert lines[4].startswith("goals not measured: 18; all need the peers ours, ")
    assert goals_table(judge(Run())).startswith("goals not measured: 21; ")


def test_json() -> None:
    found = json.loads(
        as_json(
            RUN,
            judge(RUN),
            works(10_000),
            PEERS[:2],
            {"go": "go is not installed"},
            Timing(2.0, 0.5),
            Cores(1, 0),
        )
    )
    assert len(found["measurements"]) == len(RUN.measurements)
    assert found["measurements"][0]["cpu_per_echo"] == 0.7 / 100_000
    assert found["missing"] == {"go": "go is not installed"}
    assert found["left_out"] == ["ncat, bulk: because"]
    assert found["machine"]["versions"]["Twisted"]
    assert found["machine"]["congestion control"].isalnum()
    assert [goal["verdict"] for goal in found["goals"]].count("not measured") == 18
