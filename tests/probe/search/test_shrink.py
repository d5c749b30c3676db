from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

from echoproto.probe.script.conversation import Await, Conversation, Pause, Send, Session, key_of
from echoproto.probe.script.strategies import sessions
from echoproto.probe.search import shrink as shrinking
from echoproto.probe.search.shrink import length, shrink

Fails = Callable[[Session], bool]


def first(session: Session) -> bytes:
    return session.conversations[0].payload


def shrunk(text: str, fails: Fails) -> str:
    session = Session.parse(text)
    assert fails(session)
    return str(shrink(session, fails, lambda: True))


def sends(session: Session) -> list[int]:
    steps = session.conversations[0].steps
    return [len(str(step)) for step in steps if str(step).startswith("send")]


@pytest.mark.parametrize(
    ("start", "fails", "shortest"),
    [
        ("send 00..ff; await; fin", lambda s: b"\xff" in first(s), "send ff"),
        ("send 00..ff; send 00..ff", lambda s: b"\xff\0" in first(s), "send ff 00"),
        ("send (00..fa)*50; await", lambda s: b"\r" in first(s)[:-1], "send 0d 00"),
        ("send (61..7a)*900", lambda s: len(first(s)) >= 4097, "send 00*4097"),
        ("send 61*8192; send 62", lambda s: len(first(s)) == 8193, "send 00*8193"),
        ("send 61*65536", lambda s: len(first(s)) in (1500, 65536), "send 00*1500"),
        ("send (00..fa)*40", lambda s: len(first(s)) > 1000 and first(s)[1000] > 0,
         "send 00*1000 01"),
        ("send 80..ff", lambda s: any(byte >= 0x80 for byte in first(s)), "send 80"),
        ("; ".join(["send 61"] * 90), lambda s: len(sends(s)) >= 17,
         "; ".join(["send 00"] * 17)),
        ("send 41 42; await; send 41 42", lambda s: str(s).count("send 41 42") == 2
         or str(s).count("send 00") == 2, "send 00; send 00"),
        ("send 61; pause 250; send 62", lambda s: any(
            isinstance(x, Pause) and x.ms >= 100 for x in s.conversations[0].steps), "pause 110"),
        ("send 61; pause 250; send 62", lambda s: any(
            isinstance(x, Pause | Await) for x in s.conversations[0].steps), "await"),
        ("slow 5000; send 61", lambda s: "slow" in str(s), "slow 1000000000"),
        ("send 61 | send 62; reset | nothing", lambda s: "reset" in str(s), "reset"),
        ("send 61 | send 62; reset | nothing",
         lambda s: "reset" in str(s) and len(s.conversations) > 1, "nothing | reset"),
        ("send 61; fin then send 62", lambda s: s.sequential, "nothing then nothing"),
        ("send 61; await", lambda s: True, "nothing"),
        ("send 61; urgent 62; await", lambda s: "urgent" in str(s), "urgent 00"),
        ("send 61; urgent 62", lambda s: "urgent 62" in str(s), "urgent 62"),
        ("urgent 61; send 62", lambda s: len(sends(s)) == 2 or ("urgent" in str(s)
         and len(first(s)) == 2), "send 00; send 00"),
    ],
)  # fmt: skip
def test_the_shortest(start: str, fails: Fails, shortest: str) -> None:
    assert shrunk(start, fails).startswith(shortest)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions())
def test_it_never_grows(session: Session) -> None:
    asked = itertools.count()
    # As a deadline would: with megabytes in several payloads all of it takes minutes.
    after = shrink(session, lambda s: len(s.conversations[0].steps) > 2, lambda: next(asked) < 500)
    assert length(after) <= length(session)


@pytest.mark.slow
def test_many_large_candidates_take_little_memory() -> None:
    size = 200_000
    session = Session((Conversation((Send(random.Random(1).randbytes(size)),)),))
    asked = itertools.count()
    tracemalloc.start()
    try:
        shrink(session, lambda s: False, lambda: next(asked) < 600)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A list of the places of all bytes takes most of it.
    assert peak < 60 * size


def test_no_candidate_is_made_once_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes as long as hashing its megabytes does."""
    made: list[Session] = []
    ended: list[int] = []
    asked = itertools.count()

    def counted(session: Session) -> int:
        made.append(session)
        return key_of(session)

    def more() -> bool:
        if next(asked) < 20:
            return True
        ended.append(len(made))
        return False

    monkeypatch.setattr(shrinking, "key_of", counted)
    shrink(Session.parse("send 00..ff; await; fin"), lambda s: False, more)
    assert len(made) == ended[0]


def test_it_stops_when_the_time_is_up() -> None:
    asked = []
    left = iter([True] * 3)

    def fails(session: Session) -> bool:
        asked.append(session)
        return False

    start = Session.parse("send 00..ff; await; send 00..ff")
    assert shrink(start, fails, lambda: next(left, False)) == start
    assert len(asked) == 3


def test_many_bytes_that_all_matter_end_in_bounded_time() -> None:
    runs = 0
    wanted = bytes(range(1, 251)) * 8

    def fails(session: Session) -> bool:
        nonlocal runs
        runs += 1
        return wanted in first(session)

    start = Session.parse(f"send 00 {wanted.hex(' ')} 00")
    assert first(shrink(start, fails, lambda: True)) == wanted
    assert runs < 2000
