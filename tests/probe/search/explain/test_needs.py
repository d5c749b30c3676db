"""Which steps a fault needs, on paths without a network that look at the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from echoproto.probe.report.explanation import to_json
from echoproto.probe.script.conversation import (
    Await,
    Hold,
    Pause,
    Reset,
    Send,
    Session,
    SlowRead,
    Step,
)
from echoproto.probe.search.explain.explain import explain
from echoproto.probe.wire.verdict import Fault
from tests.probe.search.explain.simulated import failing


def any_step(session: Session, fits: Callable[[Step], bool]) -> bool:
    return any(fits(step) for conversation in session.conversations for step in conversation.steps)


def at_fin(session: Session) -> Fault | None:
    """Loses all that a FIN follows, written or not."""
    steps = session.conversations[-1].steps
    sends = any(isinstance(step, Send) for step in steps)
    return Fault.TRUNCATED if sends and not isinstance(steps[-1], Reset) else None


def idle(session: Session) -> Fault | None:
    long = any_step(session, lambda step: isinstance(step, Pause) and step.ms >= 50)
    return Fault.RESET if long else None


def held(session: Session) -> Fault | None:
    long = any_step(session, lambda step: isinstance(step, Hold) and step.ms >= 150)
    return Fault.RESET if long else None


def slow(session: Session) -> Fault | None:
    return Fault.STALLED if any_step(session, lambda step: isinstance(step, SlowRead)) else None


def slow_at_fin(session: Session) -> Fault | None:
    """Loses at a FIN what the client has not read."""
    return at_fin(session) if slow(session) else None


def one_answer(session: Session) -> Fault | None:
    """Closes at the first bytes that come after an answer."""
    steps = session.conversations[-1].steps
    places = [place for place, step in enumerate(steps) if isinstance(step, Await)]
    later = places and any(isinstance(step, Send) for step in steps[places[0] :])
    return Fault.TRUNCATED if later else None


def five_at_once(session: Session) -> Fault | None:
    many = len(session.conversations) > 5 and not session.sequential
    return Fault.REFUSED if many else None


def after_a_reset(session: Session) -> Fault | None:
    """Resets what is open beside, or comes after, a reset."""
    before = session.conversations[:-1]
    gone = any(isinstance(step, Reset) for c in before for step in c.steps)
    return Fault.RESET if gone else None


@pytest.mark.parametrize(
    ("script", "rule", "expected"),
    [
        ("send 00; fin", at_fin, {"effect": "truncated", "needs": ["fin"]}),
        ("pause 55; send 00", idle,
         {"effect": "reset", "needs": ["pause"], "pause_ms": 50}),
        ("hold 170; send 00*1000", held, {"effect": "reset", "needs": ["hold"], "hold_ms": 150}),
        ("slow 1000; send 00*5000", slow, {"effect": "withheld", "needs": ["slow-reader"]}),
        ("slow 1000; send 00*5000; fin", slow_at_fin,
         {"effect": "truncated", "needs": ["fin", "slow-reader"],
          "text": "closes before all bytes are back, with 5000 bytes or more in flight, "
                  "when the client sends FIN and reads slowly"}),
        ("send 00; await; send 00", one_answer,
         {"effect": "truncated", "needs": ["await", "several-writes"]}),
        (" | ".join(["send 00"] * 6), five_at_once,
         {"effect": "refused", "needs": ["several-connections"], "connections": 6}),
        ("reset then nothing", after_a_reset,
         {"effect": "reset", "needs": ["reset", "several-connections"]}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_a_fault_needs(
    script: str, rule: Callable[[Session], Fault | None], expected: dict[str, Any]
) -> None:
    explanation = explain(Session.parse(script), failing(rule), (10, 10))
    said = {} if explanation is None else to_json(explanation)
    assert {name: said.get(name) for name in expected} == expected
    assert "bytes" not in said
