"""What a parent tells a worker when it starts it: plain data, as JSON on its command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from echoproto.net.tls_settings import NO_DEMANDS, TLSSettings


@dataclass(frozen=True)
class InheritedSocket:
    """The listening sockets of one endpoint, which a worker inherits.

    :ivar backlog: the length of the accept queue that was asked for, in connections;
        ``None`` if the parent has inherited it too.
    :ivar wrapper: the endpoint string that it was opened for, if that adds a layer, as
        TLS, of which the socket knows nothing.
    :ivar descriptors: one for each worker, or one that all share.
    :ivar tls: what that endpoint's clients need.
    """

    backlog: int | None
    wrapper: str | None
    descriptors: Sequence[int]
    tls: TLSSettings = NO_DEMANDS

    @property
    def shared(self) -> bool:
        """Whether all workers accept from one socket."""
        return len(self.descriptors) == 1

    def of_worker(self, number: int) -> int:
        """Return the descriptor of a worker's socket.

        :param number: the worker's, from 0.
        """
        return self.descriptors[number % len(self.descriptors)]


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker serves; the members are those of :class:`echoproto.WorkersService`.

    :ivar reactor: the module that installs the parent's kind of reactor.
    :ivar sockets: what it inherits, for each endpoint.
    :ivar protocol: the module and the name of the protocol's class.
    :ivar number: which worker it is, from 0.
    :ivar version: of echoproto, in the parent.
    """

    reactor: str
    sockets: Sequence[InheritedSocket]
    protocol: str
    log: str
    limits: dict[str, Any]
    proxy_headers: dict[str, Any] | None
    drain_timeout: float
    drain_delay: float
    fast_lane: bool
    keepalive: float
    number: int = 0
    version: str = version("echoproto")

    def as_json(self) -> str:
        """Return the worker's command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        """Return what :meth:`as_json` wrote in the parent."""
        members = json.loads(text)
        sockets = [
            InheritedSocket(**{**each, "tls": TLSSettings(**each["tls"])})
            for each in members.pop("sockets")
        ]
        return cls(sockets=sockets, **members)
