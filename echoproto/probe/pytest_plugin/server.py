"""Our own server, as a process that ends when pytest does, however pytest ends."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator

import pytest

__all__ = ["own_server"]

#: How long our own server may take to listen, in seconds.
START_TIMEOUT = 30

# Ends when its standard input does: pytest holds the other end, and the kernel closes it even if
# pytest is killed. The directory of the tests is no place to import modules from.
_PROGRAM = """
import os, runpy, sys, threading

def end_with_stdin():
    while os.read(0, 1024):
        pass
    os._exit(0)

threading.Thread(target=end_with_stdin, daemon=True).start()
sys.path[:] = [place for place in sys.path if place]
runpy.run_module("twisted", run_name="__main__", alter_sys=True)
"""

#: Starts our own server on a free port. ``twist`` rather than ``twistd``, whose path is not known
#: here and which would write a pid file.
SERVER = (sys.executable, "-c", _PROGRAM, "--log-format=text", "echo", "--port", "0")

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run our own server to the end of the block; yield its address."""
    with subprocess.Popen(
        SERVER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        # The thread reads to the end, so that the server never blocks on a full pipe.
        log: deque[str] = deque(maxlen=5)
        heard = threading.Event()
        found: list[str] = []

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line.strip())
                match = _LISTENING.search(line)
                if match:
                    found.append(match[1])
                    heard.set()
            heard.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            heard.wait(START_TIMEOUT)
            if not found:
                output = " / ".join(log) or "it printed nothing"
                pytest.fail(f"our own echo server did not start: {output}", pytrace=False)
            yield found[0]
        finally:
            process.kill()
            reader.join()
