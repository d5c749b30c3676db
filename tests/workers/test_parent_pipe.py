"""A worker's pipe to its parent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from echoproto.workers.parent_pipe import ParentPipe
from tests.reactors import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes in a reactor")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        # A test may have closed one.
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_it_is_a_producer_of_its_own(pipe: tuple[int, int]) -> None:
    from twisted.internet.interfaces import IPushProducer

    async def main(reactor: Any) -> None:
        assert verifyObject(IPushProducer, ParentPipe(reactor, pipe[1]))

    run(main)


def test_all_is_written_in_order_before_it_closes(pipe: tuple[int, int]) -> None:
    messages = [b"%d\n" % number for number in range(3)]

    async def main(reactor: Any) -> bytes:
        writer = ParentPipe(reactor, pipe[1])
        for message in messages:
            writer.write(message)
        await writer.close()
        os.close(pipe[1])
        return os.read(pipe[0], 1000)

    assert run(main) == b"".join(messages)


def test_a_parent_that_does_not_read_costs_no_time(pipe: tuple[int, int]) -> None:
    async def main(reactor: Any) -> tuple[bool, bool, int]:
        writer = ParentPipe(reactor, pipe[1])
        size = 0
        while not writer.full:
            writer.write(bytes(10_000))
            size += 10_000
            await deferLater(reactor, 0, lambda: None)
        # What a limit needs is still kept.
        writer.write(b"release")
        full = writer.full
        received = b""
        while len(received) < size + 7:
            received += os.read(pipe[0], 65536)
            await deferLater(reactor, 0, lambda: None)
        assert received.endswith(b"release")
        after = writer.full
        await writer.close()
        return full, after, size

    full, after, size = run(main)
    assert (full, after) == (True, False)
    # A pipe holds 64 KiB on Linux, and the buffer another 64 KiB.
    assert size < 1 << 20


def test_a_parent_that_never_reads_does_not_keep_it_open(pipe: tuple[int, int]) -> None:
    async def main(reactor: Any) -> None:
        writer = ParentPipe(reactor, pipe[1])
        writer.write(bytes(1 << 20))
        await writer.close()

    run(main)


def test_a_parent_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    async def main(reactor: Any) -> None:
        writer = ParentPipe(reactor, pipe[1])
        os.close(pipe[0])
        writer.write(b"lost")
        await deferLater(reactor, 0, lambda: None)
        await writer.close()
        writer.write(b"lost too")

    run(main)
