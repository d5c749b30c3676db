"""The card of each failure: the shortest conversation, the difference, the time line."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from itertools import groupby

from echoproto.probe.report.describe import event_text, hex_rows
from echoproto.probe.report.html.elements import badge, tag
from echoproto.probe.report.html.explanation import explanation_part
from echoproto.probe.report.summary import repeated_text
from echoproto.probe.script.conversation import Conversation
from echoproto.probe.script.payload import format_payload
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.search.result import Failure
from echoproto.probe.wire.verdict import Action, Event, Verdict

__all__ = ["failure_card"]

#: Events of one conversation that are shown at once; the others unfold.
EVENTS = 40


def failure_card(number: int, failure: Failure) -> ET.Element:
    """Return the card of one failure.

    Args:
        number: from 1; its id is ``failure-NUMBER``.
        failure: what was found.
    """
    card = tag(
        "article",
        tag(
            "p",
            badge(failure.kind),
            f" {number}. ",
            tag("strong", failure.outcome.verdict.message),
        ),
        tag("h3", "Shortest conversation"),
        tag("pre", str(failure.session), cls="script"),
        tag("p", _reproduced(failure), cls="soft"),
        cls=f"card failure kind-{failure.kind}",
        id=f"failure-{number}",
    )
    if failure.explanation is not None:
        card.extend(explanation_part(failure.explanation))
    elif failure.not_explained:
        card.append(tag("p", f"{failure.not_explained.capitalize()}.", cls="soft"))
    rows = _hex_table(failure.outcome.verdict)
    if rows is not None:
        card.append(tag("h3", "First difference"))
        card.append(tag("div", rows, cls="scroll"))
    card.append(tag("h3", "Time line"))
    conversations = failure.session.conversations
    for index, conversation in enumerate(conversations):
        verdict, events = failure.outcome.verdicts[index], failure.outcome.timelines[index]
        if len(conversations) > 1:
            heading = f"Conversation {index + 1} of {len(conversations)}: "
            script = tag("code", shorten(str(conversation)))
            card.append(tag("p", heading, script, " ", badge(verdict.kind)))
        card.extend(_time_line(events, conversation))
    card.append(tag("h3", "Replay"))
    card.append(tag("pre", failure.replay, cls="replay"))
    card.append(tag("h3", "Pin in a test"))
    card.append(tag("pre", failure.example))
    return card


def _reproduced(failure: Failure) -> str:
    text = repeated_text(failure)
    text = text[:1].upper() + text[1:]
    text += f"; found by {failure.found_by}"
    if failure.found != failure.session:
        text += f", shrunk in {plural(failure.shrink_runs, 'run')}, {failure.seconds:.2f} s"
    return text + (f"; saved as {failure.id}." if failure.id else ".")


def _hex_table(verdict: Verdict) -> ET.Element | None:
    rows = hex_rows(verdict)
    if not rows:
        return None
    table = tag("table", cls="hex")
    for row in rows:
        for name in ("sent", "received"):
            line = tag("tr", tag("th", name, scope="row"), tag("th", f"{row.offset:08x}"))
            line.extend(tag("td") for _ in range(row.offset % 16))
            for cell in row.cells:
                text = cell.sent if name == "sent" else cell.received
                line.append(tag("td", tag("mark", text) if cell.differs else text))
            table.append(line)
    return table


def _time_line(events: Sequence[Event], conversation: Conversation) -> Iterable[ET.Element]:
    payload = conversation.payload
    items = [_event(event, conversation, payload) for event in events]
    yield tag("ol", *items[:EVENTS], cls="line")
    if len(items) > EVENTS:
        more = tag("summary", plural(len(items) - EVENTS, "more event"))
        yield tag("details", more, tag("ol", *items[EVENTS:], cls="line"))


def _event(event: Event, conversation: Conversation, payload: bytes) -> ET.Element:
    moment = tag("time", f"{event.at * 1000:.1f} ms")
    if event.action is Action.RECEIVED:
        size = f"received {plural(event.size, 'byte')} from {event.offset}"
        shown = _marked(event, payload[event.offset : event.offset + len(event.data)])
        wrong = shown.find("mark") is not None
        return tag("li", moment, size, shown, cls="in bad" if wrong else "in")
    text = event_text(event, conversation)
    if event.action is Action.SENT:
        words, _, data = text.partition(": ")
        return tag("li", moment, words, tag("code", data, cls="bytes"), cls="out")
    bad = event.action in (Action.TIMED_OUT, Action.GOT_RESET)
    return tag("li", moment, text, cls="bad" if bad else "")


def _marked(event: Event, expected: bytes) -> ET.Element:
    """Return the bytes received, with those that differ from what was sent marked."""
    code = tag("code", cls="bytes")
    parts: list[ET.Element | str] = []

    def differs(at: int) -> bool:
        return at >= len(expected) or event.data[at] != expected[at]

    for wrong, places in groupby(range(len(event.data)), differs):
        run = list(places)
        text = format_payload(event.data[run[0] : run[-1] + 1])
        if parts:
            parts.append(" ")
        parts.append(tag("mark", text) if wrong else text)
    if event.size > len(event.data):
        parts.append(" ...")
    return tag("code", *parts, cls="bytes") if parts else code
