from __future__ import annotations

import html.parser
import shutil
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from echoproto.probe.report.html.page import html_page, write_html
from echoproto.probe.search.result import CampaignResult
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Action, Event, Fault
from tests.probe.sample_result import CORRUPT, HOSTILE, TARGET, sample_result

SAMPLE = sample_result()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(html.parser.HTMLParser):
    """The contents of a page: its tags with their attributes, and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def count(self, tag: str, cls: str = "") -> int:
        return sum(
            name == tag and (not cls or cls in (attributes.get("class") or "").split())
            for name, attributes in self.tags
        )


def test_the_page_shows_the_failures_with_the_wrong_bytes_marked() -> None:
    page = Page(html_page(SAMPLE))
    assert page.count("article", "failure") == 2
    assert "send 00*4097" in page.texts["pre"]
    for text in (SAMPLE.started.isoformat(timespec="seconds"), f"echoproto {version('echoproto')}"):
        assert text in page.texts["dd"]
        assert text in page.texts["p"][0]
    assert CORRUPT.replay in page.texts["pre"]
    assert CORRUPT.example in page.texts["pre"]
    # 00 and 01 in the difference, then 01 in the time line; the same for the other failure.
    assert page.texts["mark"][:3] == ["00", "01", "01"]
    assert "Reproduced in 3 of 30 runs (flaky, 10%); found by fuzz." in page.texts["p"]


def test_the_matrix_has_a_row_for_each_case_and_one_for_the_fuzz_phase() -> None:
    page = Page(html_page(sample_result()))
    assert page.count("td", "case") == 7
    assert page.count("td", "cell") == 7 * len(Fault)
    assert page.count("span", "hit") == 6 + 3
    assert "998" in page.texts["span"]
    assert ("a", {"href": "#failure-2"}) in page.tags


def test_the_plot_is_drawn_and_bounded() -> None:
    result = sample_result()
    page = Page(html_page(result))
    dots = next(a["d"] for tag, a in page.tags if a.get("class") == "dots")
    assert dots is not None
    assert 1000 < dots.count("M") <= 1500
    assert "4000 waits" in page.texts["figcaption"][0]
    one = Page(html_page(replace(result, round_trips=[(0, 0.0)])))
    assert one.count("svg") == 1


def test_everything_from_a_path_or_a_user_is_escaped() -> None:
    result = replace(sample_result(), target=(HOSTILE,), command=HOSTILE, error=None)
    page = Page(html_page(result))
    assert page.count("script") == 0
    assert "\x00" not in html_page(result)
    assert "\x1b" not in html_page(result)
    visible = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    assert visible in page.texts["h1"]
    assert visible in page.texts["summary"]


def test_the_page_needs_nothing_from_outside() -> None:
    page = Page(html_page(sample_result()))
    assert {name for name, _ in page.tags}.isdisjoint({"link", "script", "img", "iframe"})
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]


def test_a_run_that_could_not_test_says_why() -> None:
    page = Page(html_page(CampaignResult(TARGET, Settings(), error="connection refused")))
    assert "Could not test: connection refused" in page.texts["p"]
    assert page.count("table") == page.count("svg") == 0
    clean = replace(sample_result(), failures=[], records=[])
    assert "No failures" in Page(html_page(clean)).texts["p"]
    halted = replace(clean, interrupted=True)
    assert "Interrupted; no failures so far" in Page(html_page(halted)).texts["p"]


def test_a_long_time_line_unfolds() -> None:
    events = tuple(Event(n / 1e3, Action.RECEIVED, None, n, 1, b"\0") for n in range(300))
    outcome = replace(CORRUPT.outcome, timelines=(events,))
    page = Page(html_page(replace(sample_result(), failures=[replace(CORRUPT, outcome=outcome)])))
    assert page.count("ol", "line") == 2
    assert "260 more events" in page.texts["summary"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt install chromium)")
def test_a_real_browser_shows_it(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    file = tmp_path / "report.html"
    write_html(replace(sample_result(), command=HOSTILE), file)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-quic", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=400,4000",
        "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    shown = Page(run.stdout)
    # The script in the titles did not run, and the tree is the one that was written.
    assert shown.texts["title"][0] == f"echoproto: {' '.join(TARGET)}"
    assert shown.count("script") == 0
    assert shown.count("article", "failure") == 2
    assert shown.count("td", "cell") == 7 * len(Fault)
    assert shown.texts["mark"] == Page(file.read_text()).texts["mark"]
