"""Describes the outcome of a session in plain lines.

The terminal, the JUnit file and the assertion of the pytest plugin use these lines. Nothing here
needs more than the standard library.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from echoproto.probe.script.conversation import Conversation, Urgent
from echoproto.probe.script.payload import format_payload
from echoproto.probe.script.words import plural, shorten
from echoproto.probe.wire.verdict import Action, Event, Fault, Outcome, Verdict

__all__ = [
    "HexCell",
    "HexRow",
    "away_text",
    "describe",
    "difference",
    "event_text",
    "hex_rows",
    "one_line",
    "time_line",
]

# What is shown with the step that it begins.
_WITH_STEP = (Action.PAUSED, Action.SLOWED, Action.HELD)

# So many equal conversations in a row are not all listed.
_FOLDED = 3

ROW = 16
MISSING = "--"


def away_text(seconds: float) -> str:
    """Return what became of the path after a failure; empty if it works on.

    Args:
        seconds: how long nothing worked, at most.
    """
    if not seconds:
        return ""
    return f"; after it the path was away for up to {seconds:.1f} s, then it worked again"


class HexCell(NamedTuple):
    """One byte of both directions: two hex digits, or ``--`` where there is none."""

    sent: str
    received: str

    @property
    def differs(self) -> bool:
        """Whether the two are different."""
        return self.sent != self.received


class HexRow(NamedTuple):
    """Up to 16 bytes of both directions, side by side.

    Attributes:
        offset: of the first byte, in its direction.
        cells: the bytes.
    """

    offset: int
    cells: tuple[HexCell, ...]


def hex_rows(verdict: Verdict, limit: int = 3) -> list[HexRow]:
    """Return the rows around the first difference of ``verdict``; none if nothing differs.

    Args:
        verdict: of one conversation.
        limit: the maximum number of rows. The first one is the row before the difference, if
            there is one.
    """
    if verdict.offset is None:
        return []
    start = max(verdict.context, verdict.offset - verdict.offset % ROW - ROW)
    end = verdict.context + max(len(verdict.expected), len(verdict.got))
    rows: list[HexRow] = []
    while start < end and len(rows) < limit:
        # Rows begin at multiples of 16, as in hexdump(1), except the first.
        stop = min(end, start - start % ROW + ROW)
        rows.append(HexRow(start, tuple(_cell(verdict, at) for at in range(start, stop))))
        start = stop
    return rows


def difference(verdict: Verdict) -> list[str]:
    """Return the lines that show and mark where sent and received differ; none if they do not."""
    lines = []
    for row in hex_rows(verdict):
        # A short first row is indented, so that its bytes are in their columns.
        indent = " " * (3 * (row.offset % ROW))
        sent = " ".join(cell.sent for cell in row.cells)
        received = " ".join(cell.received for cell in row.cells)
        marks = " ".join("^^" if cell.differs else "  " for cell in row.cells).rstrip()
        lines.append(f"sent      {row.offset:08x}  {indent}{sent}")
        lines.append(f"received  {row.offset:08x}  {indent}{received}")
        if marks:
            lines.append(f"{'':18}  {indent}{marks}")
    return lines


def event_text(event: Event, conversation: Conversation) -> str:
    """Return one event in words: ``sent 4097 bytes: 00*4097``."""
    if event.action in (Action.SENT, Action.RECEIVED):
        more = " ..." if event.size > len(event.data) else ""
        data = format_payload(event.data) + more
        step = None if event.step is None else conversation.steps[event.step]
        payload = getattr(step, "payload", b"")
        if event.action is Action.SENT and event.size == len(payload):
            # The step has the complete payload, the event only its beginning.
            data = format_payload(payload)
        where = f" from {event.offset}" if event.offset else ""
        noun = "urgent byte" if isinstance(step, Urgent) else "byte"
        return f"{event.action} {plural(event.size, noun)}{where}: {shorten(data)}"
    if event.step is not None and event.action in _WITH_STEP:
        return f"{event.action}: {conversation.steps[event.step]}"
    return str(event.action)


def time_line(outcome: Outcome, limit: int = 24) -> list[str]:
    """Return what happened and when, for each conversation of the session.

    Of several equal conversations in a row that ended alike, only the first is listed. The one
    that shows the verdict is always listed.

    Args:
        outcome: of the session.
        limit: the maximum number of events of each conversation; the others are counted.
    """
    lines: list[str] = []
    conversations, verdicts = outcome.session.conversations, outcome.verdicts
    total = len(conversations)

    def alike(index: int) -> tuple[Conversation, Fault, bool]:
        return conversations[index], verdicts[index].kind, index == outcome.index

    for (conversation, kind, _), group in itertools.groupby(range(total), alike):
        same = list(group)
        listed = same if len(same) < _FOLDED else same[:1]
        for index in listed:
            if total > 1:
                name = f"conversation {index + 1} of {total}"
                lines.append(f"{name}: {shorten(str(conversation))} ({kind})")
            lines.extend(_events(outcome.timelines[index], conversation, limit))
        if len(listed) < len(same):
            lines.append(f"conversations {same[1] + 1} to {same[-1] + 1}: the same ({kind})")
    return lines


def describe(outcome: Outcome) -> list[str]:
    """Return everything on a failed session: the sentence, the time line, the difference."""
    verdict = outcome.verdict
    lines = [f"{verdict.kind}: {one_line(verdict.message)}"]
    lines += [f"  {line}" for line in time_line(outcome)]
    shown = difference(verdict)
    if shown:
        lines += ["", *(f"  {line}" for line in shown)]
    return lines


def one_line(text: str) -> str:
    """Return ``text`` without control characters, for one line of a terminal, and for XML."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _cell(verdict: Verdict, at: int) -> HexCell:
    sent, received = (
        f"{side[at - verdict.context]:02x}" if at - verdict.context < len(side) else MISSING
        for side in (verdict.expected, verdict.got)
    )
    return HexCell(sent, received)


def _events(events: tuple[Event, ...], conversation: Conversation, limit: int) -> Iterator[str]:
    head = events if len(events) <= limit else events[: limit - limit // 3]
    tail = () if len(events) <= limit else events[-(limit // 3) :]
    for event in head:
        yield f"{event.at * 1000:9.1f} ms  {event_text(event, conversation)}"
    if tail:
        yield f"{'':12}  ... {plural(len(events) - limit, 'more event')}"
    for event in tail:
        yield f"{event.at * 1000:9.1f} ms  {event_text(event, conversation)}"
