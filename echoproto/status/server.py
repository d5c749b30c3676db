"""The status port: opened before the service, closed after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from echoproto.base.address import format_address
from echoproto.net.extensions import Certificates, accept_any_unix_client
from echoproto.net.ports import listen_now
from echoproto.status.collector import Collector
from echoproto.status.site import StatusSite

_log = Logger(namespace="echoproto")


class StatusServer:
    """Serves the status on an endpoint."""

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        collector: Collector,
        reactor: Any,
        hosts: Iterable[str] = (),
    ) -> None:
        """Describe a server; it listens from :meth:`open` on.

        :param endpoint: where.
        :param collector: gathers what there is to show.
        :param reactor: counts the time.
        :param hosts: the names of this server, besides its addresses and ``localhost``.
        """
        self._endpoint = endpoint
        self._collector = collector
        self._reactor = reactor
        self._site = StatusSite(collector, reactor, hosts)
        self._port: IListeningPort | None = None

    @property
    def ports(self) -> list[IListeningPort]:
        """The open port, if it is open."""
        return [] if self._port is None else [self._port]

    def open(self) -> None:
        """Listen, and begin to measure.

        :raises Exception: what the endpoint's ``listen`` failed with.
        :raises RuntimeError: when that takes its time.
        """
        self._port = listen_now(self._endpoint, self._site)
        accept_any_unix_client(self._port)
        self._collector.start()
        self._reactor.callWhenRunning(self._announce)

    def reload(self) -> None:
        """Load the endpoint's certificates again, if it has any, and log the outcome."""
        Certificates(self._endpoint).reload()

    def close(self) -> Deferred[Any]:
        """Stop listening, and close the connections."""
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        self._collector.stop()
        self._site.close()
        return maybeDeferred(port.stopListening)

    def _announce(self) -> None:
        if self._port is not None:
            _log.info("status on {address}", address=format_address(self._port.getHost()))
