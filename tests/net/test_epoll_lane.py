"""The epoll lane below real reactors, on real sockets."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet import selectreactor, tcp
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from zope.interface import providedBy
from zope.interface.verify import verifyObject

from echoproto.net.epoll_lane import EpollLane
from tests.descriptors import no_descriptor_left
from tests.logs import logged
from tests.net.serving import (
    Recorder,
    Recorders,
    Serving,
    returns,
    serving,
)
from tests.reactors import run

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


def test_bytes_come_back_below_any_reactor(any_reactor: Any) -> None:
    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns)) as served:
            client, _ = await served.connected()
            client.sendall(b"x" * 100_000)
            return await served.receive(client, 100_000)

    assert run(main, any_reactor) == b"x" * 100_000


# A protocol that fails ends its own connection, and no other.


@pytest.mark.parametrize("event", ["made", "data", "read_end", "lost"])
def test_an_error_in_a_protocol_ends_its_connection_alone(any_reactor: Any, event: str) -> None:
    def fails_if_second(recorder: Recorder, *_: Any) -> None:
        if recorder in recorder.factory.made[1:2]:
            raise ZeroDivisionError("on purpose")
        if event == "data":
            returns(recorder, *_)

    async def main(reactor: Any) -> bytes:
        handlers = {"data": fails_if_second if event == "data" else returns}
        handlers.setdefault(event, fails_if_second)
        factory = Recorders(half_close=event == "read_end", **handlers)
        async with serving(reactor, factory) as served:
            first, _ = await served.connected()
            second, bad = await served.connected()
            if event == "data":
                second.sendall(b"x")
            elif event != "made":
                second.shutdown(socket.SHUT_WR)
            await served.until(lambda: bad.events[-1] == "lost")
            first.sendall(b"still here")
            back = await served.receive(first, 10)
            third, _ = await served.connected()
            third.sendall(b", new ones too")
            return back + await served.receive(third, 14)

    with logged("") as log:
        assert run(main, any_reactor) == b"still here, new ones too"
    assert log.text.count("ZeroDivisionError: on purpose") == 1


def test_a_producer_that_fails_to_stop_ends_nothing_else() -> None:
    class Stubborn:
        def stopProducing(self) -> None:
            raise ZeroDivisionError("on purpose")

    def register(recorder: Recorder, data: bytes) -> None:
        if data == b"bad":
            recorder.transport.registerProducer(Stubborn(), True)
        recorder.transport.write(data)

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=register)) as served:
            first, _ = await served.connected()
            second, bad = await served.connected()
            second.sendall(b"bad")
            second.shutdown(socket.SHUT_WR)
            # It is closed and told nevertheless.
            assert await served.receive(second) == b"bad"
            assert bad.events[-1] == "lost"
            first.sendall(b"still here")
            return await served.receive(first, 10)

    with logged("") as log:
        assert run(main) == b"still here"
    assert log.text.count("ZeroDivisionError: on purpose") == 1


def test_an_error_when_the_reactor_shuts_down_ends_nothing_else() -> None:
    def fails_if_first(recorder: Recorder) -> None:
        if recorder is recorder.factory.made[0]:
            raise ZeroDivisionError("on purpose")

    factory = Recorders(lost=fails_if_first)

    async def main(reactor: Any) -> EpollLane:
        # Left as it is, for the reactor to disconnect.
        served = Serving(reactor, factory)
        with served._clients:
            await served.connected()
            await served.connected()
            await served.connected()
            reactor.addSystemEventTrigger("after", "shutdown", reactor.disconnectAll)
        return served.lane

    with logged("") as log:
        lane = run(main)
    assert [each.events[-1] for each in factory.made] == ["lost"] * 3
    assert lane.fileno() == -1
    assert log.text.count("ZeroDivisionError: on purpose") == 1


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("answer", ["nothing", "an error"])
def test_a_client_that_gets_no_protocol_is_closed(unix: bool, answer: str) -> None:
    class Refusing(Recorders):
        refuse = True

        def buildProtocol(self, addr: Any) -> Any:
            if not self.refuse:
                return super().buildProtocol(addr)
            if answer == "an error":
                raise ZeroDivisionError("on purpose")
            return None

    async def main(reactor: Any) -> bytes:
        factory = Refusing(data=returns)
        async with serving(reactor, factory, unix=unix) as served:
            assert await served.receive(served.connect()) == b""
            factory.refuse = False
            client, _ = await served.connected()
            client.sendall(b"next")
            return await served.receive(client, 4)

    with logged("") as log:
        assert run(main) == b"next"
    assert log.text.count("ZeroDivisionError: on purpose") == (answer == "an error")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_clients_wait_while_no_descriptor_is_left_and_are_served_then(unix: bool) -> None:
    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders(data=returns), unix=unix) as served:
            inside, _ = await served.connected()
            waiting = [served.connect() for _ in range(30)]
            with no_descriptor_left():
                await served.until(lambda: log.lines)
                # Existing connections are unaffected; the port accepts again meanwhile.
                inside.sendall(b"inside")
                assert await served.receive(inside, 6) == b"inside"
                await deferLater(reactor, 0.3)
                assert len(served.factory.made) == 1
            answers = []
            for client in waiting:
                client.sendall(b"waited")
                answers.append(await served.receive(client, 6))
            assert answers == [b"waited"] * 30

    with logged() as log:
        run(main)
    assert log.lines_of("warn") == [
        "cannot accept (Too many open files); clients wait in the accept queue"
    ]


def test_a_port_that_is_closed_while_it_rests_stays_closed() -> None:
    async def main(reactor: Any) -> None:
        async with serving(reactor, Recorders()) as served:
            served.connect()
            with no_descriptor_left():
                await served.until(lambda: log.lines)
            await maybeDeferred(served.port.stopListening)
            await deferLater(reactor, 0.3)
            assert served.lane.getReaders() == []

    with logged() as log:
        run(main)
    assert len(log.lines) == 1


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_connection_that_the_kernel_does_not_watch_is_closed(unix: bool) -> None:
    """``epoll_ctl(2)``: ENOSPC, beyond /proc/sys/fs/epoll/max_user_watches."""

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns), unix=unix) as served:
            client = served.connect()
            lane: Any = served.lane
            lane._epoll, watched = FullEpoll(lane._epoll), lane._epoll
            assert await served.receive(client) == b""
            lane._epoll = watched
            client, _ = await served.connected()
            client.sendall(b"next")
            return await served.receive(client, 4)

    with logged("") as log:
        assert run(main) == b"next"
    assert "No space left" in log.text


class FullEpoll:
    """An epoll set that has reached its limit."""

    def __init__(self, epoll: Any) -> None:
        self._epoll = epoll

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def register(self, fd: int, event: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Bytes.
BULK = 1 << 24


def test_a_bulk_sender_and_the_timers_leave_each_other_turns() -> None:
    """Between two turns of one of 100 small connections a bulk sender is read a few times."""
    turns: list[str] = []
    ticks: list[int] = []

    def note(recorder: Recorder, data: bytes) -> None:
        bulk = recorder is recorder.factory.made[0]
        turns.append("bulk" if bulk else f"{recorder.factory.made.index(recorder)}")
        if not bulk:
            recorder.transport.write(data)

    async def main(reactor: Any) -> None:
        def tick() -> None:
            ticks.append(len(turns))
            timer[0] = reactor.callLater(0, tick)

        async with serving(reactor, Recorders(data=note)) as served:
            bulk, bulk_end = await served.connected()
            talkers = [(await served.connected())[0] for _ in range(100)]
            sender = threading.Thread(target=bulk.sendall, args=(bytes(BULK),))
            sender.start()
            timer = [reactor.callLater(0, tick)]
            for client in talkers:
                client.setblocking(False)
                client.sendall(b"x")
            while len(bulk_end.received) < BULK:
                await deferLater(reactor, 0)
                for client in talkers:
                    with suppress(BlockingIOError):
                        client.sendall(client.recv(10))
            sender.join()
            timer[0].cancel()

    run(main)
    mine = [index for index, turn in enumerate(turns) if turn == "50"]
    assert len(mine) > 10
    assert max(turns[one:other].count("bulk") for one, other in pairwise(mine)) <= 4
    # A timer waits for one batch, and no longer.
    assert all(later - tick <= 128 for tick, later in pairwise(ticks))
    assert len(ticks) > 10


def test_more_connections_than_select_takes() -> None:
    """The lane is one descriptor among those of the reactor, whatever is in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip("needs 3000 descriptors")

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns)) as served:
            taken = [os.dup(0) for _ in range(1500)]
            try:
                client, recorder = await served.connected()
                assert recorder.transport.fileno() > 1024
                client.sendall(b"x" * 1_000_000)
                return await served.receive(client, 1_000_000)
            finally:
                for fd in taken:
                    os.close(fd)

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    try:
        assert run(main, selectreactor.SelectReactor()) == b"x" * 1_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_port_of_another_kind_stays_where_it_is() -> None:
    class OwnPort(tcp.Port):
        """It may depend on its transport."""

    async def main(reactor: Any) -> bool:
        lane = EpollLane(reactor)
        port = OwnPort(0, Factory(), reactor=reactor)
        port.startListening()
        try:
            return lane.adopt(port)
        finally:
            await maybeDeferred(port.stopListening)
            lane.close()
            lane.close()

    assert run(main) is False


def test_its_interfaces() -> None:
    async def main(reactor: Any) -> None:
        lane = EpollLane(reactor)
        verifyObject(IReactorFDSet, lane)
        verifyObject(IReadDescriptor, lane)
        lane.close()

    run(main)


def test_it_passes_on_what_the_reactor_provides() -> None:
    async def main(reactor: Any) -> list[str]:
        lane: Any = EpollLane(reactor)
        own = {*IReactorFDSet.names(), *IReadDescriptor.names()}
        names = {
            name
            for interface in providedBy(reactor)
            if interface.__name__.startswith("IReactor")
            for name in interface.names(all=True)
        }
        passed_on = sorted(names - own)
        assert all(getattr(lane, name) == getattr(reactor, name) for name in passed_on)
        lane.close()
        return passed_on

    passed_on = run(main)
    assert {"callLater", "callFromThread", "connectTCP", "running", "seconds"} <= set(passed_on)


def test_a_descriptor_closed_without_being_removed_hides_no_other() -> None:
    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=returns)) as served:
            _, lost = await served.connected()
            number = lost.transport.fileno()
            # It is not accepted before the number is free.
            client = served.connect()
            lost.transport.socket.close()
            await served.until(lambda: len(served.factory.made) == 2)
            assert served.factory.made[1].transport.fileno() == number
            client.sendall(b"data")
            return await served.receive(client, 4)

    assert run(main) == b"data"


def test_a_new_connection_is_not_taken_for_one_that_was_closed_without_being_removed() -> None:
    async def main(reactor: Any) -> None:
        near, far = socket.socketpair()
        lane = EpollLane(reactor)
        try:
            with near, far:
                lane.echoes.add(near.fileno(), object())
                lane.add_connection(near.fileno(), near)
                assert near.fileno() not in lane.echoes
                assert lane.getReaders() == [near]
                lane.removeAll()
        finally:
            lane.close()

    run(main)
