"""How the lane's transports close, on real sockets."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import deferLater

from echoproto.net.epoll_lane import EpollLane
from tests.logs import logged
from tests.net.serving import (
    Recorder,
    Recorders,
    Serving,
    serving,
)
from tests.reactors import run

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


def test_half_closing_twice_in_a_turn_is_reported_once() -> None:
    def close(recorder: Recorder) -> None:
        recorder.transport.loseWriteConnection()
        recorder.transport.loseWriteConnection()

    async def main(reactor: Any) -> list[str]:
        async with serving(reactor, Recorders(half_close=True, made=close)) as served:
            client, recorder = await served.connected()
            assert await served.receive(client) == b""
            client.sendall(b"x")
            await served.until(lambda: recorder.received)
            return list(recorder.events)

    assert run(main) == ["made", "write end", "data"]


def test_a_write_after_the_write_side_is_closed_pauses_nothing() -> None:
    def close(recorder: Recorder, data: bytes) -> None:
        if data == b"x":
            recorder.transport.registerProducer(recorder.transport, True)
            recorder.transport.loseWriteConnection()

    def write(recorder: Recorder) -> None:
        recorder.transport.write(b"not sent")

    async def main(reactor: Any) -> bytes:
        async with serving(
            reactor, Recorders(half_close=True, data=close, write_end=write)
        ) as served:
            client, recorder = await served.connected()
            client.sendall(b"x")
            assert await served.receive(client) == b""
            client.sendall(b"y")
            await served.until(lambda: recorder.received == b"xy")
            return recorder.received  # type: ignore[no-any-return]

    assert run(main) == b"xy"


def test_nothing_is_sent_after_a_producer_has_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Aborting:
        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def pauseProducing(self) -> None:
            """Comes with the first bytes that are queued."""

        def resumeProducing(self) -> None:
            # In the next turn, but before the connection is lost.
            self.transport.reactor.callLater(0, self.transport.write, b"too late")
            self.transport.abortConnection()

        def stopProducing(self) -> None:
            """The connection is lost."""

    def write(fd: int, data: bytes) -> int:
        sent.append(data)
        return os_write(fd, data)

    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders()) as served:
            client, recorder = await served.connected()
            recorder.transport.registerProducer(Aborting(recorder.transport), True)
            recorder.transport.write(bytes(1 << 23))
            with suppress(ConnectionResetError):
                await served.receive(client)
            await served.until(lambda: recorder.events[-1] == "lost")

    os_write = os.write
    monkeypatch.setattr(os, "write", write)
    run(main)
    # The reactor's waker writes too.
    assert bytes(1 << 23) in sent
    assert b"too late" not in sent


def ends(recorder: Recorder) -> None:
    recorder.transport.loseConnection()


@pytest.mark.parametrize("queued", [0, 1 << 22], ids=["nothing queued", "queued"])
@pytest.mark.parametrize("where", ["in a batch", "from a timer", "when made"])
@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection", "abortConnection"])
def test_all_that_was_written_is_sent_before_a_close_but_not_before_an_abort(
    how: str, where: str, queued: int
) -> None:
    def close(recorder: Recorder, *_: Any) -> None:
        transport = recorder.transport
        transport.write(bytes(queued))
        getattr(transport, how)()
        if how != "abortConnection":
            transport.write(b"end")
        assert "lost" not in recorder.events

    def close_later(recorder: Recorder) -> None:
        recorder.transport.reactor.callLater(0.01, close, recorder)

    event = {"in a batch": "data"}.get(where, "made")
    handler = close_later if where == "from a timer" else close

    async def main(reactor: Any) -> tuple[bytes, Recorder]:
        factory = Recorders(half_close=True, read_end=ends, **{event: handler})
        async with serving(reactor, factory) as served:
            client, recorder = await served.connected()
            if event == "data":
                client.sendall(b"?")
            received = b""
            with suppress(ConnectionResetError):
                received = await served.receive(client)
            client.close()
            await served.until(lambda: recorder.events[-1] == "lost")
            return received, recorder

    received, recorder = run(main)
    assert recorder.events.count("lost") == 1
    if how == "abortConnection":
        assert recorder.reason is ConnectionAborted
        assert "write end" not in recorder.events
    else:
        assert recorder.reason is ConnectionDone
        assert len(received) == queued + 3
        assert received.endswith(b"end")
        assert recorder.events.count("write end") == (how == "loseWriteConnection")


def test_a_lost_transport_reads_and_writes_nothing() -> None:
    """The number of its descriptor belongs to another connection by then."""

    def accept(recorder: Recorder) -> None:
        if len(recorder.factory.made) == 1:
            served_now[0].port.doRead()

    served_now: list[Serving] = []

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(lost=accept)) as served:
            served_now.append(served)
            _, lost = await served.connected()
            served.port.stopReading()
            number = lost.transport.fileno()
            second = served.connect()
            lost.transport.loseConnection()
            # The number is free in its connectionLost; the next connection gets it.
            await served.until(lambda: len(served.factory.made) == 2)
            recorder = served.factory.made[1]
            assert recorder.transport.fileno() == number
            transport = lost.transport
            transport.write(b"lost")
            transport.writeSequence([b"lost"])
            transport.resumeProducing()
            transport.pauseProducing()
            transport.loseWriteConnection()
            transport.loseConnection()
            transport.abortConnection()
            assert transport.doRead() is not None
            second.sendall(b"x")
            await served.until(lambda: recorder.received == b"x")
            recorder.transport.write(b"y")
            return await served.receive(second, 1)

    assert run(main) == b"y"


def close_others(recorder: Recorder, data: bytes) -> None:
    """Close all other connections, and accept new ones, which get their descriptors."""
    if data == b"new":
        return
    for other in recorder.factory.made:
        if other is not recorder and "lost" not in other.events:
            # Closed at once: the write side is closed already.
            other.transport._writeDisconnected = True
            other.transport.loseConnection()
            assert other.events[-1] == "lost"
    recorder.transport.server.doRead()


def test_connections_may_close_each_other_in_a_batch() -> None:
    """The events of the closed ones are not those of the new ones, which have no input yet."""

    async def main(reactor: Any) -> tuple[list[list[str]], list[list[str]]]:
        factory = Recorders(data=close_others)
        async with serving(reactor, factory) as each:
            clients = [(await each.connected())[0] for _ in range(10)]
            numbers = {recorder.transport.fileno() for recorder in factory.made}
            each.port.stopReading()
            each.port.numberAccepts = 100
            new = [each.connect() for _ in range(10)]
            for client in clients:
                client.sendall(b"old")
            await each.until(lambda: len(factory.made) == 20)
            taken = {recorder.transport.fileno() for recorder in factory.made[10:]}
            assert len(taken & numbers) >= 9
            old_events = [list(recorder.events) for recorder in factory.made[:10]]
            await deferLater(reactor, 0.01)
            quiet = [list(recorder.events) for recorder in factory.made[10:]]
            for client in new:
                client.sendall(b"new")
            await each.until(lambda: all(one.received == b"new" for one in factory.made[10:]))
            return old_events, quiet

    with logged("") as log:
        old, new = run(main)
    assert sorted(old) == sorted([["made", "data"]] + [["made", "lost"]] * 9)
    assert new == [["made"]] * 10
    assert "Traceback" not in log.text


@pytest.mark.parametrize("call", ["pauseProducing", "stopReading"])
def test_a_transport_that_stops_reading_receives_no_more(call: str) -> None:
    def stop(recorder: Recorder, data: bytes) -> None:
        getattr(recorder.transport, call)()

    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders(data=stop)) as served:
            client, recorder = await served.connected()
            for _ in range(3):
                client.sendall(b"x" * 10_000)
            await served.until(lambda: recorder.received)
            await deferLater(reactor, 0.02)
            assert recorder.events == ["made", "data"]
            while len(recorder.received) < 30_000:
                turns = len(recorder.events)
                recorder.transport.resumeProducing()
                await served.until(functools.partial(has_grown, recorder.events, turns))

    def has_grown(events: list[str], known: int) -> bool:
        return len(events) > known

    run(main)
