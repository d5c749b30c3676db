"""A relay in a time of its own, with real sockets.

It runs in the thread of the test, and its clock stands still unless the test lets time pass. So
what a timer does is known exactly, and does not depend on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from echoproto.probe.relay.fault import ChosenFault
from echoproto.probe.relay.loop import Loop
from echoproto.probe.relay.server import Relay
from echoproto.probe.relay.stage import Between, Place, Stage
from tests.probe.faulty_paths.faults import named
from tests.probe.relay.clients import PATIENCE, port_of, read_all

#: How long an answer, and what comes after an end, is waited for, in simulated milliseconds.
_AWAITED_MS = 5_000


class SimulatedRelay:
    """A relay with an echo behind it, from ``with`` to the end of the block.

    :param faults: what it does wrong, as ``--fault`` takes it.
    """

    def __init__(self, *faults: str) -> None:
        self._seconds = 0.0
        self._opened: list[Between] = []
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = port_of(listener)
        self.loop = Loop(self._now)
        watched = ChosenFault("nothing", self._watch)
        self._relay = Relay(listener, [*map(named, faults), watched], loop=self.loop)

    def __enter__(self) -> SimulatedRelay:
        return self

    def __exit__(self, *error: object) -> None:
        self._relay.stop()
        self._relay.run()

    @property
    def ms(self) -> float:
        """How much time has passed, in milliseconds, to a hundredth."""
        return round(1000 * self._seconds, 2)

    def connect(self, receive_buffer: int | None = None) -> SimulatedClient:
        """A client that the relay has accepted.

        :param receive_buffer: its ``SO_RCVBUF`` in bytes, as large as usual by default.
        """
        number = len(self._opened)
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        self.turn_until(lambda: len(self._opened) > number)
        self.settle()
        return SimulatedClient(self, sock, self._opened[number])

    def turn_until(self, met: Callable[[], bool]) -> None:
        """Let the relay handle what comes, while time stands still, until a condition is met."""
        while not met():
            assert self.loop.turn(PATIENCE), "nothing comes"

    def settle(self) -> None:
        """Let the relay and the echo handle all that there is; no time passes."""
        while self.loop.turn(0):
            pass

    def advance(self, ms: float) -> None:
        """Let time pass; each timer is called at its time, and what follows from it happens."""
        until = self._seconds + ms / 1000
        while (due := self.loop.next_due) is not None and due <= until:
            self._seconds = max(self._seconds, due)
            self.loop.turn(0)
            self.settle()
        self._seconds = max(self._seconds, until)

    def converse(self, *steps: bytes | int) -> tuple[bytes, str]:
        """Send bytes, each read by itself, and at once after the last FIN; return what came back.

        :param steps: bytes that are sent, or milliseconds that pass.
        """
        with contextlib.closing(self.connect()) as client:
            try:
                for step in steps:
                    if isinstance(step, int):
                        self.advance(step)
                    else:
                        client.send(step)
                client.end()
            except OSError:
                # The kernel reports a reset once.
                return read_all(client.sock)[0], "reset"
            self.advance(_AWAITED_MS)
            return client.received()

    def _now(self) -> float:
        # Reading the clock takes a microsecond, so that a timer that is set again, because of a
        # rounding a moment too early, is not due again at the same time.
        self._seconds += 1e-6
        return self._seconds

    def _watch(self, place: Place) -> Stage:
        self._opened.append(place.connection)
        return Stage(place)


class SimulatedClient:
    """A client of a simulated relay.

    :param relay: the relay.
    :param sock: is connected to it.
    :param connection: what the relay knows of it.
    """

    def __init__(self, relay: SimulatedRelay, sock: socket.socket, connection: Between) -> None:
        self._relay = relay
        self.sock = sock
        self.connection = connection
        self._returned = 0

    def send(self, data: bytes) -> None:
        """Send, and let the relay read it."""
        side = self.connection.client
        total = side.bytes_in + len(data)
        self.sock.sendall(data)
        self._relay.turn_until(lambda: side.bytes_in >= total or not side.open)
        self._relay.settle()

    def end(self) -> None:
        """Send FIN, and let the relay read it."""
        side = self.connection.client
        self.sock.shutdown(socket.SHUT_WR)
        self._relay.turn_until(lambda: side.read_ended or not side.open)
        self._relay.settle()

    def received(self) -> tuple[bytes, str]:
        """What has come so far and was not returned yet, and ``eof``, ``reset`` or ``open``."""
        side = self.connection.client
        if not side.open or side.fin_sent:
            return read_all(self.sock)
        new = side.bytes_out - self._returned
        self._returned += new
        return self.sock.recv(new, socket.MSG_WAITALL) if new else b"", "open"

    def fill(self, most: int) -> int:
        """Send until nobody takes any more; return how many bytes were taken.

        :param most: how many to send at most.
        """
        self.sock.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while taken < most:
                taken += self.sock.send(bytes(min(65536, most - taken)))
                self._relay.settle()
        self.sock.settimeout(PATIENCE)
        return taken

    def read_on(self) -> tuple[bytes, str]:
        """Read while the relay goes on, to the end; return as :meth:`received` does."""
        self.sock.setblocking(False)
        came = bytearray()
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                self._relay.loop.turn(0.01)
            except ConnectionResetError:
                return bytes(came), "reset"
            else:
                if not data:
                    return bytes(came), "eof"
                came += data

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
