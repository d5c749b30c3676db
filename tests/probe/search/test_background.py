from __future__ import annotations

from echoproto.probe.script.conversation import Await, Conversation, HalfClose, Send
from echoproto.probe.search.background import (
    held_sessions,
    idle_lengths,
    idle_sessions,
    not_held,
)
from echoproto.probe.search.preflight import Preflight


def known(*steps: Send | Await | HalfClose) -> Preflight:
    return Preflight("a", (0.001,), 0.05, 30, True, check=Conversation(steps))


def test_the_lengths_go_up_to_what_is_asked_for() -> None:
    assert idle_lengths(None) == [0.3, 1, 2, 5]
    assert idle_lengths(0.5) == [0.3, 0.5]
    assert idle_lengths(60) == [0.3, 1, 2, 5, 10, 30, 60]
    assert idle_lengths(900)[-3:] == [350, 600, 900]


def test_a_silence_is_a_tenth_longer_with_an_echo_on_both_sides_of_it() -> None:
    sessions = idle_sessions(known(Send(b"line"), Await()), 1)
    assert [str(planned.session) for planned in sessions] == [
        "send 6c 69 6e 65; await; pause 330; send 6c 69 6e 65; await",
        "send 6c 69 6e 65; await; pause 1100; send 6c 69 6e 65; await",
    ]
    assert [planned.waits for planned in sessions] == [False, True]


def test_a_path_without_an_answer_before_fin_is_not_accused() -> None:
    assert idle_sessions(known(Send(b"e"), HalfClose()), None) == []


def test_what_is_not_held_is_said() -> None:
    left = idle_sessions(known(Send(b"e"), Await()), 2)[1:]
    assert not_held(left, "the time is up") == (
        "not tried: connections without a byte for 1 s or more (the time is up)"
    )
    assert not_held(left[1:], "--idle 5 waits for them") == (
        "not tried: connections without a byte for 2 s (--idle 5 waits for them)"
    )


def test_readers_that_hold_are_few_and_no_more_than_the_path_carries() -> None:
    path = known(Send(b"e"), Await())
    held = [(one.name, one.title, one.size) for one in held_sessions(path, None, 1e9)]
    assert held == [
        ("5 s", "without reading after FIN", 301_200),
        ("5 s", "without reading", 4_643_500),
    ]
    assert [one.name for one in held_sessions(path, 60, 1e6)] == ["5 s", "60 s"]
    assert [one.name for one in held_sessions(path, 1, 1e6)] == ["1 s"]
    assert held_sessions(known(Send(b"e"), HalfClose()), None, 1e9) == []
    left = [*idle_sessions(path, 5)[2:], *held_sessions(path, 5, 1e9)]
    assert not_held(left, "the time is up") == (
        "not tried: connections without a byte for 2 s or more or without reading for 5 s "
        "(the time is up)"
    )
