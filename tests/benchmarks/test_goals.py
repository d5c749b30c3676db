"""The goals are judged by the median of ratios, each between measurements of one round."""

import pytest

from benchmarks.goals import GOALS, Verdict, judge
from benchmarks.rounds import Run
from tests.benchmarks.conftest import measurement


def verdict(run: Run, title: str, peer: str | None) -> Verdict:
    (found,) = [v for v in judge(run) if (v.goal.title, v.goal.peer) == (title, peer)]
    return found


def test_the_goals_of_the_table() -> None:
    limits = {(goal.title, goal.peer): goal.limit for goal in GOALS}
    assert limits == {
        ("CPU per echo, 50 x 1 KiB", "uvloop-protocol"): 1.0,
        ("CPU per echo, 50 x 1 KiB", "c-epoll"): 1.3,
        ("CPU per echo, 50 x 1 KiB", "twisted"): 0.33,
        ("CPU per echo, 1000 x 64 B", "uvloop-protocol"): 1.0,
        ("CPU per echo, 1000 x 64 B", "c-epoll"): 1.3,
        ("CPU per echo, 1000 x 64 B", "twisted"): 0.33,
        ("CPU per echo, 1 x 64 B", "uvloop-protocol"): 1.15,
        ("CPU per echo, 1 x 64 B", "twisted"): 0.6,
        ("bytes/s, 8 x 1 MiB", "uvloop-protocol"): 1.0,
        ("bytes/s, 8 x 1 MiB", "c-epoll"): 0.9,
        ("bytes/s, 8 x 1 MiB", "twisted"): 2.0,
        ("bytes per CPU second, 8 x 1 MiB", "uvloop-protocol"): 1.2,
        ("bytes per CPU second, 8 x 1 MiB", "c-epoll"): 1.15,
        ("bytes per CPU second, 8 x 1 MiB", "twisted"): 2.0,
        ("bytes per CPU second, 50 x 64 KiB", "uvloop-protocol"): 1.2,
        ("bytes per CPU second, 50 x 64 KiB", "c-epoll"): 1.15,
        ("CPU per echo among idle neighbours", "ours"): 1.1,
        ("RSS of an idle connection", None): 2.0,
        ("CPU per accept and one echo", "uvloop-protocol"): 1.0,
        ("p99 latency at a fixed rate", "uvloop-protocol"): 1.0,
        ("CPU per TLS handshake and one echo", "uvloop-protocol"): 0.8,
    }


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is ten times slower in the second round: no ratio shows it.
    run = Run(
        [
            *(measurement("ours", number=n, cpu=cost) for n, cost in enumerate((0.9, 10.0, 1.4))),
            *(
                measurement("uvloop-protocol", number=n, cpu=cost)
                for n, cost in enumerate((1.0, 10.0, 1.0))
            ),
        ]
    )
    found = verdict(run, "CPU per echo, 50 x 1 KiB", "uvloop-protocol")
    assert found.found
    assert found.found.median == pytest.approx(1.0)
    assert (found.found.low, found.found.high) == pytest.approx((0.95, 1.2))
    assert found.word == "met"
    assert found.within_spread


@pytest.mark.parametrize(("cost", "word"), [(0.3, "met"), (0.34, "not met")])
def test_at_most(cost: float, word: str) -> None:
    run = Run([measurement("ours", cpu=cost), measurement("twisted", cpu=1.0)])
    found = verdict(run, "CPU per echo, 50 x 1 KiB", "twisted")
    assert found.word == word
    assert not found.within_spread


@pytest.mark.parametrize(("size", "word"), [(2000, "met"), (1900, "not met")])
def test_at_least(size: int, word: str) -> None:
    run = Run([measurement("ours", "bulk", size=size), measurement("twisted", "bulk", size=1000)])
    assert verdict(run, "bytes/s, 8 x 1 MiB", "twisted").word == word
    assert verdict(run, "bytes per CPU second, 8 x 1 MiB", "twisted").word == word


def test_growth_among_neighbours_is_against_ourselves() -> None:
    run = Run(
        [
            measurement("ours", "pingpong-50", cpu=1.0),
            measurement("ours", "neighbours", cpu=1.05, rss_per_idle=1536.0),
        ]
    )
    growth = verdict(run, "CPU per echo among idle neighbours", "ours").found
    memory = verdict(run, "RSS of an idle connection", None).found
    assert growth
    assert growth.median == pytest.approx(1.05)
    assert memory
    assert memory.median == 1.5


def test_what_was_not_measured_in_the_same_round_is_not_judged() -> None:
    run = Run([measurement("ours", number=0), measurement("twisted", number=1)])
    assert {v.word for v in judge(run)} == {"not measured"}
    assert {v.word for v in judge(Run())} == {"not measured"}
