"""What the lane's transports send, on real sockets."""

from __future__ import annotations

import itertools
import socket
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.error import FileDescriptorOverrun
from twisted.internet.task import deferLater

from echoproto.net.epoll_lane import EpollLane
from tests.net.serving import (
    Recorder,
    Recorders,
    serving,
)
from tests.reactors import run

pytestmark = pytest.mark.skipif(not EpollLane.available(), reason="needs select.epoll")


class SubclassOfBytes(bytes):
    """Bytes of a derived class."""


def test_a_subclass_of_bytes_keeps_its_place() -> None:
    def answer(recorder: Recorder, data: bytes) -> None:
        recorder.transport.write(SubclassOfBytes(b"first, "))
        recorder.transport.write(b"second")

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=answer)) as served:
            client, _ = await served.connected()
            client.sendall(b"?")
            return await served.receive(client, 13)

    assert run(main) == b"first, second"


@pytest.mark.parametrize("queued", [0, 1 << 23], ids=["nothing queued", "queued"])
def test_only_bytes_can_be_written(queued: int) -> None:
    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders()) as served:
            client, recorder = await served.connected()
            transport = recorder.transport
            transport.write(bytes(queued))
            for wrong in ("text", bytearray(b"x"), memoryview(b"x"), 1, None):
                with pytest.raises(TypeError, match=r"^Data must be bytes$"):
                    transport.write(wrong)
                with pytest.raises(TypeError, match=r"^Data must be bytes$"):
                    transport.writeSequence([b"x", wrong])
            transport.writeSequence(iter([b"a", SubclassOfBytes(b"b"), b""]))
            transport.writeSequence([])
            transport.write(b"c")
            return (await served.receive(client, queued + 3))[queued:]

    assert run(main) == b"abc"


def test_descriptors_without_an_accompanying_byte_are_an_error() -> None:
    """As in the stock lane: they would be sent with a later byte, unexpectedly."""

    def send(recorder: Recorder, data: bytes) -> None:
        recorder.transport.sendFileDescriptor(0)

    async def main(reactor: Any) -> type[BaseException]:
        async with serving(reactor, Recorders(data=send), unix=True) as served:
            client, recorder = await served.connected()
            client.sendall(b"x")
            await served.until(lambda: recorder.events[-1] == "lost")
            return recorder.reason  # type: ignore[no-any-return]

    assert run(main) is FileDescriptorOverrun


class Producer:
    """Produces chunks, each different from the last, until it is paused."""

    def __init__(self, transport: Any, chunks: int) -> None:
        self.transport = transport
        self.left = chunks
        self.calls: list[str] = []
        self.paused = False

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self.paused = True

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.produce(1)

    def stopProducing(self) -> None:
        self.calls.append("stop")

    def produce(self, chunks: int) -> None:
        while self.left and chunks and not self.paused:
            self.left -= 1
            chunks -= 1
            self.transport.write(self.left.to_bytes(8, "big") * 4096)
        if not self.left:
            self.transport.unregisterProducer()
            self.transport.loseConnection()


class PushProducer(Producer):
    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.produce(-1)


async def read_all(
    reactor: Any, client: socket.socket, recorder: Recorder, queued: list[int]
) -> bytes:
    """Read to the end, and note how many bytes the transport holds meanwhile."""
    transport = recorder.transport
    received = b""
    client.setblocking(False)
    while recorder.events[-1] != "lost" or client.fileno() != -1:
        queued.append(len(transport.dataBuffer) + transport._tempDataLen)
        try:
            chunk = client.recv(100_000)
        except BlockingIOError:
            await deferLater(reactor, 0)
            continue
        received += chunk
        if not chunk:
            client.close()
    return received


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "push"])
def test_the_output_of_a_producer_arrives_complete(streaming: bool, unix: bool) -> None:
    chunks = 400
    producers: list[Producer] = []
    queued: list[int] = []

    def produce(recorder: Recorder, data: bytes) -> None:
        kind = PushProducer if streaming else Producer
        producer = kind(recorder.transport, chunks)
        producers.append(producer)
        recorder.transport.registerProducer(producer, streaming)
        if streaming:
            producer.resumeProducing()

    async def main(reactor: Any) -> bytes:
        async with serving(reactor, Recorders(data=produce), unix=unix) as served:
            client, recorder = await served.connected()
            client.sendall(b"?")
            await served.until(lambda: producers)
            return await read_all(reactor, client, recorder, queued)

    assert run(main) == b"".join(left.to_bytes(8, "big") * 4096 for left in reversed(range(chunks)))
    (producer,) = producers
    assert "stop" not in producer.calls
    if streaming:
        # Twisted's threshold, and one chunk more that is produced during a doWrite.
        assert max(queued) <= (1 << 16) + 32768
        assert producer.calls.count("pause") >= 1
    else:
        assert producer.calls.count("resume") == chunks


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 300_000)),
            st.tuples(st.just("writeSequence"), st.lists(st.integers(0, 20_000), max_size=5)),
            st.tuples(st.just("turn"), st.integers(0, 3)),
            st.tuples(st.just("read"), st.integers(1, 100_000)),
        ),
        max_size=20,
    ),
    unix=st.booleans(),
)
def test_writes_arrive_complete_and_in_order(steps: list[Any], unix: bool) -> None:
    async def main(reactor: Any) -> tuple[bytes, bytes]:
        written = b""
        received = b""
        source = itertools.count()

        def made(size: int) -> bytes:
            nonlocal written
            # Each 8 bytes differ from all others.
            data = b"".join(next(source).to_bytes(8, "big") for _ in range(size // 8 + 1))[:size]
            written += data
            return data

        async with serving(reactor, Recorders(), unix=unix) as served:
            client, recorder = await served.connected()
            transport = recorder.transport
            transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            for call, value in steps:
                if call == "write":
                    transport.write(made(value))
                elif call == "writeSequence":
                    transport.writeSequence([made(size) for size in value])
                elif call == "turn":
                    for _ in range(value):
                        await deferLater(reactor, 0)
                else:
                    client.setblocking(False)
                    with suppress(BlockingIOError):
                        received += client.recv(value)
            transport.loseConnection()
            received += await served.receive(client)
            return written, received

    written, received = run(main)
    assert received == written
