"""A headless Chromium that tests look at pages with, over its debugging pipe.

Messages of the Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol/)
are JSON with a NUL after each; it reads them on descriptor 3 and writes on 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system.server import PATIENCE, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# What it does beside showing the page: nothing.
_QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--disable-default-apps", "--mute-audio", "--remote-debugging-pipe",
]  # fmt: skip


class Page:
    """One tab.

    :ivar requests: the addresses that it has asked for.
    :ivar complaints: what it has written to its console, and exceptions.
    """

    def __init__(self, to_it: int, from_it: int) -> None:
        self._to_it = to_it
        self._from_it = from_it
        self._rest = b""
        self._numbers = 0
        self._loaded = False
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._numbers += 1
        message = {"id": self._numbers, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to_it, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._numbers:
                assert "error" not in told, told
                return told["result"]
            self._note(told)

    def open(self, url: str, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show an address in a window of a size, in CSS pixels."""
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(self._next())

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is worth in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < end, f"never true: {expression}\n{self.text}"
            time.sleep(0.05)

    @property
    def text(self) -> str:
        return str(self.value("document.body.innerText"))

    def screenshot(self, file: Path) -> None:
        """Save the whole page as it looks."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from_it], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            data = os.read(self._from_it, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        told: dict[str, Any] = json.loads(message)
        return told

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Page.loadEventFired":
            self._loaded = True
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params["args"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start a browser with one tab.

    :param profile: a folder for what it keeps.
    """
    assert CHROMIUM is not None
    # High, so that none of them is one of those that it gets.
    reading, to_it = map(_high, os.pipe())
    from_it, writing = map(_high, os.pipe())
    silence = os.open(os.devnull, os.O_RDWR)
    given = {silence: (0, 1, 2), reading: (3,), writing: (4,)}
    pid = os.posix_spawn(
        CHROMIUM,
        [CHROMIUM, *_QUIET, f"--user-data-dir={profile}", "about:blank"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, ours, theirs) for ours in given for theirs in given[ours]
        ],
    )
    for descriptor in given:
        os.close(descriptor)
    try:
        yield Page(to_it, from_it)
    finally:
        # It ends with the pipe.
        os.close(to_it)
        os.close(from_it)
        if not eventually(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0)):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _high(descriptor: int) -> int:
    """Move a descriptor to a high number."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
