"""Where to connect, and how: TCP, TLS or a UNIX socket, parsed from one string."""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import re
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

__all__ = ["Address", "Target", "TargetError"]

Address = tuple[socket.AddressFamily, str | tuple[str, int] | tuple[str, int, int, int]]
"""A family, and the socket address in the form this family has."""

FORMS = "host:port, tcp:host:port, tls:host:port or unix:/path (IPv6 in brackets: [::1]:7)"

_MAX_UNIX_PATH = 107  # sun_path, less its terminating NUL (unix(7))


class TargetError(ValueError):
    """The target cannot be used as given; the message is one line."""


@dataclass(frozen=True)
class Target:
    """One end of the path: where to connect, and how.

    Attributes:
        scheme: ``tcp``, ``tls`` or ``unix``.
        host: a name or an address; empty for ``unix``.
        port: 1 to 65535; 0 for ``unix``.
        path: of the UNIX socket; empty otherwise.
        ca: a file of certificates to trust instead of the system's.
        cert: the file of the certificate to present.
        key: the file of its private key, if not in ``cert``.
        insecure: whether to accept any certificate.
        server_name: the name to send and to verify, if not ``host``.
        send_proxy: ``v1`` or ``v2`` to send a PROXY protocol header first, else None.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False
    server_name: str | None = None
    send_proxy: str | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        insecure: bool = False,
        server_name: str | None = None,
        send_proxy: str | None = None,
    ) -> Target:
        """Read a target in one of the forms that ``FORMS`` lists.

        Raises:
            TargetError: naming what is wrong and what is allowed.
        """
        target = cls._parse_place(text.strip())
        given = {"--ca": ca, "--cert": cert, "--key": key, "--server-name": server_name}
        given["--insecure"] = "set" if insecure else None
        if target.scheme != "tls":
            for option, value in given.items():
                if value is not None:
                    raise TargetError(f"{option} needs a tls: target, not {text!r}")
        if key is not None and cert is None:
            raise TargetError("--key needs --cert")
        if send_proxy not in (None, "v1", "v2"):
            raise TargetError(f"--send-proxy {send_proxy!r}; must be v1 or v2")
        return replace(
            target,
            ca=ca,
            cert=cert,
            key=key,
            insecure=insecure,
            server_name=server_name,
            send_proxy=send_proxy,
        )

    @classmethod
    def _parse_place(cls, text: str) -> Target:
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            if not path or "\0" in path or len(os.fsencode(path)) > _MAX_UNIX_PATH:
                raise TargetError(
                    f"target {text!r}: the path of a UNIX socket has 1 to {_MAX_UNIX_PATH} bytes"
                )
            return cls("unix", path=path)
        match = re.fullmatch(
            r"(?:(?P<scheme>tcp|tls):)?(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>.*)",
            text,
        )
        if match is None:
            raise TargetError(f"target {text!r}; must be {FORMS}")
        port = match["port"]
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise TargetError(f"target {text!r}: port {port!r}; must be 1 to 65535")
        if match["six"] is not None:
            try:
                ipaddress.IPv6Address(match["six"])
            except ValueError:
                raise TargetError(
                    f"target {text!r}: {match['six']!r} is not an IPv6 address"
                ) from None
        return cls(match["scheme"] or "tcp", match["six"] or match["host"], int(port))

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls:' if self.scheme == 'tls' else ''}{host}:{self.port}"

    @property
    def words(self) -> tuple[str, ...]:
        """The target and its options, as the command line takes them."""
        words = [str(self)]
        for option in ("ca", "cert", "key", "server_name", "send_proxy"):
            if (value := getattr(self, option)) is not None:
                words += [f"--{option.replace('_', '-')}", value]
        if self.insecure:
            words.append("--insecure")
        return tuple(words)

    def addresses(self) -> Sequence[Address]:
        """Return the addresses of the host, in the resolver's order (RFC 6724).

        Raises:
            TargetError: if the name is unknown, or the resolver does not answer.
        """
        if self.scheme == "unix":
            return [(socket.AF_UNIX, self.path)]
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TargetError(f"cannot resolve {self.host!r}: {reason}") from None
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]  # AF_INET and AF_INET6 only

    @functools.cached_property
    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context; None for a target without TLS.

        Raises:
            TargetError: for a file that cannot be read or contains no certificate or key.
        """
        if self.scheme != "tls":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca is None:
            context.load_default_certs()
        if self.ca is not None:
            _load("--ca", self.ca, lambda: context.load_verify_locations(self.ca))
        if self.cert is not None:
            cert = self.cert
            # With an empty password, an encrypted key is an error instead of a prompt.
            _load(
                "--cert",
                cert if self.key is None else f"{cert} with --key {self.key}",
                lambda: context.load_cert_chain(cert, self.key, password=""),
            )
        return context

    def proxy_header(self, sock: socket.socket) -> bytes:
        """Return the PROXY protocol header for a connected socket; empty if not asked for.

        Source: the PROXY protocol, https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt,
        sections 2.1 and 2.2.
        """
        if self.send_proxy is None:
            return b""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            if self.send_proxy == "v1":
                return b"PROXY UNKNOWN\r\n"
            return _PROXY_V2 + struct.pack("!BBH", 0x20, 0x00, 0)
        (source, source_port), (to, to_port) = sock.getsockname()[:2], sock.getpeername()[:2]
        six = sock.family == socket.AF_INET6
        if self.send_proxy == "v1":
            family = "TCP6" if six else "TCP4"
            return f"PROXY {family} {source} {to} {source_port} {to_port}\r\n".encode("ascii")
        addresses = b"".join(socket.inet_pton(sock.family, a.split("%")[0]) for a in (source, to))
        body = addresses + struct.pack("!HH", source_port, to_port)
        return _PROXY_V2 + struct.pack("!BBH", 0x21, 0x21 if six else 0x11, len(body)) + body


_PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def _load(option: str, value: str, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        reason = os.strerror(error.errno or errno.EIO)
        if isinstance(error, ssl.SSLError):
            reason = f"no usable certificate or key ({error.reason or 'not PEM'})"
        raise TargetError(f"{option} {value}: {reason}") from None


def is_loopback(address: Address) -> bool:
    """Return whether the address is on this machine."""
    family, where = address
    if family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(str(where[0]).split("%")[0]).is_loopback
