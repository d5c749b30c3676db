"""Servers for the system tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.system.server import Server, running, twistd, twistd_in

Serve = Callable[..., Server]
Report = Callable[[str, str], None]

# For modules whose tests run in both lanes. In the stock lane they are slow tests: it
# is Twisted's own code, and starting servers takes long.
_LANES = ["fast", pytest.param("stock", marks=pytest.mark.slow)]
in_both_lanes = pytest.mark.parametrize("lane", _LANES, scope="module")
# The same, and once more where all bytes are spliced.
in_every_way = pytest.mark.parametrize(
    "lane", [*_LANES, pytest.param("spliced", marks=pytest.mark.slow)], scope="module"
)


@pytest.fixture(scope="module")
def lane() -> str:
    """The lane to serve in, where a module is not marked :data:`in_both_lanes`."""
    return "fast"


@pytest.fixture
def serve(lane: str) -> Iterator[Serve]:
    """Start `twistd -n echo` with options; all servers are stopped when the test ends."""
    with ExitStack() as servers:

        def start(*arguments: str, reactor: str | None = None, **popen: object) -> Server:
            command = twistd_in(lane, *arguments, reactor=reactor)
            return servers.enter_context(running(command, **popen))

        yield start


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A server for tests that only connect to it, and read nothing that others change."""
    with running(twistd()) as server:
        yield server


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Server]:
    """The same with four workers, which log connections."""
    with running(twistd("--workers", "4", "--log", "connections")) as server:
        for number in range(1, 5):
            server.wait_for(rf"\[worker {number}\] listening on")
        yield server


@pytest.fixture
def report(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Report:
    """Record a figure in the JUnit report, and print it with -s."""

    def note(what: str, value: str) -> None:
        record_property(what, value)
        print(f"\n{request.node.name}: {what}: {value}", end="")

    return note
