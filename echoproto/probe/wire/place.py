"""Where a target is, without its options: the text forms that are read."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import socket
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

__all__ = ["FORMS", "Place", "TargetError", "command_of", "parse_place"]

FORMS = (
    "host:port, tls:host:port, unix:/path, ws://host/path, wss://host/path, exec:COMMAND or fd:N "
    "(IPv6 in brackets: [::1]:7)"
)

ECHO_PORT = 7
"""The port of the echo service (RFC 862), for a target that names none."""

_HOST_AND_PORT = re.compile(
    r"(?:(?P<scheme>tcp|tls):(?![0-9]+\Z))?"  # "tcp:7" is port 7 of a host named tcp
    r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]/\s]+))(?::(?P<port>[^/]*))?"
)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_PTY = re.compile(r"(?P<command>.*),pty=(?P<pty>[01])", re.DOTALL)
_WEB_PORTS = {"ws": 80, "wss": 443}

_MAX_UNIX_PATH = 107  # sun_path, less its terminating NUL (unix(7))


class TargetError(ValueError):
    """The target cannot be used as given; the message is one line."""


class Place(NamedTuple):
    """Where a target is.

    Attributes:
        scheme: ``tcp``, ``tls``, ``unix``, ``ws``, ``wss``, ``exec`` or ``fd``.
        host: a name or an address; empty for those without.
        port: 1 to 65535; 0 for those without.
        path: of the UNIX socket, or of a WebSocket with its query; the command of ``exec``; the
            number of ``fd``.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if not self.host:
            return f"{self.scheme}:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme in _WEB_PORTS:
            port = "" if self.port == _WEB_PORTS[self.scheme] else f":{self.port}"
            return f"{self.scheme}://{host}{port}{self.path}"
        return f"{'tls:' if self.scheme == 'tls' else ''}{host}:{self.port}"


def parse_place(text: str) -> Place:
    """Read one of the forms that ``FORMS`` lists.

    Raises:
        TargetError: naming what is wrong and what is allowed.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        if not rest or "\0" in rest or len(os.fsencode(rest)) > _MAX_UNIX_PATH:
            raise TargetError(
                f"target {text!r}: the path of a UNIX socket has 1 to {_MAX_UNIX_PATH} bytes"
            )
        return Place("unix", path=rest)
    if colon and scheme == "exec":
        command_of(rest)
        return Place("exec", path=rest)
    if colon and scheme == "fd":
        if not re.fullmatch(r"0|[1-9][0-9]{0,5}", rest):
            raise TargetError(f"target {text!r}: {rest!r} is not the number of a descriptor")
        return Place("fd", path=rest)
    if scheme in _WEB_PORTS and rest.startswith("//"):
        return _web_place(text)
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or (match["host"] or "").isdecimal():
        raise TargetError(f"target {text!r}{_hint(text)}; must be {FORMS}")
    host = match["host"]
    if host is None:
        try:
            host = str(ipaddress.IPv6Address(match["six"]))
        except ValueError:
            raise TargetError(f"target {text!r}: {match['six']!r} is not an IPv6 address") from None
    return Place(match["scheme"] or "tcp", host, _port(text, match["port"]))


def command_of(text: str) -> tuple[list[str], bool]:
    """Return the words of ``COMMAND`` or ``COMMAND,pty=1``, and whether it gets a pty.

    The words are split and quoted as in a shell, but no shell runs.

    Raises:
        TargetError: if there is no command, or a quote is not closed.
    """
    match = _PTY.fullmatch(text)
    try:
        words = shlex.split(match["command"] if match else text)
    except ValueError as error:
        raise TargetError(f"target {f'exec:{text}'!r}: {str(error).lower()}") from None
    if not words or not words[0] or "\0" in text:
        raise TargetError(f"target {f'exec:{text}'!r}: no command; must be exec:COMMAND[,pty=1]")
    return words, match is not None and match["pty"] == "1"


def _web_place(text: str) -> Place:
    """Read ``ws://host[:port][/path][?query]``.

    Raises:
        TargetError: if it is not one (RFC 6455, section 3).
    """
    wrong = f"target {text!r}: must be ws://host[:port][/path][?query], or wss:"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise TargetError(f"{wrong} ({error})") from None
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    plain = re.fullmatch(r"[!-~]+", path) and "#" not in text and "@" not in url.netloc
    if not url.hostname or port == 0 or not plain:
        raise TargetError(wrong)
    return Place(url.scheme, url.hostname, port or _WEB_PORTS[url.scheme], path)


def _port(text: str, port: str | None) -> int:
    """Return the port of the target ``text``: a number, the name of a service, or none.

    Raises:
        TargetError: if it is neither.
    """
    if port is None or port == "echo":
        # The name is known without a file of services, as in a container.
        return ECHO_PORT
    if re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535:
        return int(port)
    if _SERVICE.fullmatch(port) and not port.isdecimal():
        try:
            return socket.getservbyname(port, "tcp")
        except OSError:
            pass
    raise TargetError(f"target {text!r}: port {port!r}; must be 1 to 65535, or a service's name")


def _hint(text: str) -> str:
    """Return what may be meant by a text that is not a target: ``: a URL; try host:80``."""
    if text.isdecimal():
        return f" is a number; try 127.0.0.1:{text}"
    if "://" in text:
        try:
            return f" is a URL{_url_hint(urlsplit(text))}"
        except ValueError:
            return " is a URL"
    if text.startswith(("/", "./", "../", "~")):
        return f" is a path; try unix:{text}"
    try:
        ipaddress.IPv6Address(text.removeprefix("tcp:").removeprefix("tls:"))
    except ValueError:
        return ""
    return " is an IPv6 address without brackets"


def _url_hint(url: SplitResult) -> str:
    if not url.hostname:
        return f"; try {url.scheme}:{url.path}" if url.scheme == "unix" and url.path else ""
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if url.scheme in ("socks5", "socks5h", "socks4", "socks4a"):
        return f"; a proxy is given as --via {url.scheme}://{host}:{url.port or 1080}"
    secure = url.scheme in ("https", "tls", "ssl")
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, ECHO_PORT)
    return f"; try {'tls:' if secure else ''}{host}:{port}"
