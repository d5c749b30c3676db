from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

from echoproto.probe.script.conversation import (
    Await,
    Conversation,
    HalfClose,
    Send,
    Session,
    SlowRead,
)
from echoproto.probe.script.recipes import TRIPS, cut
from echoproto.probe.script.strategies import payloads, sessions
from echoproto.probe.script.vocabulary import TOKENS
from echoproto.probe.search.draw import drawn as blocks
from tests.probe.script.conftest import drawn


def steps(made: Iterable[Conversation]) -> Counter[type]:
    return Counter(type(step) for conversation in made for step in conversation.steps)


def all_steps(made: Iterable[Session]) -> Counter[type]:
    return steps(conversation for session in made for conversation in session.conversations)


def test_payloads_prefer_tokens_and_boundaries(some_payloads: list[bytes]) -> None:
    made = some_payloads
    assert all(made)
    assert sum(any(token in payload for token in TOKENS) for payload in made) > 500
    assert sum(len(payload) in range(4094, 4099) for payload in made) > 4
    assert max(map(len, made)) <= 65540


def test_own_tokens_and_sizes_are_drawn_often() -> None:
    made = drawn(payloads(tokens=[b"magic word"], sizes=[31337]), 500)
    assert sum(b"magic" in payload for payload in made) > 50
    assert sum(len(payload) in range(31335, 31341) for payload in made) > 30


def test_every_step_is_drawn(some_sessions: list[Session]) -> None:
    assert len(all_steps(some_sessions[:500])) == 7


def test_sessions_of_every_kind(some_sessions: list[Session]) -> None:
    made = some_sessions
    assert all(isinstance(session, Session) for session in made)
    kinds = Counter((len(s.conversations) > 1, s.sequential) for s in made)
    assert kinds[(True, False)] > 40
    assert kinds[(True, True)] > 0
    assert kinds[(False, False)] > 400
    assert max(len(session.conversations) for session in made) <= 64


def test_the_options_bound_what_is_drawn() -> None:
    alone = drawn(sessions(parallel=1), 50)
    assert {len(session.conversations) for session in alone} == {1}
    few = drawn(sessions(parallel=3, half_close=False), 300)
    assert max(len(session.conversations) for session in few) <= 3
    # In a session of several, one that closes early is drawn all the same: see _BULLY.
    assert HalfClose not in steps(
        session.conversations[0] for session in few if len(session.conversations) == 1
    )


def test_slow_sessions_are_rare(some_sessions: list[Session]) -> None:
    made = some_sessions[:500]
    slow = [s for s in made if any(SlowRead in steps([c]) for c in s.conversations)]
    assert len(slow) < 30
    assert sum(len(c.payload) for s in made for c in s.conversations) < 100_000_000


def test_cut() -> None:
    assert cut(b"abcde", 2) == (Send(b"ab"), Send(b"cd"), Send(b"e"))
    many = cut(bytes(1000), 1)
    assert len(many) == 201
    assert many[-1] == Send(bytes(800))


def test_no_conversation_of_a_session_takes_many_round_trips(some_sessions: list[Session]) -> None:
    awaits = [
        sum(isinstance(step, Await) for step in conversation.steps)
        for session in some_sessions
        for conversation in session.conversations
    ]
    assert max(awaits) == TRIPS


def test_few_of_the_fuzz_phase_send_nothing_or_are_drawn_twice() -> None:
    made = list(itertools.islice(blocks(sessions(), 5), 600))
    nothing = [session for session in made if not any(c.payload for c in session.conversations)]
    assert len(nothing) < 0.05 * len(made)
    assert len(set(made)) > 0.8 * len(made)
