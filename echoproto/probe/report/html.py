"""The HTML report: one page that needs nothing else, on a desk and on a phone.

The page is built as a tree and serialised by :mod:`xml.etree.ElementTree`, so that whatever a
target, a message or a path's bytes contain is escaped, wherever it stands.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from statistics import median

from echoproto.probe.report.describe import event_text, hex_rows, one_line, plural, shorten
from echoproto.probe.report.terminal import settings_json, verdict_line
from echoproto.probe.script.conversation import Conversation, format_payload
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.wire.verdict import Action, Event, Fault, Verdict

__all__ = ["html_page", "write_html"]

#: Events of one conversation that are shown at once; the rest unfolds.
EVENTS = 40
#: Rows of the matrix for the failing sessions of the fuzz phase; the rest is counted.
FUZZ_ROWS = 100
#: Points of the plot at most: a page with more is slow on a phone.
POINTS = 1500


def write_html(result: CampaignResult, file: Path) -> None:
    """Write the page.

    Args:
        result: what the campaign found.
        file: to write to.

    Raises:
        OSError: if it cannot be written.
    """
    file.write_text(html_page(result), encoding="utf-8")


def html_page(result: CampaignResult) -> str:
    """The page as text."""
    css = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    title = f"echoproto: {' '.join(result.target)}"
    main = _tag("main", _head(result))
    if result.failures:
        main.append(_tag("h2", "Failures"))
        main.extend(_failure(number, failure) for number, failure in enumerate(result.failures, 1))
    if result.records or result.counts[Phase.FUZZ]:
        main.append(_tag("h2", "Cases and verdicts"))
        main.append(_tag("div", _tag("div", _matrix(result), cls="scroll"), cls="card"))
    if result.round_trips:
        main.append(_tag("h2", "Round-trip time by payload size"))
        main.append(_tag("div", _plot(result.round_trips), cls="card"))
    main.append(_tag("h2", "Settings"))
    main.append(_tag("div", _settings(result), cls="card"))
    html = _tag(
        "html",
        _tag(
            "head",
            _tag("meta", charset="utf-8"),
            _tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            _tag("title", title),
            _tag("style", css),
        ),
        _tag("body", main),
        lang="en",
    )
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _tag(
    tag: str, /, *children: ET.Element | str | None, cls: str = "", **attributes: str
) -> ET.Element:
    """An element with its children; None among them is left out."""
    element = ET.Element(tag, {key: one_line(value) for key, value in attributes.items()})
    if cls:
        element.set("class", cls)
    last: ET.Element | None = None
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
            last = child
        elif child is not None:
            text = child if tag == "style" else one_line(child)
            if last is None:
                element.text = (element.text or "") + text
            else:
                last.tail = (last.tail or "") + text
    return element


# ------------------------------------------------------------------------- head


def _head(result: CampaignResult) -> ET.Element:
    line, _ = verdict_line(result)
    if result.error is not None:
        line = f"Could not test: {result.error}"
    state = "untested" if result.error else "faulty" if result.failures else "clean"
    if result.interrupted and not result.failures:
        state = "untested"
    header = _tag(
        "header",
        _tag("p", "echoproto fuzz", cls="soft"),
        _tag("h1", " ".join(result.target)),
        _tag("p", line[:1].upper() + line[1:], cls=f"result {state}", id="result"),
        cls="card",
    )
    if result.error is None:
        numbers = _tag("div", cls="numbers")
        for value, name in _numbers(result):
            numbers.append(_tag("div", _tag("b", value), name))
        header.append(numbers)
    if result.command:
        header.append(_tag("h3", "Run it again"))
        header.append(_tag("pre", result.command, id="command"))
    return header


def _numbers(result: CampaignResult) -> Iterable[tuple[str, str]]:
    yield f"{sum(result.counts.values()):,}", "conversations"
    yield str(len(result.failures)), "failure" if len(result.failures) == 1 else "failures"
    yield f"{result.rate:,.0f}", "conversations/s"
    yield _bytes(result.bytes_sent), "sent"
    yield f"{result.seconds:.1f} s", "in all"
    if result.preflight is not None and result.preflight.round_trips:
        yield _seconds(median(result.preflight.round_trips)), "round trip (median)"


# --------------------------------------------------------------------- failures


def _failure(number: int, failure: Failure) -> ET.Element:
    card = _tag(
        "article",
        _tag(
            "p",
            _badge(failure.kind),
            f" {number}. ",
            _tag("strong", failure.outcome.verdict.message),
        ),
        _tag("h3", "Shortest conversation"),
        _tag("pre", str(failure.session), cls="script"),
        _tag("p", _reproduced(failure), cls="soft"),
        cls=f"card failure kind-{failure.kind}",
        id=f"failure-{number}",
    )
    rows = _hex_table(failure.outcome.verdict)
    if rows is not None:
        card.append(_tag("h3", "First difference"))
        card.append(_tag("div", rows, cls="scroll"))
    card.append(_tag("h3", "Time line"))
    conversations = failure.session.conversations
    for index, conversation in enumerate(conversations):
        verdict, events = failure.outcome.verdicts[index], failure.outcome.timelines[index]
        if len(conversations) > 1:
            heading = f"Conversation {index + 1} of {len(conversations)}: "
            script = _tag("code", shorten(str(conversation)))
            card.append(_tag("p", heading, script, " ", _badge(verdict.kind)))
        card.extend(_time_line(events, conversation))
    card.append(_tag("h3", "Say it again"))
    card.append(_tag("pre", failure.replay, cls="replay"))
    card.append(_tag("h3", "Pin it in a test"))
    card.append(_tag("pre", failure.example))
    return card


def _reproduced(failure: Failure) -> str:
    text = f"Reproduced {failure.reproduced} of {failure.runs}"
    if failure.flaky:
        text += f" (flaky, {failure.reproduced / failure.runs:.0%})"
    text += f"; found by {failure.found_by}"
    if failure.found != failure.session:
        text += f", shrunk in {plural(failure.shrink_runs, 'run')}, {failure.seconds:.2f} s"
    return text + (f"; saved as {failure.id}." if failure.id else ".")


def _hex_table(verdict: Verdict) -> ET.Element | None:
    rows = hex_rows(verdict)
    if not rows:
        return None
    table = _tag("table", cls="hex")
    for row in rows:
        for name in ("sent", "received"):
            line = _tag("tr", _tag("th", name, scope="row"), _tag("th", f"{row.offset:08x}"))
            line.extend(_tag("td") for _ in range(row.offset % 16))
            for cell in row.cells:
                text = cell.sent if name == "sent" else cell.received
                line.append(_tag("td", _tag("mark", text) if cell.differs else text))
            table.append(line)
    return table


def _time_line(events: Sequence[Event], conversation: Conversation) -> Iterable[ET.Element]:
    payload = conversation.payload
    items = [_event(event, conversation, payload) for event in events]
    yield _tag("ol", *items[:EVENTS], cls="line")
    if len(items) > EVENTS:
        more = _tag("summary", f"{plural(len(items) - EVENTS, 'event')} more")
        yield _tag("details", more, _tag("ol", *items[EVENTS:], cls="line"))


def _event(event: Event, conversation: Conversation, payload: bytes) -> ET.Element:
    moment = _tag("time", f"{event.at * 1000:.1f} ms")
    if event.action is Action.RECEIVED:
        size = f"received {plural(event.size, 'byte')} from {event.offset}"
        shown = _marked(event, payload[event.offset : event.offset + len(event.data)])
        wrong = shown.find("mark") is not None
        return _tag("li", moment, size, shown, cls="in bad" if wrong else "in")
    text = event_text(event, conversation)
    if event.action is Action.SENT:
        words, _, data = text.partition(": ")
        return _tag("li", moment, words, _tag("code", data, cls="bytes"), cls="out")
    bad = event.action in (Action.TIMED_OUT, Action.GOT_RESET)
    return _tag("li", moment, text, cls="bad" if bad else "")


def _marked(event: Event, expected: bytes) -> ET.Element:
    """The bytes received, with those that are not what was sent there marked."""
    code = _tag("code", cls="bytes")
    parts: list[ET.Element | str] = []

    def differs(at: int) -> bool:
        return at >= len(expected) or event.data[at] != expected[at]

    for wrong, places in groupby(range(len(event.data)), differs):
        run = list(places)
        text = format_payload(event.data[run[0] : run[-1] + 1])
        if parts:
            parts.append(" ")
        parts.append(_tag("mark", text) if wrong else text)
    if event.size > len(event.data):
        parts.append(" ...")
    return _tag("code", *parts, cls="bytes") if parts else code


# ----------------------------------------------------------------------- matrix


def _matrix(result: CampaignResult) -> ET.Element:
    head = _tag("tr", _tag("th", "case"))
    head.extend(
        _tag("th", _tag("span", str(kind)), cls="kind", scope="col", title=str(kind))
        for kind in Fault
    )
    head.append(_tag("th", "conversation"))
    body = _tag("tbody")
    listed = [r for r in result.records if r.phase in (Phase.SAVED, Phase.CATALOGUE)]
    fuzzed = [r for r in result.records if r.phase is Phase.FUZZ and r.kind is not Fault.NONE]
    body.extend(_record_row(record, result) for record in listed)
    if result.counts[Phase.FUZZ]:
        body.append(_fuzz_row(result.counts[Phase.FUZZ], fuzzed))
    body.extend(_record_row(record, result) for record in fuzzed[:FUZZ_ROWS])
    return _tag("table", _tag("thead", head), body, cls="matrix", id="matrix")


def _record_row(record: CaseRecord, result: CampaignResult) -> ET.Element:
    row = _tag("tr", cls="passed" if record.kind is Fault.NONE else "failed")
    row.append(_tag("th", record.name, scope="row", cls="number"))
    marks = {record.kind: "\N{CHECK MARK}" if record.kind is Fault.NONE else "\N{BALLOT X}"}
    row.extend(_cells(marks))
    script = _tag("code", shorten(record.script, 160))
    case = _tag("td", cls="case")
    case.append(_tag("details", _tag("summary", record.title), script) if record.title else script)
    if record.kind is not Fault.NONE:
        message = _tag("div", f"{record.message} ")
        if record.explained_by is not None:
            number = record.explained_by + 1
            message.append(_tag("a", f"failure {number}", href=f"#failure-{number}"))
        case.append(message)
    row.append(case)
    return row


def _fuzz_row(count: int, failing: Sequence[CaseRecord]) -> ET.Element:
    counts = Counter(record.kind for record in failing)
    counts[Fault.NONE] = count - len(failing)
    row = _tag("tr", _tag("th", "fuzz", scope="row", cls="number"), id="fuzz")
    row.extend(_cells({kind: f"{count}" for kind, count in counts.items() if count}))
    row.append(_tag("td", f"{plural(count, 'conversation')} drawn", cls="case"))
    return row


def _cells(marks: dict[Fault, str]) -> Iterable[ET.Element]:
    for kind in Fault:
        if kind in marks:
            mark = _tag("span", marks[kind], cls="hit", title=str(kind))
        else:
            mark = _tag("span", cls="none")
        yield _tag("td", mark, cls=f"cell kind-{kind}")


# ------------------------------------------------------------------------- plot

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 340, 70, 14, 36, 48


def _plot(round_trips: Sequence[tuple[int, float]]) -> ET.Element:
    """Time against size, both logarithmic: a dot for each wait, a line through the medians."""
    points = [(max(size, 1), max(time, 1e-6)) for size, time in round_trips]
    low_x, high_x = _decades(size for size, _ in points)
    low_y, high_y = _decades(time for _, time in points)

    def x(size: float) -> float:
        span = (WIDTH - LEFT - RIGHT) / (high_x - low_x)
        return LEFT + (math.log10(size) - low_x) * span

    def y(time: float) -> float:
        span = (HEIGHT - TOP - BOTTOM) / (high_y - low_y)
        return HEIGHT - BOTTOM - (math.log10(time) - low_y) * span

    svg = _tag("svg", role="img", viewBox=f"0 0 {WIDTH} {HEIGHT}")
    svg.append(_tag("title", "Round-trip time against payload size"))
    for decade in range(low_x, high_x + 1):
        at = x(10**decade)
        svg.append(_tag("path", cls="grid", d=f"M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"))
        svg.append(_text(_bytes(10**decade), at, HEIGHT - BOTTOM + 20, "middle"))
    for decade in range(low_y, high_y + 1):
        at = y(10**decade)
        svg.append(_tag("path", cls="grid", d=f"M{LEFT} {at:.1f}H{WIDTH - RIGHT}"))
        svg.append(_text(_seconds(10.0**decade), LEFT - 8, at + 4, "end"))
    svg.append(_text("payload", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"))
    shown = points[:: max(1, math.ceil(len(points) / POINTS))]
    dots = "".join(f"M{x(size):.1f} {y(time):.1f}h0" for size, time in shown)
    svg.append(_tag("path", cls="dots", d=dots))
    line = " ".join(f"{x(size):.1f},{y(time):.1f}" for size, time in _medians(points))
    svg.append(_tag("polyline", cls="median", points=line))
    slowest = max(points, key=lambda point: point[1])
    caption = (
        f"{plural(len(points), 'wait')} that came back whole; the line joins the medians. "
        f"Slowest: {_seconds(slowest[1])} for {_bytes(slowest[0])}."
    )
    return _tag("figure", _tag("div", svg, cls="scroll"), _tag("figcaption", caption))


def _decades(values: Iterable[float]) -> tuple[int, int]:
    """The powers of ten around all values, at least one decade apart."""
    logs = [math.log10(value) for value in values]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return low, max(high, low + 1)


def _medians(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Median size and time of each third of a decade that has any point."""
    thirds: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for size, time in points:
        thirds[math.floor(math.log10(size) * 3)].append((size, time))
    return [
        (median(size for size, _ in third), median(time for _, time in third))
        for _, third in sorted(thirds.items())
    ]


def _text(text: str, x: float, y: float, anchor: str) -> ET.Element:
    return _tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **{"text-anchor": anchor})


# --------------------------------------------------------------------- settings


def _settings(result: CampaignResult) -> ET.Element:
    pairs = _tag("dl")

    def pair(name: str, value: object) -> None:
        pairs.append(_tag("dt", name))
        pairs.append(_tag("dd", str(value)))

    pair("target", " ".join(result.target))
    if result.preflight is not None:
        pair("address", result.preflight.address)
        if result.preflight.tls_version:
            pair("TLS", f"{result.preflight.tls_version}, whose half-close is close_notify")
        pair("half-close survives", "yes" if result.preflight.half_close else "no")
        pair("stall timeout", _seconds(result.preflight.timeout))
    for name, value in settings_json(result.settings).items():
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value)) or "none"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        pair(name.replace("_", " "), "none" if value is None else value)
    for phase, count in result.counts.items():
        seconds = result.phase_seconds.get(phase)
        pair(str(phase), f"{count} held" + (f" in {seconds:.1f} s" if seconds is not None else ""))
    if result.transients:
        pair("pauses that did not come again", result.transients)
    if result.passing:
        pair("saved failures that pass now", ", ".join(result.passing))
    return pairs


# ------------------------------------------------------------------------ words


def _badge(kind: Fault) -> ET.Element:
    return _tag("span", str(kind), cls=f"badge kind-{kind}")


def _bytes(count: float) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} \N{MICRO SIGN}s"
