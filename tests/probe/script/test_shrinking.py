"""What Hypothesis makes of a drawn conversation that fails: the shortest, whatever the seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, find, settings

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Pause,
    Reset,
    Send,
    Session,
)
from echoproto.probe.script.strategies import conversations, sessions
from tests.probe.script.conftest import drawn

SEEDS = range(25)
#: Shrinking takes half a second a seed.
SHRUNK_SEEDS = range(10)
ENOUGH = 0.9

Fails = Callable[[Conversation], bool]


def sends(conversation: Conversation) -> list[bytes]:
    return [step.payload for step in conversation.steps if isinstance(step, Send)]


def kinds(conversation: Conversation) -> str:
    names = {Send: "s", Await: "a", HalfClose: "f", Reset: "r"}
    return "".join(names.get(type(step), "-") for step in conversation.steps)


PREDICATES: list[tuple[str, Fails]] = [
    ("fin", lambda c: "f" in kinds(c)),
    ("send ff", lambda c: b"\xff" in c.payload),
    ("send 80", lambda c: any(byte >= 0x80 for byte in c.payload)),
    ("send 0d 00", lambda c: any(b"\r\0" in payload for payload in sends(c))),
    ("send 00*1000", lambda c: len(c.payload) >= 1000),
    ("send 00*4096", lambda c: 4096 in map(len, sends(c))),
    ("send 00*4097", lambda c: any(len(payload) >= 4097 for payload in sends(c))),
    ("send 00*100; send 00*100", lambda c: sum(len(p) >= 100 for p in sends(c)) >= 2),
    ("send 00; await; send 00", lambda c: "sas" in kinds(c)),
    ("send 00; send 00; send 00; send 00; send 00", lambda c: len(sends(c)) >= 5),
    ("send 00; reset", lambda c: "s" in kinds(c) and kinds(c).endswith("r")),
    ("pause 5", lambda c: any(isinstance(s, Pause) and s.ms >= 5 for s in c.steps)),
]


def shrunk(fails: Fails, seed: int) -> str:
    """Return what Hypothesis reports for a test that fails for these conversations."""
    quiet = settings(
        max_examples=2000, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return str(find(conversations(), fails, settings=quiet, random=Random(seed)))


@pytest.mark.parametrize(("shortest", "fails"), PREDICATES[:4])
def test_the_shortest_is_found(shortest: str, fails: Fails) -> None:
    assert shrunk(fails, 0) == shortest


@pytest.mark.slow
@pytest.mark.parametrize(("shortest", "fails"), PREDICATES)
def test_the_shortest_is_found_with_nearly_every_seed(shortest: str, fails: Fails) -> None:
    found = [shrunk(fails, seed) for seed in SHRUNK_SEEDS]
    print(f"{shortest}: {found.count(shortest)} of {len(SHRUNK_SEEDS)}")
    assert found.count(shortest) >= ENOUGH * len(SHRUNK_SEEDS), found


def test_a_session_of_several_shrinks() -> None:
    def fails(session: Session) -> bool:
        return len(session.conversations) > 1 and not session.sequential

    quiet = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    found = find(sessions(), fails, settings=quiet, random=Random(1))
    assert str(found) == "nothing | nothing"


def _has_byte(value: int, payload: bytes) -> bool:
    return value in payload


def _has_size(size: int, payload: bytes) -> bool:
    return len(payload) == size


@pytest.mark.slow
def test_a_hundred_draws_find_what_most_often_fails() -> None:
    """Single bytes, CR NUL, and sends of exactly a power of two: 90% of them, of 25 seeds."""
    wanted: dict[str, Callable[[bytes], bool]] = {"0d 00": lambda payload: b"\r\0" in payload}
    for value in range(256):
        wanted[f"{value:02x}"] = functools.partial(_has_byte, value)
    for size in (2**bits for bits in range(17)):
        wanted[f"00*{size}"] = functools.partial(_has_size, size)
    misses: dict[str, int] = dict.fromkeys(wanted, 0)
    for seed in SEEDS:
        drawn_payloads = {p for c in drawn(conversations(), 100, seed) for p in sends(c)}
        for name, shows in wanted.items():
            misses[name] += not any(map(shows, drawn_payloads))
    print({name: count for name, count in misses.items() if count})
    allowed = (1 - ENOUGH) * len(SEEDS)
    assert {name: count for name, count in misses.items() if count > allowed} == {}
