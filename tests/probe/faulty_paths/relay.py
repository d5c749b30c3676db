"""A correct proxy, in this process, and the methods that a faulty one overrides.

One thread serves every path of a test with a selector: the client's side, the proxy, and
the echo behind it. A path is started and stopped in about a millisecond and leaves no
socket behind. What a fault overrides are the events of :class:`Relay`, one object for each
client; what it does wrong it does with the actions of the same class.

An exception in the thread ends it and is raised again by :meth:`Path.__exit__`: a broken
test proxy must not be mistaken for a broken byte path.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

#: The maximum size of one read, in bytes.
READ_SIZE = 65536
#: A wire with this much pending output, in bytes, stops reading on the other side.
HIGH_WATER = 65536
#: A muted connection is dropped after this time, in milliseconds, so that a thousand of them
#: do not use up the descriptors of the test.
MUTE_MS = 10_000


class Loop(threading.Thread):
    """A selector and its timers."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="faulty path")
        self.selector = selectors.DefaultSelector()
        self.error: BaseException | None = None
        #: Every open socket: one that is not being read is in no selector.
        self.sockets: set[socket.socket] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._stopping = False
        self._wake, self._woken = socket.socketpair()
        self.sockets |= {self._wake, self._woken}
        self.selector.register(self._woken, selectors.EVENT_READ, None)

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Call once, this many milliseconds from now."""
        heapq.heappush(self._timers, (time.monotonic() + ms / 1000, next(self._count), call))

    def run(self) -> None:
        try:
            while not self._stopping:
                timeout = None
                if self._timers:
                    timeout = max(0.0, self._timers[0][0] - time.monotonic())
                for key, events in self.selector.select(timeout):
                    if key.data is not None:
                        key.data(events)
                while self._timers and self._timers[0][0] <= time.monotonic():
                    heapq.heappop(self._timers)[2]()
        except BaseException as error:
            self.error = error
        finally:
            self.selector.close()
            for sock in self.sockets:
                sock.close()

    def stop(self) -> None:
        """End the thread and close every socket it served."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")
        self.join(10)
        if self.error is not None:
            raise self.error


class Wire:
    """One connected socket of the loop: writes what the kernel takes, keeps the rest."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[bytes], None],
        ended: Callable[[], None],
        lost: Callable[[], None],
        drained: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.received, self.ended, self.lost, self.drained = received, ended, lost, drained
        self.pending = bytearray()
        self.open = True
        self.read_ended = False
        self.fin_asked = False
        self._reading = True
        self._registered = 0
        sock.setblocking(False)
        loop.sockets.add(sock)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def send(self, data: bytes) -> None:
        """Write, now or when the kernel has space. Nothing is sent after :meth:`fin`."""
        if not self.open or self.fin_asked:
            return
        self.pending += data
        self._flush()

    def fin(self) -> None:
        """End the writing side once all is sent."""
        if self.open and not self.fin_asked:
            self.fin_asked = True
            self._flush()

    def close(self) -> None:
        """Close at once, with the unsent bytes dropped. Unread input makes the kernel reset."""
        if self.open:
            self.open = False
            if self._registered:
                self.loop.selector.unregister(self.sock)
            self.loop.sockets.discard(self.sock)
            self.sock.close()

    def reset(self) -> None:
        """Close with RST."""
        if self.open:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def hold(self, held: bool) -> None:
        """Stop reading, or continue."""
        self._reading = not held
        self._watch()

    def _watch(self) -> None:
        if not self.open:
            return
        wanted = 0
        if self._reading and not self.read_ended:
            wanted |= selectors.EVENT_READ
        if self.pending:
            wanted |= selectors.EVENT_WRITE
        if wanted == self._registered:
            return
        if not wanted:
            self.loop.selector.unregister(self.sock)
        elif not self._registered:
            self.loop.selector.register(self.sock, wanted, self._ready)
        else:
            self.loop.selector.modify(self.sock, wanted, self._ready)
        self._registered = wanted

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and self.open:
            self._flush()
        if events & selectors.EVENT_READ and self.open and self._reading and not self.read_ended:
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                self._broken()
                return
            if data:
                self.received(data)
            else:
                self.read_ended = True
                self._watch()
                self.ended()

    def _flush(self) -> None:
        had = bool(self.pending)
        try:
            while self.pending:
                del self.pending[: self.sock.send(self.pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._broken()
            return
        if not self.pending and self.fin_asked:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
        self._watch()
        if had and not self.pending:
            self.drained()

    def _broken(self) -> None:
        self.close()
        self.lost()


class Relay:
    """A correct proxy's work for one client. Faulty ones override the events."""

    def __init__(self, path: Path, sock: socket.socket, number: int) -> None:
        self.path = path
        #: How many clients connected before this one.
        self.number = number
        #: Bytes the client has sent before the chunk being handled.
        self.offset = 0
        there, echo = socket.socketpair()
        self.client = Wire(
            path.loop, sock, self._received, self.client_ended, self._client_lost, self._drained
        )
        self.echo = Wire(
            path.loop, there, self.echo_sent, self.echo_ended, self._echo_lost, self._drained
        )
        _Echo(path.loop, echo)
        path.relays.append(self)
        self.opened()

    def opened(self) -> None:
        """The client has connected."""

    def client_sent(self, data: bytes) -> None:
        """The client sent this."""
        self.to_echo(data)

    def client_ended(self) -> None:
        """The client ended its sending side."""
        self.echo.fin()
        self._finished()

    def client_reset(self) -> None:
        """The client has reset the connection."""

    def echo_sent(self, data: bytes) -> None:
        """The echo sent this back."""
        self.to_client(data)

    def echo_ended(self) -> None:
        """The echo has sent everything."""
        self.client.fin()
        self._finished()

    # ------------------------------------------------------------------ actions

    def to_echo(self, data: bytes) -> None:
        """Forward, and stop reading from the client while too much is pending."""
        self.echo.send(data)
        self.client.hold(len(self.echo.pending) > HIGH_WATER)

    def to_client(self, data: bytes) -> None:
        """Send back, and stop reading from the echo while too much is pending."""
        self.client.send(data)
        self.echo.hold(len(self.client.pending) > HIGH_WATER)

    def close(self) -> None:
        """Close both sides at once."""
        self.client.close()
        self.echo.close()
        self._forget()

    def reset(self) -> None:
        """Close both sides; the client sees RST."""
        self.client.reset()
        self.echo.close()
        self._forget()

    def mute(self) -> None:
        """Stop answering, not even with EOF, for as long as a test could wait."""
        self.echo.close()
        self.client.received = lambda data: None
        self.client.ended = lambda: None
        self.later(MUTE_MS, self.reset)

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Call once, unless the connection has ended by then."""
        self.path.loop.later(ms, lambda: call() if self.client.open else None)

    # ---------------------------------------------------------------- machinery

    def _received(self, data: bytes) -> None:
        self.client_sent(data)
        self.offset += len(data)

    def _drained(self) -> None:
        if len(self.client.pending) <= HIGH_WATER:
            self.echo.hold(False)
        if len(self.echo.pending) <= HIGH_WATER:
            self.client.hold(False)
        self._finished()

    def _finished(self) -> None:
        if self.client.read_ended and self.client.fin_asked and not self.client.pending:
            self.close()

    def _client_lost(self) -> None:
        self.client_reset()
        self.close()

    def _echo_lost(self) -> None:
        self.reset()

    def _forget(self) -> None:
        with contextlib.suppress(ValueError):
            self.path.relays.remove(self)


class _Echo:
    """The echo behind the proxy, always correct."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.wire = Wire(loop, sock, self._received, self._ended, self._closed, self._drained)

    def _received(self, data: bytes) -> None:
        self.wire.send(data)
        self.wire.hold(len(self.wire.pending) > HIGH_WATER)

    def _ended(self) -> None:
        self.wire.fin()
        self._drained()

    def _drained(self) -> None:
        self.wire.hold(False)
        if self.wire.read_ended and not self.wire.pending:
            self.wire.close()

    def _closed(self) -> None:
        pass


class Path:
    """A listening proxy on a free loopback port, from ``with`` to the end of the block."""

    def __init__(self, relay: Callable[[Path, socket.socket, int], Relay] = Relay) -> None:
        self.loop = Loop()
        self.relay = relay
        #: The open connections, oldest first.
        self.relays: list[Relay] = []
        #: Decides what a flaky path does, in the same way in every run.
        self.random = random.Random(862)
        #: Where a faulty path keeps what must not outlive a connection.
        self.leftover = b""
        self._served = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.loop.sockets.add(self._listener)
        self.port: int = self._listener.getsockname()[1]
        self.loop.selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def __enter__(self) -> Path:
        self.loop.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.stop()

    def die(self) -> None:
        """Reset every connection and stop accepting."""
        self.loop.selector.unregister(self._listener)
        self.loop.sockets.discard(self._listener)
        self._listener.close()
        for relay in list(self.relays):
            relay.reset()

    def _accept(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            self.relay(self, sock, next(self._served))
