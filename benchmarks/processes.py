"""Server processes: starts them, finds the port, reads CPU time and memory. Linux only."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")

#: The line that every server prints when it listens; socat adds the address family.
LISTENING = re.compile(r"listening on (?:AF=2 )?127\.0\.0\.1:(\d+)", re.IGNORECASE)


class ServerError(Exception):
    """A server did not start or did not become idle; the message has its output."""


@dataclass(frozen=True)
class Cores:
    """The cores for the server and for the load generator; None if there is only one core."""

    server: int | None
    load: int | None

    @classmethod
    def allowed(cls) -> "Cores":
        """Choose from the cores that this process may use.

        The load generator gets the first, the server the last: interrupts tend to be handled on
        the first core.
        """
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[-1], cores[0]) if len(cores) > 1 else cls(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run the block on `core`. Processes started in it stay on that core with all their threads."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Usage:
    """
    What a process and its descendants have used since they started.

    Attributes:
        cpu: seconds on a core, exact to the nanosecond for living processes
            (clock_getcpuclockid(3)), and to a tick (10 ms) for children that have ended.
        user: seconds of it in user mode, sampled at the kernel's ticks (proc_pid_stat(5)).
        system: seconds of it in the kernel, likewise.
        waited: seconds for which the process was runnable but another process had its core.
            Descendants are not included: they wait for each other.
    """

    cpu: float
    user: float
    system: float
    waited: float


def descendants(pid: int) -> list[int]:
    """Return `pid` and its living descendants."""
    found = [pid]
    for parent in found:
        # A process that ends meanwhile has no children.
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                found.extend(int(child) for child in children.split())
    return found


def runnable(pid: int) -> bool:
    """Tell whether a thread of `pid` or of its descendants is running or runnable."""
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{process}/task"):
                stat = Path(f"/proc/{process}/task/{thread}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "R":
                    return True
    return False


def end_descendants() -> None:
    """Kill every descendant of this process."""
    for pid in descendants(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def usage(pid: int) -> Usage:
    """
    Return what `pid` and its descendants have used, including children that ended and were reaped.

    Raises:
        ProcessLookupError: there is no such process.
    """
    cpu = user = system = 0.0
    for process in descendants(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            utime, stime, cutime, cstime = (int(field) / TICKS for field in fields[11:15])
            clock = _cpu_clock(process)
        except (FileNotFoundError, ProcessLookupError):
            if process == pid:
                raise ProcessLookupError(pid) from None
            continue  # a child that ended meanwhile is counted by its parent
        cpu += clock + cutime + cstime
        user += utime + cutime
        system += stime + cstime
    return Usage(cpu, user, system, _waited(pid))


def _waited(pid: int) -> float:
    total = 0
    # Unlike the other files of /proc, schedstat is about one thread only.
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(schedstat.read_text().split()[1])
    return total / 1e9


def _cpu_clock(pid: int) -> float:
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error))
    try:
        return time.clock_gettime(clock.value)
    except OSError as gone:
        raise ProcessLookupError(pid) from gone


def resident(pid: int) -> int:
    """
    Return the memory of `pid` and its descendants in bytes.

    For a single process this is its RSS. Forked children share most pages with their parent, so
    with children it is the sum of PSS, in which each shared page counts once.
    """
    processes = descendants(pid)
    wanted = "Rss:" if len(processes) == 1 else "Pss:"
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith(wanted):
                    total += int(line.split()[1]) * 1024
    return total


class Server:
    """
    A server process in its own session; it is killed with all its children when the block ends.

    It must print ``listening on 127.0.0.1:PORT``, and flush it.

    Arguments:
        name: its name in errors.
        command: the program and its arguments.
        environment: variables to add to the environment.
        core: the core that it runs on, or None for any.
        timeout: seconds that it may take to listen.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        core: int | None,
        timeout: float = 20.0,
    ) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="echoproto-benchmarks-")
        self._output = Path(self._folder.name) / "output"
        # Its output goes to a file: a pipe that is not read would block it.
        with pinned(core), self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder.name,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._timeout = timeout
        self._started = time.monotonic()
        self.port = 0

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        return self._process.pid

    def wait_listening(self) -> None:
        """
        Wait until it listens, and set `port`.

        Raises:
            ServerError: it ended, or does not listen in time.
        """
        while not self.port:
            if self._process.poll() is not None:
                raise ServerError(
                    f"{self.name} ended with {self._process.returncode}:\n{self.output()}"
                )
            if time.monotonic() - self._started > self._timeout:
                raise ServerError(
                    f"{self.name} does not listen after {self._timeout:g} s:\n{self.output()}"
                )
            found = LISTENING.search(self.output())
            if found:
                self.port = int(found[1])
            else:
                time.sleep(0.002)

    def output(self) -> str:
        """Return what it printed."""
        return self._output.read_text(errors="replace")

    def wait_idle(self, timeout: float = 10.0) -> None:
        """
        Wait until it uses no CPU time, so that the next measurement does not include leftovers.

        Raises:
            ServerError: it is still busy after `timeout` seconds, or gone.
        """
        deadline = time.monotonic() + timeout
        before = float("-inf")
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(
                    f"{self.name} ended with {self._process.returncode}:\n{self.output()}"
                )
            now = usage(self.pid).cpu
            # A process that waits for its core uses no time either, but is not idle.
            if now - before < 0.0005 and not runnable(self.pid):
                return
            before = now
            time.sleep(0.01)
        raise ServerError(f"{self.name} is busy {timeout:g} s after the last connection closed")

    def stop(self) -> None:
        """Kill it and its children; do nothing if they have ended."""
        # Its process group exists while a child lives, so it can be signalled until then.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
