"""Which signals end a process, compared with the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from echoproto.base.ending_signals import ending_signals, signal_name

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")

# Sends itself each signal in a child of its own; without handlers, and without core files.
OBSERVE = """
import os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for signum in sorted(signal.valid_signals()):
    child = os.fork()
    if not child:
        if signum != signal.SIGKILL and signum != signal.SIGSTOP:
            signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        os._exit(0)
    _, status = os.waitpid(child, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif os.WIFSIGNALED(status):
        print(int(signum))
"""

# Not to be caught, or about an error of the program itself; and what Python ignores.
OTHERS = {
    *(signal.SIGKILL, signal.SIGPIPE),
    *(signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGSEGV, signal.SIGSYS),
}


def test_they_are_those_that_end_a_process() -> None:
    command = [sys.executable, "-c", OBSERVE]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ending_signals() == {int(each) for each in seen.stdout.split()} - OTHERS


def test_names() -> None:
    assert signal_name(signal.SIGUSR2) == "SIGUSR2"
    assert signal_name(1000) == "signal 1000"


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="needs real-time signals")
def test_real_time_signals_have_names() -> None:
    assert signal_name(signal.SIGRTMIN) == "SIGRTMIN"
    assert signal_name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert signal_name(signal.SIGRTMAX).startswith("SIGRTMIN+")
