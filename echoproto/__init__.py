"""An echo service that loses nothing, for twistd and for larger Twisted applications.

These names are public; none of them needs a reactor to be imported. Each is
imported when it is first used, because the probe's pytest plugin, which every
run of pytest loads, needs none of them.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from echoproto.client import EchoError as EchoError
    from echoproto.client import EchoTimeout as EchoTimeout
    from echoproto.client import echo as echo
    from echoproto.core.factory import EchoFactory as EchoFactory
    from echoproto.core.factory import LogDetail as LogDetail
    from echoproto.core.listen_queue import AcceptQueue as AcceptQueue
    from echoproto.core.listen_queue import ListenQueueLimits as ListenQueueLimits
    from echoproto.core.listen_queue import accept_queue as accept_queue
    from echoproto.core.listen_queue import clamp_backlog as clamp_backlog
    from echoproto.core.listen_queue import read_limits as read_limits
    from echoproto.core.protocol import Echo as Echo
    from echoproto.core.service import EchoService as EchoService
    from echoproto.limits.per_source import Limits as Limits
    from echoproto.net.tcp_endpoint import TCPEndpoint as TCPEndpoint
    from echoproto.workers.parent import WorkersService as WorkersService

_HOMES = {
    "AcceptQueue": "core.listen_queue",
    "Echo": "core.protocol",
    "EchoError": "client",
    "EchoFactory": "core.factory",
    "EchoService": "core.service",
    "EchoTimeout": "client",
    "Limits": "limits.per_source",
    "ListenQueueLimits": "core.listen_queue",
    "LogDetail": "core.factory",
    "TCPEndpoint": "net.tcp_endpoint",
    "WorkersService": "workers.parent",
    "accept_queue": "core.listen_queue",
    "clamp_backlog": "core.listen_queue",
    "echo": "client",
    "read_limits": "core.listen_queue",
}

__all__ = list(_HOMES)

# A type checker reads the imports above. If it saw this function, it would accept any
# name, misspelt ones included.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name from where it lives (PEP 562)."""
        if name == "__version__":
            return version("echoproto")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
