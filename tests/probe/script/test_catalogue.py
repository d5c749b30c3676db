from __future__ import annotations

import hashlib

from echoproto.probe.script.catalogue import catalogue, sized
from echoproto.probe.script.conversation import Send, Session
from echoproto.probe.script.vocabulary import BOUNDARIES, TOKENS

#: Cases that may take more than a dozen round trips, and why.
LONG = dict.fromkeys(
    ("E-092", "E-157"), "how many connections are open at the same time is the point"
)


def test_every_case_is_different() -> None:
    cases = catalogue()
    assert len(cases) >= 60
    assert [case.number for case in cases] == [f"E-{i:03}" for i in range(1, len(cases) + 1)]
    assert len({case.session for case in cases}) == len(cases)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert case.why.endswith(".")
        assert Session.parse(str(case.session)) == case.session


def test_every_pair_of_bytes_is_there() -> None:
    (pairs,) = [case for case in catalogue() if case.name == "every pair of bytes"]
    payload = pairs.session.conversations[0].payload
    assert len({payload[i : i + 2] for i in range(len(payload) - 1)}) == 65536


def test_how_many_connections() -> None:
    cases = {case.name: case for case in catalogue()}
    assert cases["thirty-two at once"].parallel == 32
    assert cases["tokens first, part 1"].parallel == 1


def test_round_trips() -> None:
    cases = {case.name: case for case in catalogue()}
    assert cases["nothing at all"].round_trips == 2
    assert cases["reset at once"].round_trips == 1
    assert cases["one byte, awaited"].round_trips == 3
    assert cases["marked payloads"].round_trips == 5
    assert cases["a reset, then another"].round_trips == 5


def test_no_case_takes_more_than_a_dozen_round_trips() -> None:
    assert {case.number for case in catalogue() if case.round_trips > 12} == LONG.keys()


def sent(name: str) -> list[bytes]:
    """The payloads of all parts of a series, in order."""
    return [
        step.payload
        for case in catalogue()
        if case.name.startswith(f"{name}, part ")
        for conversation in case.session.conversations
        for step in conversation.steps
        if isinstance(step, Send)
    ]


def test_a_series_is_complete() -> None:
    assert sent("tokens first") == list(TOKENS)
    for name in ("zeros of boundary sizes", "zeros of boundary sizes, alone"):
        assert sent(name) == [bytes(size) for size in BOUNDARIES]
    assert list(map(len, sent("lines of boundary sizes, alone"))) == list(BOUNDARIES)


def test_a_number_keeps_its_meaning() -> None:
    """Fails if a case is changed, moved or removed. New ones at the end are all right."""
    lines = "".join(f"{case.number} {case.session}\n" for case in catalogue()[:152])
    assert hashlib.sha256(lines.encode()).hexdigest() == (
        "ccf627602b3cee2908a604e29f4a4eb125496419b1e59d4c37341952744ce24e"
    )


def test_the_crowd_has_the_size_that_is_asked_for() -> None:
    cases = {case.name: case for case in catalogue()}
    crowd, other = cases["a crowd"], cases["eight at once"]
    assert sized(crowd, None, 64) == crowd
    assert sized(crowd, None, 10).parallel == 10
    assert sized(crowd, 200, 200).parallel == 200
    assert sized(other, 200, 200) == other


def test_it_sends_no_urgent_data() -> None:
    conversations = [c for case in catalogue() for c in case.session.conversations]
    assert not any(conversation.urgent for conversation in conversations)


def test_it_sends_no_more_than_is_needed() -> None:
    sizes = [
        sum(len(conversation.payload) for conversation in case.session.conversations)
        for case in catalogue()
    ]
    # Four cases exceed what a kernel's send buffer holds, and are four fifths of it.
    assert sum(size > 4 * 2**20 for size in sizes) == 4
    assert sum(sorted(sizes)[:-4]) < 8.2e6
