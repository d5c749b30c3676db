from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from echoproto.probe.script.conversation import HalfClose, Send, Session
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.explain.explanation import Effect, Explanation
from echoproto.probe.search.known import Known, Left
from echoproto.probe.search.traits import Bytes
from echoproto.probe.search.trigger import Trigger, find_trigger, refined
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

Path = Callable[[Candidate], Fault]


def closes_at_fin(candidate: Candidate) -> Fault:
    sent = candidate.conversations[0].payload
    return Fault.TRUNCATED if sent and candidate.ends_with_fin else Fault.NONE


def drops_ff(candidate: Candidate) -> Fault:
    lost = any(b"\xff" in c.payload for c in candidate.conversations)
    return Fault.TRUNCATED if lost else Fault.NONE


def drops_nul(candidate: Candidate) -> Fault:
    lost = any(b"\0" in c.payload for c in candidate.conversations)
    return Fault.TRUNCATED if lost else Fault.NONE


def flips_first(candidate: Candidate) -> Fault:
    return Fault.CORRUPT if candidate.conversations[0].payload else Fault.NONE


def flips_at_100(candidate: Candidate) -> Fault:
    return Fault.CORRUPT if len(candidate.conversations[0].payload) > 100 else Fault.NONE


def writes(candidate: Candidate) -> list[int]:
    steps = candidate.conversations[0].steps
    return [len(step.payload) for step in steps if isinstance(step, Send)]


def cuts_writes(candidate: Candidate) -> Fault:
    return Fault.TRUNCATED if max(writes(candidate), default=0) > 8192 else Fault.NONE


def needs_two_writes(candidate: Candidate) -> Fault:
    return Fault.RESET if len(writes(candidate)) > 1 else Fault.NONE


def needs_any(candidate: Candidate) -> Fault:
    return Fault.RESET


def mixes(candidate: Candidate) -> Fault:
    return Fault.CROSS_TALK if candidate.at_once > 1 else Fault.NONE


def loses_single_bytes(candidate: Candidate) -> Fault:
    return Fault.TRUNCATED if 1 in writes(candidate) else Fault.NONE


class On:
    """Paths with these faults; the first one that shows is seen."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.ran: list[Candidate] = []

    def __call__(self, candidate: Candidate) -> Outcome:
        self.ran.append(candidate)
        kinds = [kind for path in self.paths if (kind := path(candidate)) is not Fault.NONE]
        verdict = Verdict(kinds[0] if kinds else Fault.NONE, "")
        others = (Verdict(Fault.NONE, ""),) * (len(candidate.conversations) - 1)
        verdicts = (verdict, *others)
        return Outcome(candidate.session, verdicts, ((),) * len(verdicts), 0.0)


def candidate(text: str, fin: bool = True) -> Candidate:
    return Candidate(Session.parse(text), fin)


def trigger(path: Path, shortest: str) -> Trigger:
    run = On(path)
    kind = run(candidate(shortest)).kind
    assert kind is not Fault.NONE
    return find_trigger(candidate(shortest), kind, run)


def knowing(*faults: tuple[Path, str]) -> Known:
    known = Known()
    for index, (path, shortest) in enumerate(faults):
        known.add(trigger(path, shortest), 1.0, index)
    return known


FIN = (closes_at_fin, "send 00; fin")
FF = (drops_ff, "send ff")
NUL = (drops_nul, "send 00")
WRITE = (cuts_writes, "send 00*8193")
OFFSET = (flips_at_100, "send 00*101")
TWO = (needs_two_writes, "send 00; send 00")
SINGLE = (loses_single_bytes, "send 00")
MIXED = (mixes, "nothing | nothing")


@pytest.mark.parametrize(
    ("fault", "without", "session"),
    [
        (FF, "send 61", "send ff"),
        (NUL, "send 61", "send 00"),
        (FF, "send 61 ff 62", None),
        (FIN, "send 61 62", "send 61 62; fin"),
        (TWO, "send 61 62; await", "send 61; await; send 62; await"),
        (WRITE, "send 61*8192; await; send 61*808", "send 61*9000"),
        (OFFSET, "send 61*100", "send 61*9000"),
        (SINGLE, "send 61 61; await; send 62 63", "send 61; await; send 62 63"),
    ],
)
def test_what_is_known_is_taken_out(
    fault: tuple[Path, str], without: str, session: str | None
) -> None:
    avoided = knowing(fault).avoided(candidate(session or without))
    assert fault[0](avoided) is Fault.NONE
    if session is not None:
        assert str(avoided.session) == without


def test_a_session_without_it_stays_as_it_is() -> None:
    known = knowing(FF, WRITE)
    for text in ("send 61; await; send 00; fin", "send 00*8192", "nothing", "reset"):
        assert known.avoided(candidate(text)) == candidate(text)


@pytest.mark.parametrize("fault", [FF, FIN, WRITE, OFFSET, TWO, MIXED])
def test_a_failure_is_known_if_it_passes_without_what_that_needs(fault: tuple[Path, str]) -> None:
    session = candidate("send 00..ff; await; send 61*9000; fin | send ff")
    path = On(fault[0])
    assert knowing(fault).why(session, path(session).kind, path) == 0


def test_one_that_still_fails_is_another() -> None:
    known = knowing(FIN)
    path = On(closes_at_fin, drops_ff)
    session = candidate("send 61 ff; fin")
    left = known.why(session, Fault.TRUNCATED, path)
    assert isinstance(left, Left)
    # What is left has no FIN, written or not, so that shrinking cannot end at the known one.
    assert HalfClose() not in left.candidate.conversations[0].steps
    assert not left.candidate.fin
    assert drops_ff(left.candidate) is Fault.TRUNCATED


def test_a_zero_stands_for_any_byte_only_where_others_fail_too() -> None:
    assert trigger(*NUL).any_zero is False
    assert trigger(*FIN).any_zero
    path = On(drops_nul, drops_ff)
    assert isinstance(knowing(NUL).why(candidate("send ff"), Fault.TRUNCATED, path), Left)


def test_a_race_that_looked_sure_needs_no_special_byte() -> None:
    """It failed in all runs until it was shrunk, and fails in one run of three by then."""
    runs = itertools.count()

    def race(candidate: Candidate) -> Fault:
        lost = candidate.ends_with_fin and next(runs) % 3 == 2
        return Fault.TRUNCATED if lost else Fault.NONE

    found = find_trigger(candidate("send 00; fin"), Fault.TRUNCATED, On(race), rate=1.0)
    assert not any(isinstance(trait, Bytes) for trait in found.traits)
    assert found.needs_fin


def test_a_fault_of_all_conversations_explains_only_its_own_kind() -> None:
    known = knowing((flips_first, "send 00"))
    assert known.explains(candidate("send 61"), Fault.CORRUPT)
    assert not known.explains(candidate("send 61"), Fault.NEVER_CLOSED)
    assert not known.explains(candidate("nothing"), Fault.CORRUPT)
    path = On(flips_first)
    assert known.why(candidate("send 61 62"), Fault.CORRUPT, path) == 0
    left = known.why(candidate("send 61"), Fault.NEVER_CLOSED, path)
    assert left == Left(candidate("send 61"))


def test_of_one_fault_there_is_one_failure() -> None:
    known = knowing(FIN)
    assert known.same(trigger(closes_at_fin, "send 03; fin")) == 0
    assert known.same(trigger(*FF)) is None
    known = knowing(OFFSET)
    assert known.same(trigger(flips_at_100, "send 00*50; await; send 00*51")) == 0


def test_all_bytes_of_an_explanation_are_avoided() -> None:
    known = Known()
    explanation = Explanation("", Effect.DELETED, bytes_=(b"\x11", b"\x13"))
    whole = refined(trigger(lambda c: drops_ff(c), "send ff"), explanation)
    known.add(whole, 1.0, 0)
    assert str(known.avoided(candidate("send 11 13 ff 62")).session) == "send 61 61 61 62"


def test_bytes_that_become_something_else_are_another_fault() -> None:
    lost = trigger(*NUL)
    explanation = Explanation(
        "", Effect.DELETED, bytes_=(b"\0", b"\1", b"\x80"), becomes=((b"\x80", b"\0"),)
    )
    assert refined(lost, explanation).traits[0] == Bytes((b"\0", b"\1"))


def test_a_fault_that_is_another_one_without_fin_needs_the_fin() -> None:
    found = find_trigger(candidate("send 00; fin"), Fault.TRUNCATED, On(closes_at_fin, flips_first))
    assert found.needs_fin
    found = find_trigger(candidate("send ff; fin"), Fault.TRUNCATED, On(closes_at_fin, drops_ff))
    assert not found.needs_fin


def test_once_a_fin_shows_a_failure_others_are_judged_without() -> None:
    def resets_empty(candidate: Candidate) -> Fault:
        left = candidate.conversations[0].payload.replace(b"\xff", b"")
        return Fault.NONE if left or not candidate.ends_with_fin else Fault.RESET

    known = knowing((resets_empty, "fin"))
    path = On(resets_empty, drops_ff)
    left = known.why(candidate("send ff"), Fault.RESET, path)
    assert left == Left(candidate("send ff", fin=False), path(candidate("send ff", fin=False)))
    # It is about empty connections: others keep their FIN.
    assert known.avoided(candidate("send 61")) == candidate("send 61")
    assert str(known.avoided(candidate("fin")).session) == "nothing"


@pytest.mark.parametrize("joined_by", [" then ", " | "])
def test_a_fault_of_every_seventh_connection_is_in_any_session_of_seven(joined_by: str) -> None:
    connections = itertools.count(1)

    def every_seventh(candidate: Candidate) -> Fault:
        numbers = [next(connections) for _ in candidate.conversations]
        return Fault.RESET if any(number % 7 == 0 for number in numbers) else Fault.NONE

    known = Known()
    known.add(Trigger(Fault.RESET, candidate("nothing"), ()), 1 / 7, 0)
    several = candidate(joined_by.join(["send 61"] * 7))
    assert known.why(several, Fault.RESET, On(every_seventh)) == 0
    # One connection fails more often than that: it is another fault.
    assert isinstance(known.why(candidate("send 61"), Fault.RESET, On(needs_any)), Left)


def test_a_masked_failure_hides_nothing() -> None:
    known = Known()
    known.add(trigger(flips_first, "send 00"), 1.0, 0, masked=True)
    session = candidate("send 61*101")
    assert not known.can_show(session)
    # It was run before that was known: what still fails is another one, of the same kind even.
    assert known.why(session, Fault.CORRUPT, On()) == 0
    left = known.why(session, Fault.CORRUPT, On(flips_at_100))
    assert isinstance(left, Left)
    assert left.outcome is not None
    assert left.outcome.kind is Fault.CORRUPT
    assert known.same(trigger(*OFFSET)) is None


def test_conversations_of_a_known_mixture_are_held_apart() -> None:
    known = knowing(MIXED)
    assert str(known.avoided(candidate("send 61 | send 62 63")).session) == "send 62 63"
    path = On(mixes)
    assert known.why(candidate("send 61 | send 62"), Fault.CROSS_TALK, path) == 0
    assert all(one.at_once == 1 for one in path.ran)


def test_a_failure_that_is_not_reported_has_no_number() -> None:
    known = Known()
    known.add(trigger(*FF), 1.0, None)
    assert known.why(candidate("send ff"), Fault.TRUNCATED, On(drops_ff)) is None
