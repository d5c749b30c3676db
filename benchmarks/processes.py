"""Server processes: start, find the port, count CPU time and memory, end. Linux only."""

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

#: What every server says when it listens; socat names the address family too.
LISTENING = re.compile(r"listening on (?:AF=2 )?127\.0\.0\.1:(\d+)", re.IGNORECASE)


class ServerError(Exception):
    """A server did not start or did not come to rest; the text says what it printed."""


@dataclass(frozen=True)
class Cores:
    """The cores for the server and for the load; None where there are too few to keep apart."""

    server: int | None
    load: int | None

    @classmethod
    def allowed(cls) -> "Cores":
        """Choose from the cores this process may use: the load gets the first, the server the last.

        Interrupts of a machine tend to be on the first core.
        """
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[-1], cores[0]) if len(cores) > 1 else cls(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run the block on `core`; a process started in it stays there with all its threads."""
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
    What a process and its descendants have used since they began.

    Attributes:
        cpu: seconds on a core, exact to the nanosecond for living processes
            (clock_getcpuclockid(3)); what ended children used is exact to a tick (10 ms).
        user: seconds of it in the program, as the kernel's ticks say (proc_pid_stat(5)).
        system: seconds of it in the kernel, likewise.
        waited: seconds that the process itself spent runnable without a core, because something
            else ran there. Not its descendants: they wait for each other.
    """

    cpu: float
    user: float
    system: float
    waited: float


def descendants(pid: int) -> list[int]:
    """Return `pid` and the living processes that stem from it."""
    found = [pid]
    for parent in found:
        # One that ends meanwhile has no children any more.
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                found.extend(int(child) for child in children.split())
    return found


def runnable(pid: int) -> bool:
    """Whether a thread of `pid` or of its descendants runs or could."""
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{process}/task"):
                stat = Path(f"/proc/{process}/task/{thread}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "R":
                    return True
    return False


def end_descendants() -> None:
    """Kill every process that stems from this one."""
    for pid in descendants(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def usage(pid: int) -> Usage:
    """
    Return what `pid` and its descendants have used, those that ended and were waited for included.

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
            continue  # a child that ended meanwhile: its parent counts it
        cpu += clock + cutime + cstime
        user += utime + cutime
        system += stime + cstime
    return Usage(cpu, user, system, _waited(pid))


def _waited(pid: int) -> float:
    total = 0
    # Unlike the other files of /proc, schedstat knows one thread only.
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

    RSS for one process. Forked children share most pages with their parent, so where there are any
    it is the sum of PSS, in which each shared page counts once.
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
    A server process of its own session, ended with all its children when the block ends.

    It must print ``listening on 127.0.0.1:PORT``, and flush it.

    Arguments:
        name: what to call it in errors.
        command: the program and its arguments.
        environment: what to add to the environment.
        core: where it runs, or None for anywhere.
        timeout: seconds it may take to listen.

    Raises:
        ServerError: on entering, if it ends or does not listen in time.
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
        # Its output goes to a file: a pipe that nobody reads would stop it.
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
            ServerError: it ended, or the time is over.
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
        Wait until it uses no CPU time, so that the next measurement does not pay for the last.

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
            # One that waits for its core uses no time either, but is not at rest.
            if now - before < 0.0005 and not runnable(self.pid):
                return
            before = now
            time.sleep(0.01)
        raise ServerError(f"{self.name} is busy {timeout:g} s after the last connection closed")

    def stop(self) -> None:
        """End it and its children, at once; harmless if they have ended."""
        # Its session outlives it while a child lives, so the group can be signalled until then.
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
