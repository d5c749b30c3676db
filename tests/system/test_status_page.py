"""The live page in a real browser, under load: what it shows is what there is."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.system.browser import CHROMIUM, Page, browser
from tests.system.server import Server, eventually, running, say, twistd

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt install chromium)"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def address(server: Server) -> str:
    return "http://{}/".format(server.wait_for(r"status on (\S+)")[1])


def shown(page: Page, name: str) -> float:
    """Return the exact number that an element of the page stands for."""
    return float(page.value(f"document.getElementById('{name}').value"))


def comes_to(page: Page, value: int, name: str) -> None:
    page.wait_until(f"document.getElementById('{name}').value === '{value}'")


class Load:
    """Clients that talk until they are told to stop, and count what they did."""

    def __init__(self, server: Server, clients: int) -> None:
        self._server = server
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.connections = self.bytes = 0
        self._threads = [threading.Thread(target=self._talk) for _ in range(clients)]
        for each in self._threads:
            each.start()

    def _talk(self) -> None:
        payload = os.urandom(5000)
        while not self._stop.is_set():
            with self._server.connect() as client:
                assert say(client, payload) == payload
            with self._lock:
                self.connections += 1
                self.bytes += len(payload)

    def stop(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_numbers_are_right_under_load(page: Page, workers: int) -> None:
    with (
        running(twistd("--status", "0", "--workers", str(workers), "--backlog", "64")) as server,
        ExitStack() as held,
    ):
        server.wait_for_times("listening on", workers)
        # What is left of another test asks no more.
        page.open("about:blank")
        page.complaints.clear()
        page.requests.clear()
        url = address(server)
        page.open(url)
        page.wait_until("document.body.dataset.state === 'serving'")
        clients = []
        for n in range(6):
            client = held.enter_context(socket.socket())
            client.bind((f"127.0.0.{2 + n // 4}", 0))
            client.connect(("127.0.0.1", server.port))
            clients.append(client)
        load = Load(server, 3)
        try:
            # It keeps up by itself: more and more, at a rate, in a curve.
            page.wait_until("+document.getElementById('accepted').value > 6")
            first = shown(page, "accepted")
            page.wait_until(f"+document.getElementById('accepted').value > {first + 50}")
            page.wait_until("+document.getElementById('rate').value > 0")
            page.wait_until("+document.getElementById('bytes-rate').value > 0")
            page.wait_until("document.querySelectorAll('#rate-trend path').length === 2")
            # What it says of the rate, from what it says of the totals.
            assert page.value(
                """(() => {
                    const last = samples.length - 1;
                    const [a, b] = [samples[last - 1], samples[last]];
                    const rate = (b.accepted - a.accepted) / (b.uptime - a.uptime);
                    return Math.abs(rate - document.getElementById('rate').value) < 1e-6;
                })()"""
            )
        finally:
            load.stop()
        comes_to(page, load.connections + 6, "accepted")
        comes_to(page, load.bytes, "echoed")
        comes_to(page, 6, "live")
        comes_to(page, 0, "rate")
        text = page.text
        assert re.search(r"127\.0\.0\.2\s+4\s+127\.0\.0\.3\s+2\b", text), text
        assert len(re.findall(r"127\.0\.0\.1:\d+.*\n?.*\b0 waiting, limit 64", text)) == workers
        assert re.search(rf"workers\s+{workers}\b", text), text
        assert re.search(rf"Closed\s+{load.connections:,}\b", text), text
        assert page.complaints == []
        assert {urlsplit(each).netloc for each in page.requests} == {urlsplit(url).netloc}
        # A drain shows, with what is left; then that the server no longer answers.
        server.signal()
        page.wait_until("document.body.dataset.state === 'draining'")
        page.wait_until("document.getElementById('trouble').textContent.includes('6 conn')")
        for client in clients:
            client.close()
        page.wait_until("document.body.dataset.state === 'silent'")
        assert page.value("document.getElementById('trouble').hidden") is False
        assert server.wait() == -signal.SIGTERM


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells")
def test_a_full_queue_and_a_worker_that_hangs_show(page: Page) -> None:
    command = twistd("--status", "0", "--workers", "2", "--backlog", "4")
    with running(command) as server, ExitStack() as held:
        server.wait_for_times("listening on", 2)
        pids = [int(pid) for pid in re.findall(r"worker \d started, pid (\d+)", server.log)]
        page.open(address(server))
        page.wait_until("document.body.dataset.state === 'serving'")
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            for _ in range(40):
                client = held.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
            page.wait_until("document.querySelectorAll('.queue.full').length === 2")
            assert len(re.findall(r"\b5 waiting, limit 4", page.text)) == 2
            page.wait_until("+document.getElementById('overflows').value > 0")
            red = page.value("getComputedStyle(document.getElementById('overflows')).color")
            assert red == page.value(
                "(() => { const e = document.createElement('p'); e.className = 'bad';"
                " document.body.append(e); return getComputedStyle(e).color; })()"
            )
            page.wait_until("document.body.dataset.state === 'unready'")
            assert page.text.count("does not answer") == 2
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        page.wait_until("document.body.dataset.state === 'serving'")
        page.wait_until("document.querySelectorAll('.queue.full').length === 0")


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(page: Page, dark: bool, tmp_path: Path) -> None:
    with running(twistd("--status", "0")) as server:
        page.open(address(server), width=320, height=700, dark=dark)
        page.wait_until("document.body.dataset.state === 'serving'")
        assert page.value("document.documentElement.scrollWidth") == 320
        brightness = page.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", brightness))) < 3 * 128) is dark
        assert eventually(lambda: "Serving" in page.text)


def test_what_clients_send_is_never_markup(page: Page) -> None:
    """Names come from outside; here straight into what the page is told."""
    with running(twistd("--status", "0")) as server:
        page.open(address(server))
        page.wait_until("document.body.dataset.state === 'serving'")
        hostile = "<img src=x onerror=\"document.title='gone'\">"
        page.value(
            f"""fetchStatus().then((now) => {{
                const bad = {hostile!r};
                now.total.sources = [[bad, 1]];
                now.total.refused = {{ [bad]: 1 }};
                now.settings[bad] = bad;
                now.listeners[0].address = bad;
                now.processes[0].name = bad;
                show(now);
                window.shown = true;
            }}); 0"""
        )
        page.wait_until("window.shown === true")
        assert page.value("document.querySelectorAll('img').length") == 0
        assert page.value("document.title") != "gone"
