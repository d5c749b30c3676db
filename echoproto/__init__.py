"""An echo service that loses nothing, for twistd and for larger Twisted applications.

These names are public; none of them needs a reactor to be imported.
"""

from echoproto.client import EchoError, EchoTimeout, echo
from echoproto.endpoint import TCPEndpoint
from echoproto.factory import EchoFactory, LogDetail
from echoproto.listen_queue import (
    AcceptQueue,
    ListenQueueLimits,
    accept_queue,
    clamp_backlog,
    read_limits,
)
from echoproto.protocol import Echo
from echoproto.service import EchoService
from echoproto.workers import WorkersService

__all__ = [
    "AcceptQueue",
    "Echo",
    "EchoError",
    "EchoFactory",
    "EchoService",
    "EchoTimeout",
    "ListenQueueLimits",
    "LogDetail",
    "TCPEndpoint",
    "WorkersService",
    "accept_queue",
    "clamp_backlog",
    "echo",
    "read_limits",
]
