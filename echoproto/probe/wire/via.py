"""A proxy between this machine and the target, parsed from its URL."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from echoproto.probe.wire.place import TargetError

__all__ = ["Proxy"]

_FORMS = "socks5://[USER:PASSWORD@]HOST:PORT, socks4://[USER@]HOST:PORT, http:// or https://"

# What curl calls the forms whose names the proxy resolves, as it does here in any case.
_SAME = {"socks5h": "socks5", "socks4a": "socks4"}
_SCHEMES = ("socks5", "socks4", "http", "https")

_WITHHELD = "***"
_MOST = 255  # bytes of a user name or password (RFC 1929, section 2)


@dataclass(frozen=True)
class Proxy:
    """One proxy of a chain.

    Attributes:
        scheme: ``socks5`` (RFC 1928), ``socks4``, ``http`` or ``https`` (CONNECT).
        host: a name or an address.
        port: 1 to 65535.
        user: None for none.
        password: None for none.
        withheld: whether the password was left out of what this was read from.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    withheld: bool = False

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read a URL; user name and password may be percent-encoded.

        Raises:
            TargetError: naming what is wrong and what is allowed, and no password.
        """
        wrong = f"--via {_redacted(text)!r}"
        try:
            url = urlsplit(text.strip())
            host, port = url.hostname, url.port
        except ValueError:
            # Its message may have a part of the password.
            raise TargetError(f"{wrong}; must be {_FORMS}") from None
        scheme = _SAME.get(url.scheme, url.scheme)
        if scheme not in _SCHEMES or not host or not port or url.path not in ("", "/"):
            raise TargetError(f"{wrong}; must be {_FORMS}")
        if url.query or url.fragment or re.search(r"[\s\0]", text.strip()):
            raise TargetError(f"{wrong}; must be {_FORMS}")
        user = None if url.username is None else unquote(url.username)
        password = None if url.password is None else unquote(url.password)
        if user is not None and not user:
            raise TargetError(f"{wrong}: the user name is empty")
        if scheme == "socks4" and password is not None:
            raise TargetError(f"{wrong}: SOCKS4 has no passwords")
        if any(len((word or "").encode("utf-8", "surrogateescape")) > _MOST
               for word in (user, password)):  # fmt: skip
            raise TargetError(f"{wrong}: a user name or password has at most {_MOST} bytes")
        withheld = url.password == _WITHHELD
        return cls(scheme, host, port, user, None if withheld else password, withheld)

    def __str__(self) -> str:
        """The URL without its password, for people and for files."""
        return f"{self.scheme}://{self._user_part}{self.address}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def path_of_bytes(self) -> Proxy:
        """The proxy less its password."""
        return replace(self, password=None, withheld=False)

    @property
    def _user_part(self) -> str:
        if self.user is None:
            return ""
        secret = f":{_WITHHELD}" if self.password is not None or self.withheld else ""
        return f"{quote(self.user, safe='')}{secret}@"

    def check(self, host: str) -> None:
        """Return if it can be asked for a connection to ``host``.

        Raises:
            TargetError: if it cannot.
        """
        if self.withheld:
            raise TargetError(
                f"--via {self}: passwords are left out of files and reports; "
                f"give the target and --via with the password in place of {_WITHHELD}"
            )
        if self.scheme == "socks4":
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                return
            raise TargetError(f"--via {self}: SOCKS4 has no IPv6 addresses such as {host}")


def _redacted(text: str) -> str:
    """Return what may be a URL, less what may be a password."""
    before, at, after = text.rpartition("@")
    scheme, slashes, names = before.partition("://") if "://" in before else ("", "", before)
    user, colon, _ = names.partition(":")
    return f"{scheme}{slashes}{user}:{_WITHHELD}{at}{after}" if at and colon else text
