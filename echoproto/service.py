"""The echo service with everything that its options plug into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from echoproto.base.bounds import MOST_SECONDS, check_number
from echoproto.base.lifecycle import Drain as DrainInterface
from echoproto.base.lifecycle import Extension
from echoproto.core.factory import EchoFactory
from echoproto.core.group import ConnectionGroup
from echoproto.core.service import ListeningService
from echoproto.drain.drain import Drain
from echoproto.drain.signals import AbortAtSecondSignal
from echoproto.limits.slots import ConnectionSlots, SlotsExtension
from echoproto.net.accept_queue import AcceptQueues
from echoproto.net.connection_options import (
    ConnectionOptions,
    SetConnectionOptions,
    check_keepalive,
)
from echoproto.net.extensions import Certificates, Lane, TLSHalfClose

# Seconds until TCP asks a silent peer whether it is there. Many NAT devices forget an idle
# connection after some minutes, although RFC 5382 (REQ-5) demands two hours.
KEEPALIVE = 60.0


def check_seconds(name: str, seconds: float) -> float:
    """Return a length of time that an option was given.

    :param name: the option.
    :param seconds: its value.
    :raises ValueError: when it is out of range.
    """
    check_number(name, seconds, f"0 to {MOST_SECONDS:.0f} seconds", MOST_SECONDS)
    return seconds


class EchoService(ListeningService):
    """Serves the echo on any number of endpoints.

    It can be started, stopped, and started again.

    :ivar factory: makes and counts its connections.
    :ivar ports: the ports that it listens on now.
    :ivar live: how many connections are open.
    :ivar draining: whether it is stopping: from the moment it is told to, although
        it may still accept connections (``drain_delay``), until the last one ends.
    """

    def __init__(
        self,
        endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint],
        factory: EchoFactory | None = None,
        *,
        reactor: Any = None,
        drain_timeout: float = 10.0,
        drain_delay: float = 0.0,
        fast_lane: bool = True,
        keepalive: float = KEEPALIVE,
    ) -> None:
        """Describe a service; it listens when it is started.

        :param endpoints: where to listen: one stream server endpoint, or several.
        :param factory: makes the connections; a new :class:`EchoFactory` if none is
            given. Several services may share one: a drain concerns the
            connections of its own service only.
        :param reactor: an ``IReactorCore`` and ``IReactorTime``; the global one if none
            is given.
        :param drain_timeout: seconds that open connections get to finish when the
            service stops; 0 aborts them at once.
        :param drain_delay: seconds for which connections are still accepted when the
            service stops; then the ports close, and ``drain_timeout`` begins. Meant
            for load balancers, which need a while to notice.
        :param fast_lane: serve in a :class:`echoproto.net.epoll_lane.EpollLane` below
            the reactor, where the platform has one. Without it a client that pushes
            tiny chunks and never reads can cost 2 MiB instead of 256 KiB.
        :param keepalive: seconds after which TCP asks a silent peer whether it is still
            there, 1 to 32767; 0 for never. One that does not answer is gone after about
            twice the time.
        :raises ValueError: when a time is out of range.
        """
        check_seconds("drain_timeout", drain_timeout)
        check_seconds("drain_delay", drain_delay)
        factory = EchoFactory(reactor=reactor) if factory is None else factory
        self._certificates = Certificates(endpoints)
        extensions: list[Extension] = [
            TLSHalfClose(),
            self._certificates,
            Lane(fast_lane),
            SetConnectionOptions(ConnectionOptions(check_keepalive(keepalive))),
            AcceptQueues(),
            AbortAtSecondSignal(self.abort),
        ]
        if isinstance(factory.slots, ConnectionSlots):
            extensions.append(SlotsExtension(factory.slots))

        def make_drain(connections: ConnectionGroup, clock: Any) -> DrainInterface:
            # Without a port there is nothing to announce.
            return Drain(connections, clock, drain_timeout, drain_delay if self.ports else 0.0)

        super().__init__(endpoints, factory, make_drain, reactor=reactor, extensions=extensions)

    def reload(self) -> None:
        """Load the certificates of the string endpoints again; see :class:`DrainingService`."""
        self._certificates.reload()
