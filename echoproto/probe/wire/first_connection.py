"""Which address of a target accepts a connection."""

from __future__ import annotations

import errno
import os
import socket

from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.opening import open_now
from echoproto.probe.wire.reasons import is_abort, reason
from echoproto.probe.wire.target import Target, TargetError

__all__ = ["connect", "place"]


def connect(
    target: Target, rate: float | None = None, timeout: float = 5.0, keep: bool = False
) -> Connector:
    """Return a connector to the first of the target's addresses that accepts a connection.

    With more to set up than a connection, such as proxies, one is set up completely.

    Args:
        target: where to connect.
        rate: as for :class:`Connector`.
        timeout: seconds to wait for each address.
        keep: whether the connection is that of the first conversation, which follows at once.

    Raises:
        TargetError: if there is none; the message says why.
        LocalError: if this machine is out of ports or descriptors.
    """
    reasons = []
    for address in target.addresses():
        made = Connector(target, address, rate)
        why = _why_not(made, timeout, keep)
        if not why:
            return made
        if not why.startswith("proxy "):
            why = f"{f'proxy {target.via[0]}' if target.via else _address(made)}: {why}"
        reasons.append(why)
    raise TargetError(f"cannot connect to {target}: {'; '.join(reasons)}")


def _why_not(made: Connector, timeout: float, keep: bool) -> str:
    """Return why no connection can be set up; empty if one can."""
    target = made.target
    if target.is_single:
        return ""
    if target.via or target.skip_banner or target.scheme in ("ws", "wss"):
        opening = open_now(made, timeout)
        if opening.channel is not None:
            opening.channel.close()
        return opening.error.removeprefix("no connection: ")
    if target.scheme == "exec":
        return ""
    sock = made.new_socket()
    sock.settimeout(timeout)
    try:
        _connect(made, sock)
    except OSError as error:
        sock.close()
        return "" if is_abort(error) else reason(error, timeout)
    except BaseException:
        sock.close()
        raise
    if keep:
        made.keep(sock)
    else:
        sock.close()
    return ""


def _connect(made: Connector, sock: socket.socket) -> None:
    error = made.connect(sock)
    if error == errno.EWOULDBLOCK and made.family != socket.AF_UNIX:
        raise TimeoutError
    if error:
        raise OSError(error, os.strerror(error))


def place(connector: Connector) -> str:
    """Return what was connected to, for people: an address, or the target and its proxies."""
    return str(connector.target) if connector.target.via else _address(connector)


def _address(connector: Connector) -> str:
    where = connector.where
    if isinstance(where, str):
        return where
    host = f"[{where[0]}]" if ":" in where[0] else where[0]
    return f"{host}:{where[1]}"
