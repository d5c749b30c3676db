"""An echo service that loses nothing, for twistd and for larger Twisted applications.

These names are public; none of them needs a reactor to be imported. Each is
imported when it is first used, since the probe's pytest plugin, which every
run of pytest loads, needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echoproto.client import EchoError as EchoError
    from echoproto.client import EchoTimeout as EchoTimeout
    from echoproto.client import echo as echo
    from echoproto.endpoint import TCPEndpoint as TCPEndpoint
    from echoproto.factory import EchoFactory as EchoFactory
    from echoproto.factory import LogDetail as LogDetail
    from echoproto.limits import Limits as Limits
    from echoproto.listen_queue import AcceptQueue as AcceptQueue
    from echoproto.listen_queue import ListenQueueLimits as ListenQueueLimits
    from echoproto.listen_queue import accept_queue as accept_queue
    from echoproto.listen_queue import clamp_backlog as clamp_backlog
    from echoproto.listen_queue import read_limits as read_limits
    from echoproto.protocol import Echo as Echo
    from echoproto.service import EchoService as EchoService
    from echoproto.workers import WorkersService as WorkersService

_HOMES = {
    "AcceptQueue": "listen_queue",
    "Echo": "protocol",
    "EchoError": "client",
    "EchoFactory": "factory",
    "EchoService": "service",
    "EchoTimeout": "client",
    "Limits": "limits",
    "ListenQueueLimits": "listen_queue",
    "LogDetail": "factory",
    "TCPEndpoint": "endpoint",
    "WorkersService": "workers",
    "accept_queue": "listen_queue",
    "clamp_backlog": "listen_queue",
    "echo": "client",
    "read_limits": "listen_queue",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
