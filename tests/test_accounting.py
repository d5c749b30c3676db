"""Drain, gates, limits, half-close and idle timeout at once: no byte is lost unnoticed.

Every byte that a connection has accepted is returned, or waits at a gate, or is counted: as
discarded after the drain deadline, as unreturned on an idle connection, or with its connection, as
refused, failed or dropped.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echoproto.core.connection import Connection
from echoproto.core.factory import EchoFactory
from echoproto.core.group import ConnectionGroup
from echoproto.drain.drain import FLUSH_TIME, LAST_TIME, Drain
from echoproto.limits.limits import Limits
from echoproto.proxy_protocol.gate import ProxyHeaders
from tests.transports import TCPLikeTransport, TLSLikeTransport

BALANCER = IPv4Address("TCP", "127.0.0.1", 4242)
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.9 4242 7\r\n"


class Client:
    """The other end of one connection.

    :ivar sent: what the server has read from it.
    :ivar unsent: how many bytes the transport holds, since the client does not read.
    :ivar unreturned: how many bytes were given up when the connection was idle.
    :ivar open: whether the connection is.
    """

    def __init__(self, group: ConnectionGroup, transport: TCPLikeTransport) -> None:
        self.transport = transport
        self.connection: Connection = group.buildProtocol(BALANCER)
        self.sent = b""
        self.fin = self.error = False
        self.open = True
        self.unreturned: int | None = None
        self.connection.makeConnection(transport)

    @property
    def tls(self) -> bool:
        return isinstance(self.transport, TLSLikeTransport)

    @property
    def readable(self) -> bool:
        """Whether a reactor would read from it."""
        transport = self.transport
        closing = transport.disconnecting and not self.tls
        aborted = "abortConnection" in transport.calls
        paused = transport.producerState != "producing"
        return self.open and not (self.fin or closing or aborted or paused)

    @property
    def unsent(self) -> int:
        return len(getattr(self.transport, "dataBuffer", b""))

    @property
    def early(self) -> int:
        """How many bytes wait at a gate."""
        return 0 if self.connection._admitted else len(getattr(self.connection, "early", b""))

    def lose(self, error: Exception) -> None:
        self.open = False
        self.error = not isinstance(error, ConnectionDone)
        self.connection.connectionLost(Failure(error))


CLIENTS = st.integers(0, 3)


class Accounting(RuleBasedStateMachine):
    """Clients that do anything in any order, and a server that drains amid them."""

    @initialize(
        headers=st.sampled_from(["", "optional", "required"]),
        idle=st.sampled_from([0.0, 4.0]),
        rate=st.sampled_from([0, 0, 3]),
        per_source=st.sampled_from([0, 0, 2]),
        slots=st.sampled_from([0, 0, 3]),
    )
    def start(self, headers: str, idle: float, rate: int, per_source: int, slots: int) -> None:
        self.clock = Clock()
        self.headers = headers
        self.slots = slots
        self.factory = EchoFactory(
            reactor=self.clock,
            proxy_headers=ProxyHeaders(headers, header_timeout=6) if headers else None,
            limits=Limits(
                max_connections=slots,
                max_per_source=per_source,
                idle_timeout=idle,
                max_bytes_per_second=rate,
            ),
        )
        self.group = ConnectionGroup(self.factory)
        self.clients: list[Client] = []
        self.drain: Drain | None = None
        self.over: Deferred[None] | None = None

    def client(self, number: int) -> Client:
        """One of those that are open."""
        live = [client for client in self.clients if client.open]
        return live[number % len(live)]

    @property
    def any_open(self) -> bool:
        return any(client.open for client in self.clients)

    @precondition(lambda self: self.drain is None)
    @rule(make=st.sampled_from([TCPLikeTransport, TLSLikeTransport]))
    def connect(self, make: type[TCPLikeTransport]) -> None:
        transport: Any = make()
        transport.peerAddr = BALANCER
        if isinstance(transport, TLSLikeTransport):
            # The rate limit bounds what is read at once where it is read.
            transport.transport = TCPLikeTransport()  # type: ignore[attr-defined]
        self.clients.append(Client(self.group, transport))

    @precondition(lambda self: self.any_open)
    @rule(number=CLIENTS, data=st.binary(min_size=1, max_size=9) | st.just(b"PROXY "))
    def receive(self, number: int, data: bytes) -> None:
        self._receive(self.client(number), data)

    @precondition(lambda self: self.any_open)
    @rule(number=CLIENTS, size=st.integers(1, len(HEADER)), more=st.binary(max_size=3))
    def receive_header(self, number: int, size: int, more: bytes) -> None:
        """As far as it has not come yet."""
        client = self.client(number)
        if HEADER.startswith(client.sent):
            rest = HEADER[len(client.sent) :][:size]
            whole = client.sent + rest == HEADER
            self._receive(client, rest + more if whole else rest)

    def _receive(self, client: Client, data: bytes) -> None:
        if data and client.readable:
            client.sent += data
            client.connection.dataReceived(data)

    @precondition(lambda self: self.any_open)
    @rule(number=CLIENTS)
    def end_of_input(self, number: int) -> None:
        client = self.client(number)
        if client.readable:
            client.fin = True
            client.connection.readConnectionLost()

    @precondition(lambda self: self.any_open)
    @rule(number=CLIENTS, size=st.integers(1, 99))
    def stop_reading(self, number: int, size: int) -> None:
        client = self.client(number)
        transport: Any = client.transport
        if transport.producer is not None:
            transport.dataBuffer, transport.offset = bytes(size), 0
            transport.producer.pauseProducing()

    @precondition(lambda self: self.any_open)
    @rule(number=CLIENTS)
    def read_again(self, number: int) -> None:
        client = self.client(number)
        transport: Any = client.transport
        if client.unsent and client.unreturned is None:
            transport.dataBuffer = b""
            if transport.producer is not None:
                transport.producer.resumeProducing()

    @precondition(lambda self: self.any_open)
    @rule(number=CLIENTS)
    def reset(self, number: int) -> None:
        self.client(number).lose(ConnectionLost())

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds * 8))):
            self.clock.advance(min(seconds, 0.125))
            self._turn()

    def _turn(self) -> None:
        """End what closes, as a reactor does in its next turn."""
        for client in self.clients:
            if client.connection.ending is not None and client.unreturned is None:
                client.unreturned = client.unsent + client.early
            if not client.open:
                continue
            if "abortConnection" in client.transport.calls:
                client.lose(ConnectionAborted())
            elif client.transport.disconnecting and not client.unsent and not client.tls:
                client.lose(ConnectionDone())

    # Seldom without any time: that is the end of everything.
    @precondition(lambda self: self.drain is None and len(self.clients) > 2)
    @rule(timeout=st.sampled_from([1.0, 1.0, 5.0, 10.0, 0.0]))
    def stop(self, timeout: float) -> None:
        self.drain = Drain(self.group, self.clock, timeout)
        self.over = self.drain.run(lambda: succeed(None))
        self._turn()

    @precondition(lambda self: self.drain is not None and self.any_open)
    @rule(seldom=st.integers(0, 9))
    def abort(self, seldom: int) -> None:
        assert self.drain is not None
        if not seldom:
            self.drain.abort()
            self._turn()

    @invariant()
    def every_byte_is_accounted_for(self) -> None:
        for client in self.clients:
            connection, back = client.connection, client.transport.value()
            if connection.refused is not None:
                assert back == b""
                continue
            payload = client.sent
            if connection.via is not None:
                payload = payload[len(HEADER) :]
            assert payload.startswith(back)
            assert connection.bytes_echoed == len(back)
            left = len(payload) - len(back) - connection.bytes_discarded
            # What waits at a gate is lost only with its connection, which is counted.
            waits = client.open or client.error or client.unreturned is not None
            at_gate = client.early if waits and not connection._finishing else 0
            assert left == at_gate

    @invariant()
    def the_counters_say_so(self) -> None:
        stats, clients = self.factory.stats, self.clients
        closed = [client for client in clients if not client.open]
        assert stats.accepted == len(clients)
        assert stats.bytes_echoed == sum(len(client.transport.value()) for client in clients)
        assert stats.bytes_discarded == sum(c.connection.bytes_discarded for c in closed)
        assert stats.bytes_unreturned == sum(client.unreturned or 0 for client in clients)
        refused = [client for client in clients if client.connection.refused is not None]
        assert sum(stats.refused.values()) == len(refused)
        ended = [client for client in clients if client.connection.ending is not None]
        assert stats.ended["idle"] == len(ended)
        failed = [c for c in closed if c.error and c not in refused and c not in ended]
        assert stats.failed == len(failed)
        assert self.factory.live == self.group.live == len(clients) - len(closed)

    def teardown(self) -> None:
        if self.drain is None:
            self.stop(0.0)
        assert self.over is not None
        self.wait(10 + FLUSH_TIME + LAST_TIME + 1)
        assert self.over.called
        self.every_byte_is_accounted_for()
        self.the_counters_say_so()
        assert self.factory.live == 0
        if self.factory.slots is not None:
            assert self.factory.slots.available == self.slots  # type: ignore[attr-defined]
        assert self.clock.getDelayedCalls() == []


def test_every_byte_is_returned_or_counted() -> None:
    run_state_machine_as_test(
        Accounting, settings=settings(max_examples=10, stateful_step_count=25)
    )


@pytest.mark.slow
def test_every_byte_is_returned_or_counted_in_many_orders() -> None:
    run_state_machine_as_test(Accounting, settings=settings(max_examples=300))
