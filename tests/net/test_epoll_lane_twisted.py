"""Twisted's own reactor tests, run against servers in the lane.

Each reactor here has a lane below it, which adopts each port that the reactor opens; to a
test the two look like one reactor.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.test import test_tcp, test_tls, test_unix
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.unittest import SynchronousTestCase

from echoproto.net.epoll_lane import EpollLane

pytestmark = [
    pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll"),
    # Twisted's tests pass pyOpenSSL's own objects to pyOpenSSL,
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated"),
    # and a context factory of a deprecated kind,
    pytest.mark.filterwarnings("ignore:.*BrokenContextFactory object"),
    # and leave sockets, where a start has failed, to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

SUITES: list[type[ReactorBuilder]] = [
    test_tcp.AbortConnectionTests,
    test_tcp.TCP4ClientTestsBuilder,
    test_tcp.TCP6ClientTestsBuilder,
    test_tcp.TCPConnectionTestsBuilder,
    test_tcp.TCPFDPortTestsBuilder,
    test_tcp.TCPPortTestsBuilder,
    test_tcp.TCPTransportTestsBuilder,
    test_tls.AbortSSLConnectionTests,
    test_tls.SSLClientTestsMixin,
    test_tls.StartTLSClientTestsMixin,
    test_tls.TLSPortTestsBuilder,
    test_unix.UNIXFDPortTestsBuilder,
    test_unix.UNIXPortTestsBuilder,
    test_unix.UNIXTestsBuilder,
    test_unix.UnixClientTestsBuilder,
]

# What the lane does differently, by test; each of these must fail.
EXCEPTIONS = {
    "test_logPrefix": (
        "the lane opens no log context for an event, and so the legacy twisted.python.log "
        "names no connection as the system of a line: that context costs as much as the echo"
    ),
}

# What cannot even be tried, since the test would wait for it without end.
LEFT_OUT = {
    "test_closePeerOnEMFILE": (
        "when no descriptor is left, new clients are not closed in the lane, but wait in the "
        "accept queue; tests/net/test_epoll_lane.py tests it"
    ),
}


class _InLane:
    """Mixed into a reactor: its ports are in a lane."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lane = EpollLane(self)
        # No test has added it; like the waker, it must not appear among the readers.
        self._internalReaders: Any
        self._internalReaders.add(self.lane)

    def _adopted(self, port: Any) -> Any:
        if port.addressFamily != getattr(socket, "AF_UNIX", None):
            # What connections inherit lets the lane accept them without socket objects.
            port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert self.lane.adopt(port)
        return port

    def listenTCP(self, *args: Any, **options: Any) -> Any:
        return self._adopted(super().listenTCP(*args, **options))  # type: ignore[misc]

    def listenUNIX(self, *args: Any, **options: Any) -> Any:
        return self._adopted(super().listenUNIX(*args, **options))  # type: ignore[misc]

    def adoptStreamPort(self, *args: Any) -> Any:
        return self._adopted(super().adoptStreamPort(*args))  # type: ignore[misc]

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *self.lane.getReaders()]  # type: ignore[misc]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *self.lane.getWriters()]  # type: ignore[misc]

    def removeAll(self) -> list[Any]:
        return [*super().removeAll(), *self.lane.removeAll()]  # type: ignore[misc]


class EPollInLane(_InLane, EPollReactor):
    """Over ``epoll(7)``."""


class PollInLane(_InLane, PollReactor):
    """Over ``poll(2)``."""


class SelectInLane(_InLane, SelectReactor):
    """Over ``select(2)``."""


class AsyncioInLane(_InLane, AsyncioSelectorReactor):
    """Over an asyncio loop."""


def _asyncio(case: Any) -> AsyncioInLane:
    loop = asyncio.new_event_loop()
    case.addCleanup(loop.close)
    return AsyncioInLane(loop)


REACTORS: dict[str, Callable[[Any], Any]] = {
    "EPoll": lambda case: EPollInLane(),
    "Poll": lambda case: PollInLane(),
    "Select": lambda case: SelectInLane(),
    "Asyncio": _asyncio,
}


def _fails(test: Callable[[Any], None]) -> Callable[[Any], None]:
    # A test of Twisted's that passes here some day fails until its entry in EXCEPTIONS, which
    # gives the reason, is removed.
    @functools.wraps(test)
    def failing(self: Any) -> None:
        with pytest.raises(AssertionError):
            test(self)

    return failing


def _case(suite: type[ReactorBuilder], reactor: Callable[[Any], Any]) -> dict[str, Any]:
    case: dict[str, Any] = {
        "__module__": __name__,
        "reactorFactory": reactor,
        # Of a test, in seconds.
        "timeout": 20,
    }
    for test in EXCEPTIONS:
        if hasattr(suite, test):
            case[test] = _fails(getattr(suite, test))
    for test in LEFT_OUT:
        if hasattr(suite, test):
            case[test] = None
    return case


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Twisted's tests leave UNIX sockets in the working directory,
    monkeypatch.chdir(tmp_path)
    # and one leaves a socket open, which Twisted's log remembers for ever.
    with ExitStack() as sockets:

        def opened(*args: Any) -> socket.socket:
            return sockets.enter_context(socket.socket(*args))

        monkeypatch.setattr(test_unix, "socket", opened)
        yield


@pytest.fixture(autouse=True, scope="module")
def _leaves_no_garbage() -> Iterator[None]:
    yield
    gc.collect()


for _suite in SUITES:
    for _name, _reactor in REACTORS.items():
        _title = f"{_suite.__name__}_{_name}"
        globals()[_title] = type(_title, (_suite, SynchronousTestCase), _case(_suite, _reactor))
