"""What sockets add to a service: the epoll lane, half-close over TLS, and new certificates."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from echoproto.base.lifecycle import Extension, as_endpoints
from echoproto.net.acceptor import Acceptor, set_transport
from echoproto.net.epoll_lane import EpollLane
from echoproto.net.ports import TCP_PORTS, UNIX_PORTS
from echoproto.net.string_endpoint import ListenError, StringEndpoint
from echoproto.net.tls import let_half_close
from echoproto.net.transports import StockTransport
from echoproto.net.unix_transports import StockUNIXTransport

_log = Logger(namespace="echoproto")


def accept_any_unix_client(port: IListeningPort) -> None:
    """Accept every client of a UNIX port outside the lane, and ignore descriptors that it passes.

    Twisted's accept loop takes a client whose name has four characters for one of IPv6, and
    then the reactor drops the port.

    :param port: any; only UNIX ports are changed.
    """
    if type(port) in UNIX_PORTS:
        Acceptor.of(port).accept_with(StockUNIXTransport)


class TLSHalfClose(Extension):
    """Adds half-close to the TLS layers of a service's ports."""

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        let_half_close(port)


class Lane(Extension):
    """Moves a service's ports into an epoll lane, on platforms that have one."""

    def __init__(self, fast: bool) -> None:
        """Create the extension; the lane is opened when the service starts.

        :param fast: whether to use an epoll lane at all.
        """
        self._fast = fast
        self._lane: EpollLane | None = None

    def starting(self, reactor: Any) -> None:
        if self._fast and EpollLane.available():
            self._lane = EpollLane(reactor)

    def port_opened(self, port: IListeningPort, backlog: int | None) -> None:
        adopted = self._lane is not None and self._lane.adopt(port)
        if adopted:
            return
        if type(port) in TCP_PORTS:
            # One that stays gets a transport with a lower memory limit.
            set_transport(port, StockTransport)
        accept_any_unix_client(port)

    def stopped(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None


class Certificates(Extension):
    """Replaces the certificates of a service's TLS endpoints while it serves."""

    def __init__(self, endpoints: IStreamServerEndpoint | Sequence[IStreamServerEndpoint]) -> None:
        """Find the endpoints that can load their certificates again.

        :param endpoints: of the service. Those that are no
            :class:`echoproto.StringEndpoint` have no files that are known here.
        """
        self._endpoints = {
            number: endpoint
            for number, endpoint in enumerate(as_endpoints(endpoints))
            if isinstance(endpoint, StringEndpoint)
        }

    def reload(self, only: Container[int] | None = None) -> list[int]:
        """Load the certificates again, and log the outcome, in one line for each endpoint.

        :param only: the places of the endpoints to reload; all if it is ``None``.
        :returns: the places of those that have new certificates.
        """
        reloaded = self._load(only)
        for loaded in reloaded.values():
            _log.info("reloaded {loaded}", loaded=loaded)
        return list(reloaded)

    def check(self) -> list[int]:
        """Do as :meth:`reload`, and log only what cannot be used."""
        return list(self._load(None))

    def stopped(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.flush()

    def _load(self, only: Container[int] | None) -> dict[int, str]:
        reloaded = {}
        for number, endpoint in self._endpoints.items():
            if only is not None and number not in only:
                continue
            try:
                loaded = endpoint.reload()
            except ListenError as refusal:
                _log.error("cannot reload {refusal}; the old one stays in use", refusal=refusal)
            else:
                if loaded is not None:
                    reloaded[number] = loaded
        return reloaded
