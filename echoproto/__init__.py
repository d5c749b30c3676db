"""An echo service that loses nothing, for twistd and for larger Twisted applications.

These names are public; none of them needs a reactor to be imported. Each is
imported when it is first used, because the probe's pytest plugin, which every
run of pytest loads, needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from echoproto.client import EchoError as EchoError
    from echoproto.client import EchoTimeout as EchoTimeout
    from echoproto.client import echo as echo
    from echoproto.core.connection_log import LogDetail as LogDetail
    from echoproto.core.factory import EchoFactory as EchoFactory
    from echoproto.core.protocol import Echo as Echo
    from echoproto.core.stats import Stats as Stats
    from echoproto.limits.limits import Limits as Limits
    from echoproto.net.listen_queue import AcceptQueue as AcceptQueue
    from echoproto.net.listen_queue import ListenQueueLimits as ListenQueueLimits
    from echoproto.net.listen_queue import accept_queue as accept_queue
    from echoproto.net.listen_queue import clamp_backlog as clamp_backlog
    from echoproto.net.listen_queue import read_limits as read_limits
    from echoproto.net.string_endpoint import StringEndpoint as StringEndpoint
    from echoproto.net.tcp_endpoint import TCPEndpoint as TCPEndpoint
    from echoproto.net.tls_settings import TLSSettings as TLSSettings
    from echoproto.proxy_protocol.gate import ProxyHeaders as ProxyHeaders
    from echoproto.proxy_protocol.gate import ProxyMode as ProxyMode
    from echoproto.service import EchoService as EchoService
    from echoproto.workers.parent import WorkersService as WorkersService

_HOMES = {
    "AcceptQueue": "net.listen_queue",
    "Echo": "core.protocol",
    "EchoError": "client",
    "EchoFactory": "core.factory",
    "EchoService": "service",
    "EchoTimeout": "client",
    "Limits": "limits.limits",
    "ListenQueueLimits": "net.listen_queue",
    "LogDetail": "core.connection_log",
    "ProxyHeaders": "proxy_protocol.gate",
    "ProxyMode": "proxy_protocol.gate",
    "Stats": "core.stats",
    "StringEndpoint": "net.string_endpoint",
    "TCPEndpoint": "net.tcp_endpoint",
    "TLSSettings": "net.tls_settings",
    "WorkersService": "workers.parent",
    "accept_queue": "net.listen_queue",
    "clamp_backlog": "net.listen_queue",
    "echo": "client",
    "read_limits": "net.listen_queue",
}

__all__ = list(_HOMES)

# A type checker reads the imports above. If it saw this function, it would accept any
# name, misspelt ones included.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name from where it lives (PEP 562)."""
        if name == "__version__":
            # Slow to import, as the zipfile and email that it needs.
            from importlib.metadata import version

            return version("echoproto")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
