from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from echoproto.probe.script.conversation import Conversation, HalfClose, Send, Session, SlowRead
from echoproto.probe.script.strategies import conversations, cut, payloads, sessions
from echoproto.probe.script.vocabulary import TOKENS

T = TypeVar("T")


def drawn(strategy: SearchStrategy[T], count: int = 400) -> list[T]:
    values: list[T] = []

    @seed(1)
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def draw(value: T) -> None:
        values.append(value)

    draw()
    return values


def steps(made: Iterable[Conversation]) -> Counter[type]:
    return Counter(type(step) for conversation in made for step in conversation.steps)


def test_payloads_prefer_tokens_and_boundaries() -> None:
    made = drawn(payloads(), 1000)
    assert all(made)
    assert sum(any(token in payload for token in TOKENS) for payload in made) > 500
    assert sum(len(payload) in range(4094, 4099) for payload in made) > 4
    assert max(map(len, made)) <= 65540


def test_own_tokens_and_sizes_are_drawn_often() -> None:
    made = drawn(payloads(tokens=[b"magic word"], sizes=[31337]), 500)
    assert sum(b"magic" in payload for payload in made) > 50
    assert sum(len(payload) in range(31335, 31341) for payload in made) > 30


def test_every_step_is_drawn() -> None:
    found = steps(drawn(conversations(), 500))
    assert len(found) == 6
    assert HalfClose not in steps(drawn(conversations(half_close=False), 150))


def test_sessions_of_every_kind() -> None:
    made = drawn(sessions(), 800)
    kinds = Counter((len(s.conversations) > 1, s.sequential) for s in made)
    assert kinds[(True, False)] > 40
    assert kinds[(True, True)] > 0
    assert kinds[(False, False)] > 400
    assert max(len(session.conversations) for session in made) <= 32
    alone = drawn(sessions(parallel=1), 50)
    assert {len(session.conversations) for session in alone} == {1}
    few = drawn(sessions(parallel=3), 300)
    assert max(len(s.conversations) for s in few) <= 3


def test_slow_sessions_are_rare() -> None:
    made = drawn(sessions(), 500)
    slow = [s for s in made if any(SlowRead in steps([c]) for c in s.conversations)]
    assert len(slow) < 30
    assert sum(len(c.payload) for s in made for c in s.conversations) < 100_000_000


def test_cut() -> None:
    assert cut(b"abcde", 2) == (Send(b"ab"), Send(b"cd"), Send(b"e"))
    many = cut(bytes(1000), 1)
    assert len(many) == 201
    assert many[-1] == Send(bytes(800))


def test_a_session_is_a_session() -> None:
    assert all(isinstance(session, Session) for session in drawn(sessions(), 20))
