from __future__ import annotations

from echoproto.probe.wire.timeline import MAX_EVENTS, PREVIEW, Timeline
from echoproto.probe.wire.verdict import Action, Event


def test_events_count_from_the_beginning_of_the_session() -> None:
    timeline = Timeline(10.0)
    timeline.add(Action.RECEIVED, 10.5, None, 3, 100, bytes(100))
    assert timeline.events() == (Event(0.5, Action.RECEIVED, None, 3, 100, bytes(PREVIEW)),)


def test_a_long_time_line_keeps_its_beginning_and_its_last_event() -> None:
    timeline = Timeline(0.0)
    for now in range(MAX_EVENTS + 100):
        timeline.add(Action.AWAITED, float(now))
    timeline.add(Action.CLOSED, 9999.0, last=True)
    events = timeline.events()
    assert len(events) == MAX_EVENTS + 1
    assert events[-1] == Event(9999.0, Action.CLOSED)
