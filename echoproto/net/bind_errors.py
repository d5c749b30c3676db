"""Why a socket cannot be bound, and what would work: one table for all kinds of listeners."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.error import CannotListenError


@dataclass(frozen=True)
class BindError:
    """Why a socket cannot be bound.

    :ivar subject: what is wrong: ``interface``, ``port``, ``path`` or ``socket``.
    :ivar reason: what is wrong with it.
    :ivar allowed: what would work.
    """

    subject: str
    reason: str
    allowed: str


_NOT_RESOLVED = BindError("interface", "does not resolve ({why})", "an address or a host name")
_NOT_PERMITTED = BindError(
    "port",
    "this user may not bind it ({why})",
    "a port of net.ipv4.ip_unprivileged_port_start or above; or start as root, "
    "with twistd's --uid and --gid to serve as another user",
)

# By the errno of bind(2).
_TCP = {
    errno.EADDRINUSE: BindError("port", "in use{on}", "a free port, or 0 to take one"),
    errno.EADDRNOTAVAIL: BindError(
        "interface", "not an address of this machine", "an interface that `ip address` shows"
    ),
    errno.EINVAL: BindError(
        "interface",
        "cannot be bound ({why})",
        "an interface that `ip address` shows; a link-local one with its device, "
        "as in fe80::1%eth0",
    ),
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
}

_FREE_PATH = "a path that does not exist yet, in a directory that this user may write to"
_NOT_SERVED = "another one; or this one, when that server has stopped"
_UNIX_REASONS = {
    errno.EADDRINUSE: "the path exists",
    errno.ENOENT: "no such directory",
}
_LISTENING_SOCKET = "a listening stream socket (ListenStream=, Accept=no)"
_SYSTEMD_REASONS = {errno.EBADF: "no open socket; each can be taken once"}


def explain(error: BaseException | None, kind: str = "tcp", address: str = "") -> BindError | None:
    """Explain a failed ``listen``.

    :param error: the exception, as a rule ``twisted.internet.error.CannotListenError``.
    :param kind: of the endpoint: ``unix``, ``systemd``, or any other, which is TCP.
    :param address: to name with a port in use, if it is not obvious.
    :returns: ``None`` for an error that the tables do not have.
    """
    why: Any = error.socketError if isinstance(error, CannotListenError) else error
    code: int = getattr(why, "errno", None) or 0
    text = text_of(error)
    if kind == "unix":
        reason = _UNIX_REASONS.get(code, text)
        allowed = _NOT_SERVED if code == errno.EWOULDBLOCK else _FREE_PATH
        if not code:
            # Python's, of a path that does not fit into an address (unix(7)).
            allowed = "a path of 1 to 107 bytes"
        return BindError("path", reason, allowed)
    if kind == "systemd":
        return BindError("socket", _SYSTEMD_REASONS.get(code, text), _LISTENING_SOCKET)
    # Our endpoint raises ValueError for names that cannot be looked up.
    unresolved = isinstance(error, CannotListenError) and isinstance(why, ValueError)
    if unresolved or isinstance(why, socket.gaierror):
        entry: BindError | None = _NOT_RESOLVED
    else:
        entry = _TCP.get(code)
    if entry is None:
        return None
    on = f" on {address}" if address else ""
    return BindError(entry.subject, entry.reason.format(why=text, on=on), entry.allowed)


def text_of(error: BaseException | None) -> str:
    """Return the text of an error, without its number.

    :param error: as for :func:`explain`.
    """
    why: Any = error.socketError if isinstance(error, CannotListenError) else error
    return getattr(why, "strerror", None) or str(why)
