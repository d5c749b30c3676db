"""What an operator should know of a start that works: limits that the options do not fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import Logger

from echoproto.command.settings import Settings
from echoproto.net.listen_queue import parse_limit

try:
    import resource
except ImportError:
    # Windows.
    resource = None  # type: ignore[assignment]

_log = Logger(namespace="echoproto")

# Descriptors of a process besides its connections: listening sockets, pipes, logs, and the
# 64 connections of the status port.
_RESERVE = 100

_TCP_MIGRATE_REQ = Path("/proc/sys/net/ipv4/tcp_migrate_req")


def log_hints(settings: Settings) -> None:
    """Log what does not fit.

    :param settings: of the server that starts.
    """
    for warning in _too_few_descriptors(settings):
        _log.warn("{warning}", warning=warning, event="few_descriptors")
    if settings.reuse_port and _migrates() is False:
        _log.info(
            "net.ipv4.tcp_migrate_req is 0: a process that closes a port shared by "
            "--reuse-port can reset a few clients that connect at that moment",
            event="no_migration",
        )


def _too_few_descriptors(settings: Settings) -> Iterator[str]:
    """Yield a warning if --max-connections needs more descriptors than a process may have."""
    most = settings.limits.max_connections
    if not most or resource is None:
        return
    may_have, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = math.ceil(most / settings.workers)
    if may_have != resource.RLIM_INFINITY and may_have < share + _RESERVE:
        yield (
            f"--max-connections {most} needs {share + _RESERVE} descriptors per process, and "
            f"RLIMIT_NOFILE allows {may_have}: beyond, clients wait in the accept queue. "
            f"To raise it: ulimit -n {share + _RESERVE}, or LimitNOFILE= of systemd"
        )


def _migrates() -> bool | None:
    """Tell whether the kernel hands on the handshakes of a port that closes.

    Linux 5.14 and later hand them to another socket of the port, if asked to. ``None``
    where that cannot be read.
    """
    try:
        with _TCP_MIGRATE_REQ.open("rb") as file:
            return parse_limit(file.read(64)) > 0
    except (OSError, ValueError):
        return None
