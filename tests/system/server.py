"""Starts real server processes, and observes them from outside."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Generous: it bounds a hang and measures nothing.
PATIENCE = 30.0

BIN = Path(sys.executable).parent
LISTENING = re.compile(r"listening on (?P<host>\S+):(?P<port>\d+);")


class Server:
    """A server process whose log is collected line by line."""

    def __init__(self, command: Sequence[str], **popen: object) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            **popen,  # type: ignore[call-overload]
        )
        self.pid: int = self.process.pid
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def log(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    def wait_for(self, pattern: str | re.Pattern[str], timeout: float = PATIENCE) -> re.Match[str]:
        """Return the first match of a pattern in the log, as soon as it is there."""
        with self._news:
            self._news.wait_for(
                lambda: re.search(pattern, "\n".join(self.lines)) or self._ended, timeout
            )
        found = re.search(pattern, self.log)
        assert found, f"no {pattern!r} in the log:\n{self.log}"
        return found

    def wait_for_times(self, text: str, times: int, timeout: float = PATIENCE) -> None:
        """Wait until the log contains a text this many times."""
        with self._news:
            self._news.wait_for(
                lambda: "\n".join(self.lines).count(text) >= times or self._ended, timeout
            )
        assert self.log.count(text) >= times, self.log

    @property
    def port(self) -> int:
        return int(self.wait_for(LISTENING)["port"])

    def connect(
        self, host: str = "127.0.0.1", timeout: float = PATIENCE, port: int | None = None
    ) -> socket.socket:
        where = (host, self.port if port is None else port)
        return socket.create_connection(where, timeout=timeout)

    def ready(self) -> Server:
        """Wait until the reactor runs: it listens before it handles signals."""
        with self.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        return self

    def signal(self, signum: int = signal.SIGTERM) -> None:
        self.process.send_signal(signum)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and for the whole log; return the exit code."""
        code: int = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        self.process.stdout.close()

    def rss(self) -> int:
        """Resident memory, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_ticks(self) -> int:
        """User and system time used so far, in clock ticks."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


def twistd(*arguments: str, reactor: str | None = None, port: int | None = 0) -> list[str]:
    """The command line of a server in the foreground, on a free port unless told otherwise."""
    chosen = [] if reactor is None else [f"--reactor={reactor}"]
    says_where = port is None or any(a.startswith(("--port", "-p")) for a in arguments)
    where = [] if says_where else ["--port", str(port)]
    return [str(BIN / "twistd"), "-n", "--pidfile=", *chosen, "echo", *where, *arguments]


# A program that splices the bytes of plain echoes from the first one on, and prints at its end
# how many it spliced, and how many of those the kernel did not take back at once.
_SPLICED = """\
from collections import Counter
from echoproto.net import epoll_lane, splice, transports

transports.SPLICE_FROM, transports.MIN_SPLICE = transports.MIN_READ, 1

class CountingPipe(splice.SplicePipe):
    counted = Counter()

    def echo(self, fd, size):
        taken, rest = super().echo(fd, transports.MAX_READ)
        self.counted.update(spliced=taken, rest=len(rest))
        return taken, rest

    def close(self):
        super().close()
        print("spliced {spliced}, rest {rest}".format_map(self.counted), flush=True)

epoll_lane.SplicePipe = CountingPipe
from twisted.scripts.twistd import run
run()
"""


def twistd_in(lane: str, *arguments: str, reactor: str | None = None) -> list[str]:
    """The command line of a server in a lane, or in the fast one with all bytes ``spliced``."""
    if lane != "spliced":
        return twistd("--lane", lane, *arguments, reactor=reactor)
    return [sys.executable, "-c", _SPLICED, *twistd(*arguments, reactor=reactor)[1:]]


@contextmanager
def running(command: Sequence[str], **popen: object) -> Iterator[Server]:
    server = Server(command, **popen)
    try:
        yield server
    finally:
        server.stop()


def eventually(condition: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """Poll until a condition holds, where no event can be awaited; return whether it does."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def receive_all(sock: socket.socket) -> bytes:
    """Read to the end of input."""
    chunks = []
    while chunk := sock.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Read this many bytes, or fewer if the end of input comes first."""
    received = b""
    while len(received) < size and (chunk := sock.recv(size - len(received))):
        received += chunk
    return received


def say(sock: socket.socket, payload: bytes) -> bytes:
    """Send a payload and our FIN at once, and return what comes back."""
    sender = threading.Thread(target=_send_and_close, args=(sock, payload))
    sender.start()
    try:
        return receive_all(sock)
    finally:
        sender.join()


def _send_and_close(sock: socket.socket, payload: bytes) -> None:
    try:
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the reader sees what was lost


def fill(client: socket.socket, payload: bytes = bytes(1 << 26)) -> int:
    """Send without reading until the path is full; return the bytes sent."""
    client.setblocking(False)
    sent = 0
    try:
        while sent < len(payload):
            sent += client.send(payload[sent : sent + 65536])
    except BlockingIOError:
        pass
    client.settimeout(PATIENCE)
    return sent
