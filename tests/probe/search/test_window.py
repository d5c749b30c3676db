from __future__ import annotations

import pytest

from echoproto.probe.search.window import Window


def passing(window: Window, count: int, round_trip: float) -> None:
    for _ in range(count):
        window.passed([round_trip])


def test_it_grows_while_round_trips_stay_as_they_were() -> None:
    window = Window()
    assert window.size == 4
    passing(window, 200, 0.05)
    assert window.size == 64


def test_it_shrinks_when_round_trips_grow_and_grows_again() -> None:
    window = Window()
    passing(window, 200, 0.05)
    passing(window, 76, 0.2)
    assert window.size < 64
    passing(window, 300, 0.05)
    assert window.size == 64


def test_one_late_round_trip_changes_nothing() -> None:
    window = Window()
    for _ in range(40):
        passing(window, 10, 0.05)
        window.passed([2.0])
    assert window.size == 64


def test_a_refusal_beside_others_halves_it_and_is_not_passed_again() -> None:
    window = Window()
    passing(window, 12, 0.05)
    assert window.size == 16
    window.refused(9)
    assert (window.size, window.bears) == (4, 9)
    passing(window, 1000, 0.05)
    assert window.size == 8
    window.refused(1)
    assert window.size == 1
    passing(window, 100, 0.05)
    assert window.size == 1


@pytest.mark.parametrize("size", [1, 7])
def test_a_fixed_one_stays(size: int) -> None:
    window = Window(size)
    passing(window, 100, 0.05)
    window.refused(3)
    assert window.size == size


def test_a_path_that_mixes_connections_up_is_asked_one_at_a_time() -> None:
    window = Window()
    window.close()
    passing(window, 100, 0.05)
    assert window.size == 1


def test_one_after_the_other_for_a_while() -> None:
    window = Window()
    passing(window, 12, 0.05)
    window.alone = True
    assert window.size == 1
    passing(window, 200, 0.05)
    assert window.size == 1
    window.alone = False
    assert window.size == 64
