"""The shortest silence, on a path that is a function of time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from echoproto.probe.script.conversation import Hold, Pause, Send, Session
from echoproto.probe.search.background import silent
from echoproto.probe.search.reproduced import NotAgain
from echoproto.probe.search.silence import Silence, shortest_silence
from echoproto.probe.wire.verdict import Action, Event, Fault, Outcome, Verdict

Forgets = Callable[[Session], tuple[Fault, float | None]]
"""Returns the verdict on a session, and after how many milliseconds the path closed it."""

FIRST = silent(Send(b"e"), 1100)


def pause(session: Session) -> int:
    steps = session.conversations[0].steps
    return sum(step.ms for step in steps if isinstance(step, Pause))


def outcome(session: Session, kind: Fault, closed: float | None = None) -> Outcome:
    events = [Event(0.001, Action.PAUSED)]
    if closed is not None:
        events.append(Event(0.001 + closed / 1000, Action.GOT_RESET))
    return Outcome(session, (Verdict(kind, ""),), (tuple(events),), 0.0)


def searched(forgets: Forgets, deadline: float = math.inf) -> Silence | NotAgain | None:
    rounds: list[int] = []

    def together(sessions: Sequence[Session]) -> list[Outcome]:
        rounds.append(len(sessions))
        return [outcome(session, *forgets(session)) for session in sessions]

    found = shortest_silence(outcome(FIRST, Fault.STALLED), together, 330, deadline)
    assert len(rounds) <= 3
    return found


def test_a_path_that_forgets_is_found_within_three_rounds() -> None:
    def forgets(session: Session) -> tuple[Fault, float | None]:
        sends = any(isinstance(step, Send) for step in session.conversations[0].steps)
        return (Fault.STALLED if sends and pause(session) >= 900 else Fault.NONE), None

    silence = searched(forgets)
    assert isinstance(silence, Silence)
    assert silence.explanation is not None
    assert silence.explanation.pause_ms == 900
    assert str(silence.explanation.effect) == "withheld"
    (conversation,) = silence.found.session.conversations
    assert len(conversation.steps) == 2
    assert 900 <= pause(silence.found.session) < 925
    assert silence.found.reproduced == silence.found.runs > 2
    assert any("idle timeout" in suspect.what for suspect in silence.explanation.suspects)


def test_a_path_that_closes_says_when_by_itself() -> None:
    def forgets(session: Session) -> tuple[Fault, float | None]:
        return (Fault.RESET, 901.0) if pause(session) > 900 else (Fault.NONE, None)

    silence = searched(forgets)
    assert isinstance(silence, Silence)
    assert silence.explanation is not None
    assert silence.explanation.text == "resets the connection after 900 ms without a byte"
    # Nothing has to be sent, and one round is enough.
    assert str(silence.found.session) == "pause 1100"
    assert silence.found.shrink_runs == 4


def test_a_silence_that_passes_the_next_time_is_no_failure() -> None:
    assert searched(lambda _: (Fault.NONE, None)) == NotAgain(4)


def test_what_fails_without_the_silence_is_another_failure() -> None:
    assert searched(lambda _: (Fault.STALLED, None)) is None


def test_out_of_time_it_is_told_as_it_was_seen() -> None:
    silence = searched(lambda _: (Fault.STALLED, None), deadline=0.0)
    assert isinstance(silence, Silence)
    assert silence.found.session == FIRST
    assert silence.explanation is None


def held(session: Session) -> int:
    steps = session.conversations[0].steps
    return sum(step.ms for step in steps if isinstance(step, Hold))


def searched_held(text: str, fails: Callable[[Session], bool]) -> Silence | NotAgain | None:
    """Search on a path that resets at the end, which says nothing of when."""

    def together(sessions: Sequence[Session]) -> list[Outcome]:
        return [outcome(s, Fault.RESET if fails(s) else Fault.NONE) for s in sessions]

    first = outcome(Session.parse(text), Fault.RESET)
    return shortest_silence(first, together, 2000, math.inf)


def test_a_reader_that_holds_is_shrunk_with_its_bytes() -> None:
    silence = searched_held(
        "hold 6000; send 61*400000",
        lambda s: held(s) >= 3000 and len(s.conversations[0].payload) >= 150_000,
    )
    assert isinstance(silence, Silence)
    assert silence.explanation is not None
    assert silence.explanation.hold_ms == 3000
    assert silence.explanation.text == (
        "resets the connection, with 200000 bytes or more in flight, when the client does not read "
        "for 3 s"
    )
    assert str(silence.found.session) == "hold 3000; send 61*200000"


def test_a_fin_that_a_held_reader_needs_stays() -> None:
    text = "send 61*400; fin; hold 6000"
    silence = searched_held(text, lambda s: held(s) >= 900 and "fin" in str(s))
    assert isinstance(silence, Silence)
    assert silence.explanation is not None
    assert [str(need) for need in silence.explanation.needs] == ["fin", "hold"]
    assert str(silence.found.session).startswith("send 61*100; fin; hold 9")
    without = searched_held(text, lambda s: held(s) >= 900)
    assert isinstance(without, Silence)
    assert re.fullmatch(r"hold 9\d\d; send 61\*100", str(without.found.session))


def test_a_fin_that_follows_the_last_step_is_not_taken_for_none() -> None:
    text = "send 61*400; fin; hold 6000"
    # Where nothing is awaited at the end, a FIN is sent.
    silence = searched_held(text, lambda s: held(s) >= 900 and "await" not in str(s))
    assert isinstance(silence, Silence)
    assert silence.explanation is not None
    assert [str(need) for need in silence.explanation.needs] == ["fin", "hold"]
    assert str(silence.found.session).startswith("send 61*100; fin; hold 9")


def test_a_failure_is_kept_if_none_of_its_shorter_ones_fails() -> None:
    text = "hold 6000; send 61*400"
    silence = searched_held(text, lambda s: str(s).startswith(text) and "await" not in str(s))
    assert isinstance(silence, Silence)
    assert str(silence.found.session) == text


def test_what_a_quick_reader_sees_too_is_another_failure() -> None:
    assert searched_held("hold 6000; send 61*400", lambda _: True) is None
