from __future__ import annotations

import random

import pytest

from echoproto.probe.wire.clock import Clock


def test_on_loopback_the_least_waits_apply() -> None:
    clock = Clock([0.0001] * 12)
    assert (clock.timeout, clock.late, clock.grace) == (0.05, 1.0, 0.002)


def test_the_waits_grow_with_the_round_trip() -> None:
    clock = Clock([0.6] * 12)
    assert clock.round_trip == 0.6
    assert clock.timeout == pytest.approx(4 * 0.601)
    assert clock.late > 2 * clock.timeout
    assert clock.grace == pytest.approx(1.8)


def test_one_bad_sample_does_not_set_it() -> None:
    first = Clock([0.01] * 11 + [3.0])
    assert first.timeout == 0.05
    later = Clock([0.01] * 12)
    later.add(3.0)
    assert later.timeout < 0.2


def test_it_follows_a_path_that_becomes_slower() -> None:
    clock = Clock([0.05] * 12)
    for _ in range(40):
        clock.add(0.6)
    assert clock.round_trip == pytest.approx(0.6, rel=0.1)
    assert clock.timeout > 2 * 0.6


def test_with_jitter_the_timeout_is_beyond_the_longest_round_trip() -> None:
    coin = random.Random(1)
    clock = Clock([coin.uniform(0, 0.2) + coin.uniform(0, 0.2) for _ in range(12)])
    for _ in range(300):
        clock.add(coin.uniform(0, 0.2) + coin.uniform(0, 0.2))
        assert clock.timeout > 0.4


def test_the_option_raises_every_wait() -> None:
    clock = Clock([0.0001] * 12, least=7)
    assert (clock.timeout, clock.late) == (7, 7)
