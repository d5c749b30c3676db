"""Servers for the system tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.system.server import Server, running, twistd

Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start `twistd -n echo` with options; all that were started end with the test."""
    with ExitStack() as servers:

        def start(*arguments: str, reactor: str | None = None, **popen: object) -> Server:
            command = twistd(*arguments, reactor=reactor)
            return servers.enter_context(running(command, **popen))

        yield start
