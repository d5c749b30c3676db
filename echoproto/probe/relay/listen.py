"""Where a relay listens: ``host:port``, ``[::1]:port`` or ``unix:/path``."""

from __future__ import annotations

import contextlib
import os
import re
import socket

__all__ = ["BACKLOG", "ListenError", "bound_to", "listen_at", "remove_file"]

BACKLOG = 1024
"""How many clients may wait to be accepted; the kernel may allow fewer."""

_FORMS = "host:port ([::1]:port for IPv6; port 0 is a free one) or unix:/path"
_PLACE = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>[0-9]{1,5})")


class ListenError(ValueError):
    """It is not possible to listen there; the message is one line."""


def listen_at(text: str) -> socket.socket:
    """Return a listening socket.

    Args:
        text: ``127.0.0.1:9998``, ``[::1]:0`` or ``unix:/run/relay``.

    Raises:
        ListenError: naming what is wrong and what is allowed.
    """
    try:
        if text.startswith("unix:/"):
            return _listen_unix(text.removeprefix("unix:"))
        match = _PLACE.fullmatch(text)
        if match is None or int(match["port"]) > 65535 or match["host"] == "unix":
            raise ListenError(f"LISTEN {text!r} is no address; must be {_FORMS}")
        host = match["six"] or match["host"]
        found = socket.getaddrinfo(host, int(match["port"]), type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno or 0)
        raise ListenError(f"LISTEN {text!r}: {reason}") from None


def _listen_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def bound_to(listener: socket.socket) -> str:
    """Return where a socket listens, as a target is written."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def remove_file(place: str) -> None:
    """Remove the file of a UNIX listener.

    Args:
        place: what :func:`bound_to` has returned.
    """
    if place.startswith("unix:"):
        with contextlib.suppress(OSError):
            os.unlink(place.removeprefix("unix:"))
