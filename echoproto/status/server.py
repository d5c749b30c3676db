"""The status port: opened before the service, closed after it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from echoproto.base.address import format_address
from echoproto.net.ports import listen_now
from echoproto.status.collector import Collector
from echoproto.status.site import StatusSite

_log = Logger(namespace="echoproto")


class StatusServer:
    """Serves the status on an endpoint."""

    def __init__(self, endpoint: IStreamServerEndpoint, collector: Collector, reactor: Any) -> None:
        """Describe a server; it listens from :meth:`open` on.

        :param endpoint: where.
        :param collector: gathers what there is to show.
        :param reactor: counts the time.
        """
        self._endpoint = endpoint
        self._collector = collector
        self._reactor = reactor
        self._site = StatusSite(collector, reactor)
        self._port: IListeningPort | None = None

    def open(self) -> None:
        """Listen, and begin to measure.

        :raises Exception: what the endpoint's ``listen`` failed with.
        :raises RuntimeError: when that takes its time.
        """
        self._port = listen_now(self._endpoint, self._site)
        self._collector.start()
        self._reactor.callWhenRunning(self._announce)

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
