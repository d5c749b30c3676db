"""The signals that end a process that has no handler for them."""

from __future__ import annotations

import signal

# signal(7). Not to be caught, or about a program that cannot go on; about terminals and job
# control; ignored by default; and SIGPIPE, which Python ignores from its start.
_OTHERS = (
    *("KILL", "STOP", "ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "SYS", "EMT", "IOT"),
    *("TSTP", "TTIN", "TTOU", "CONT"),
    *("CHLD", "URG", "WINCH", "INFO"),
    "PIPE",
)


def ending_signals() -> set[int]:
    """Return the signals that end this process by default, those for errors of its own excepted.

    Real-time signals are among them. They are those that are not known to do something
    else, so that none is missed that a platform adds.
    """
    others = {getattr(signal, f"SIG{name}", None) for name in _OTHERS}
    return {int(each) for each in signal.valid_signals() - others}


def signal_name(signum: int) -> str:
    """Return the name of a signal, as ``SIGUSR2`` or ``SIGRTMIN+3``.

    :param signum: its number.
    """
    first = getattr(signal, "SIGRTMIN", None)
    if first is not None and first <= signum <= signal.SIGRTMAX:
        return f"SIGRTMIN+{signum - first}" if signum > first else "SIGRTMIN"
    try:
        return signal.Signals(signum).name
    except ValueError:
        # Python 3.10 has no name for SIGSTKFLT.
        return f"signal {signum}"
