"""The signals of a worker: it drains at SIGTERM, and leaves all others to its parent.

A terminal or a service manager sends a signal to every process of a service, and the parent
acts for all of them.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from echoproto.base.ending_signals import ending_signals


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keep signals from a process that is started meanwhile until it has set its handlers.

    The process inherits the mask, and :func:`leave_to_parent` lifts it (``signal(7)``). A
    SIGTERM that came earlier is then delivered; without the mask, a signal would end the
    process, and reset the clients in its accept queue.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent(drain: Callable[[], None], reactor: Any) -> None:
    """Handle signals from now on, in a worker.

    :param drain: called, in the reactor's thread, for SIGTERM.
    :param reactor: the worker's.
    """
    ours = ending_signals()
    for signum in ours - {signal.SIGTERM}:
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(drain))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
