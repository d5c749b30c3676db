"""Where to connect, and how: a place, the proxies on the way, and options."""

from __future__ import annotations

import functools
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from echoproto.probe.wire.place import FORMS, Place, TargetError, command_of, parse_place
from echoproto.probe.wire.tls_context import tls_context
from echoproto.probe.wire.via import Proxy

__all__ = ["Address", "Target", "TargetError"]

Address = tuple[socket.AddressFamily, str | tuple[str, int] | tuple[str, int, int, int]]
"""A family, and the socket address in the form this family has."""

_FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6}
_WITH_VALUE = ("ca", "cert", "key", "server_name", "send_proxy")
_FLAGS = ("insecure", "skip_banner")
_LOCAL = ("unix", "exec", "fd")
_TLS = ("tls", "wss")


@dataclass(frozen=True)
class Target:
    """One end of the path: where to connect, and how.

    Attributes:
        scheme: ``tcp``, ``tls``, ``unix``, ``ws``, ``wss``, ``exec`` or ``fd``.
        host: a name or an address; empty for those without.
        port: 1 to 65535; 0 for those without.
        path: as of :class:`Place`.
        ca: a file of certificates to trust instead of the system's.
        cert: the file of the certificate to present.
        key: the file of its private key, if not in ``cert``.
        insecure: whether to accept any certificate.
        server_name: the name to send and to verify, if not ``host``.
        send_proxy: ``v1`` or ``v2`` to send a PROXY protocol header first, else None.
        family: ``4`` or ``6`` to use only IPv4 or only IPv6 addresses, else None.
        via: the proxies on the way, the nearest first.
        skip_banner: whether to drop what the server sends before anything is sent.
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
    family: str | None = None
    via: tuple[Proxy, ...] = ()
    skip_banner: bool = False

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
        family: str | None = None,
        via: Sequence[str] = (),
        skip_banner: bool = False,
    ) -> Target:
        """Read a target in one of the forms that ``FORMS`` lists.

        Without a port, it is 7. A port may be the name of a service (services(5)).

        Raises:
            TargetError: naming what is wrong and what is allowed.
        """
        target = cls(
            *parse_place(text.strip()),
            ca=ca,
            cert=cert,
            key=key,
            insecure=insecure,
            server_name=server_name,
            send_proxy=send_proxy,
            family=family,
            via=tuple(map(Proxy.parse, [via] if isinstance(via, str) else via)),
            skip_banner=skip_banner,
        )
        target._check(text)
        return target

    def _check(self, text: str) -> None:
        """Return if the options suit each other and the place.

        Raises:
            TargetError: if not.
        """
        verifying = {"--ca": self.ca, "--insecure": self.insecure or None}
        presenting = {"--cert": self.cert, "--key": self.key, "--server-name": self.server_name}
        for option, value in (verifying | presenting).items():
            to_proxy = option in verifying and any(proxy.scheme == "https" for proxy in self.via)
            if value is not None and self.scheme not in _TLS and not to_proxy:
                raise TargetError(f"{option} needs a tls: target, not {text!r}")
        if self.key is not None and self.cert is None:
            raise TargetError("--key needs --cert")
        if self.send_proxy not in (None, "v1", "v2"):
            raise TargetError(f"--send-proxy {self.send_proxy!r}; must be v1 or v2")
        if self.family not in (None, *_FAMILIES):
            raise TargetError(f"-{self.family} is no family; must be -4 or -6")
        if self.family is not None and self.scheme in _LOCAL:
            raise TargetError(f"-{self.family} needs a host, not {text!r}")
        if self.via and self.scheme in _LOCAL:
            raise TargetError(f"--via needs a host, not {text!r}")

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Target:
        """Read what :attr:`words` returned.

        Raises:
            TargetError: if it is not a target and its options.
        """
        if not words:
            raise TargetError(f"no target; must be {FORMS}")
        options: dict[str, Any] = {}
        via: list[str] = []
        rest = iter(words[1:])
        for word in rest:
            name = word.removeprefix("--").replace("-", "_")
            if name in (*_WITH_VALUE, "via") and (value := next(rest, None)) is not None:
                if name == "via":
                    via.append(value)
                else:
                    options[name] = value
            elif name in _FLAGS and word.startswith("--"):
                options[name] = True
            elif word in ("-4", "-6"):
                options["family"] = word[1:]
            else:
                raise TargetError(f"target {words[0]!r}: {word!r} is not an option of a target")
        return cls.parse(words[0], via=via, **options)

    def __str__(self) -> str:
        return str(self.place) + (f" via {self.chain}" if self.via else "")

    @property
    def place(self) -> Place:
        """The target without its options."""
        return Place(self.scheme, self.host, self.port, self.path)

    @property
    def chain(self) -> str:
        """The proxies, for people."""
        return ", ".join(map(str, self.via))

    @property
    def words(self) -> tuple[str, ...]:
        """The target and its options, as the command line takes them, less passwords."""
        words = [str(self.place)]
        for proxy in self.via:
            words += ["--via", str(proxy)]
        for option in _WITH_VALUE:
            if (value := getattr(self, option)) is not None:
                words += [f"--{option.replace('_', '-')}", value]
        words += [f"--{flag.replace('_', '-')}" for flag in _FLAGS if getattr(self, flag)]
        if self.family is not None:
            words.append(f"-{self.family}")
        return tuple(words)

    @property
    def path_of_bytes(self) -> Target:
        """The target less the options that the path cannot notice.

        Two targets with the same one are tested over the same path.
        """
        return replace(
            self,
            host=self.host.lower(),
            ca=None,
            key=None,
            insecure=False,
            via=tuple(proxy.path_of_bytes for proxy in self.via),
            skip_banner=False,
        )

    @property
    def half_closes(self) -> bool:
        """Whether this side can close in one direction, and still receive in the other."""
        if self.scheme == "exec":
            return not command_of(self.path)[1]
        return self.scheme not in ("ws", "wss")

    @property
    def is_single(self) -> bool:
        """Whether it is one connection, and there cannot be another one."""
        return self.scheme == "fd"

    def addresses(self) -> Sequence[Address]:
        """Return the addresses to connect to, in the resolver's order (RFC 6724).

        They are those of the first proxy, if there is one.

        Raises:
            TargetError: if the name is unknown, or the resolver does not answer.
        """
        if self.scheme in _LOCAL:
            return [(socket.AF_UNIX, self.path if self.scheme == "unix" else str(self.place))]
        host, port = (self.via[0].host, self.via[0].port) if self.via else (self.host, self.port)
        family = _FAMILIES[self.family] if self.family else socket.AF_UNSPEC
        try:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            what = f"{host!r}" + (f" to an IPv{self.family} address" if self.family else "")
            of_proxy = f" of proxy {self.via[0]}" if self.via else ""
            raise TargetError(f"cannot resolve {what}{of_proxy}: {reason}") from None
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]  # AF_INET and AF_INET6 only

    @functools.cached_property
    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context; None for a target without TLS.

        Raises:
            TargetError: for a file that cannot be read or contains no certificate or key.
        """
        if self.scheme not in _TLS:
            return None
        return tls_context(self.ca, self.insecure, self.cert, self.key)


def is_loopback(address: Address) -> bool:
    """Return whether the address is on this machine."""
    family, where = address
    if family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(str(where[0]).split("%")[0]).is_loopback
