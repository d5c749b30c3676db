"""The HTML report: one self-contained page, for desktop and phone."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from statistics import median

from echoproto.probe.report.html.elements import seconds_text, size_text, tag
from echoproto.probe.report.html.failures import failure_card
from echoproto.probe.report.html.matrix import matrix
from echoproto.probe.report.html.plot import plot
from echoproto.probe.report.json_lines import settings_json
from echoproto.probe.report.summary import (
    counts_text,
    held_text,
    made_by,
    passing_words,
    started_text,
    verdict_line,
    verdicts_text,
)
from echoproto.probe.script.words import plural
from echoproto.probe.search.result import CampaignResult, Phase

__all__ = ["html_page", "write_html"]


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
    """Return the page as text."""
    css = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    title = f"echoproto: {' '.join(result.target)}"
    main = tag("main", _head(result))
    if result.failures:
        main.append(tag("h2", "Failures"))
        main.extend(
            failure_card(number, failure) for number, failure in enumerate(result.failures, 1)
        )
    if result.records or result.counts[Phase.FUZZ]:
        main.append(tag("h2", "Cases and verdicts"))
        main.append(tag("div", tag("div", matrix(result), cls="scroll"), cls="card"))
    if result.round_trips:
        main.append(tag("h2", "Round-trip time by payload size"))
        main.append(tag("div", plot(result.round_trips), cls="card"))
    main.append(tag("h2", "Settings"))
    main.append(tag("div", _settings(result), cls="card"))
    html = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", title),
            tag("style", css),
        ),
        tag("body", main),
        lang="en",
    )
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _head(result: CampaignResult) -> ET.Element:
    line, _ = verdict_line(result)
    state = "untested" if result.error else "faulty" if result.failures else "clean"
    if result.interrupted and not result.failures:
        state = "untested"
    header = tag(
        "header",
        tag("p", f"{made_by()}, {started_text(result)}", cls="soft", id="made"),
        tag("h1", " ".join(result.target)),
        tag("p", line[:1].upper() + line[1:], cls=f"result {state}", id="result"),
        cls="card",
    )
    if result.error is None:
        numbers = tag("div", cls="numbers")
        for value, name in _numbers(result):
            numbers.append(tag("div", tag("b", value), name))
        header.append(numbers)
    if result.command:
        header.append(tag("h3", "Run again"))
        header.append(tag("pre", result.command, id="command"))
    return header


def _numbers(result: CampaignResult) -> Iterable[tuple[str, str]]:
    for count, noun in (
        (sum(result.counts.values()), "conversation"),
        (len(result.failures), "failure"),
    ):
        yield f"{count:,}", plural(count, noun).partition(" ")[2]
    yield f"{result.rate:,.0f}", "conversations/s (fuzz)"
    yield size_text(result.bytes_sent), "sent"
    yield f"{result.seconds:.1f} s", "in all"
    if result.preflight is not None and result.preflight.round_trips:
        yield seconds_text(median(result.preflight.round_trips)), "round trip (median)"


def _settings(result: CampaignResult) -> ET.Element:
    pairs = tag("dl")

    def pair(name: str, value: object) -> None:
        pairs.append(tag("dt", name))
        pairs.append(tag("dd", str(value)))

    pair("target", " ".join(result.target))
    pair("date", started_text(result))
    pair("version", made_by())
    if result.preflight is not None:
        pair("address", result.preflight.address)
        if result.preflight.tls_version:
            pair("TLS", f"{result.preflight.tls_version}, whose half-close is close_notify")
        pair("half-close survives", "yes" if result.preflight.half_close else "no")
        pair("stall timeout", seconds_text(result.preflight.timeout))
    for name, value in settings_json(result.settings).items():
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value)) or "none"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        pair(name.replace("_", " "), "none" if value is None else value)
    pair("counts", counts_text(result))
    pair("verdicts", verdicts_text(result))
    for phase, count in result.counts.items():
        seconds = result.phase_seconds.get(phase)
        pair(
            str(phase),
            plural(count, "run") + (f" in {seconds:.1f} s" if seconds is not None else ""),
        )
    if result.transients:
        pair("failed once, and never again", result.transients)
    if result.delayed:
        pair("delayed", f"{result.delayed}, by {result.longest_delay:.3g} s at most")
    if result.held < result.wanted:
        pair("held", held_text(result))
    if result.passing:
        pair(passing_words(result), ", ".join(result.passing))
    return pairs
