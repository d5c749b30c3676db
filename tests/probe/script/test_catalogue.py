from __future__ import annotations

from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import Session


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
    assert cases["every token first"].parallel == 1
