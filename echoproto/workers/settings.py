"""What a parent tells a worker when it starts it: plain data, as JSON on its command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class InheritedSocket:
    """A listening socket that a worker inherits.

    :ivar backlog: the length of the accept queue that was asked for, in connections;
        ``None`` if the parent has inherited it too.
    :ivar wrapper: the endpoint string that it was opened for, if that adds a layer, as
        TLS, of which the socket knows nothing.
    """

    backlog: int | None
    wrapper: str | None


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker serves; the members are those of :class:`echoproto.WorkersService`.

    :ivar reactor: the module that installs the parent's kind of reactor.
    :ivar sockets: what it inherits, in the order of their descriptors.
    :ivar protocol: the module and the name of the protocol's class.
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

    def as_json(self) -> str:
        """Return the worker's command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        """Return what :meth:`as_json` wrote in the parent."""
        members = json.loads(text)
        sockets = [InheritedSocket(**each) for each in members.pop("sockets")]
        return cls(sockets=sockets, **members)
