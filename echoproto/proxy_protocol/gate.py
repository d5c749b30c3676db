"""Strips PROXY headers, and learns from them which client a connection belongs to.

A balancer that passes a connection on names the client in its first bytes. Those
bytes are stripped, however they are split; the rest of the connection is
echoed as if they had never been there, and pays nothing for them.

A header counts only if it comes from a trusted balancer: anyone who can send one
can forge the source address. From any other peer it is payload.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from enum import Enum
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

from echoproto.base.bounds import MOST_SECONDS, check_number
from echoproto.core.connection import Connection, Gate
from echoproto.core.factory import Clock, GateMaker
from echoproto.proxy_protocol.parser import HeaderError, NoHeaderError, parse

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The networks that are trusted unless others are named.
LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)

# Seconds that a header may take. The specification asks for at least 3, so that a
# lost segment can be sent again; a balancer sends the header in one piece as soon as
# it is connected.
HEADER_TIMEOUT = 5.0


class ProxyMode(str, Enum):
    """Whether connections begin with a PROXY header."""

    OFF = "off"
    """They do not; what looks like a header is echoed like everything else."""
    OPTIONAL = "optional"
    """Some do."""
    REQUIRED = "required"
    """All do; a connection without one is closed."""

    def __str__(self) -> str:
        return self.value


class ProxyHeaders:
    """Says which PROXY headers count, and strips them.

    :ivar required: whether a connection without a header is closed.
    :ivar header_timeout: seconds that a header may take.
    """

    def __init__(
        self,
        mode: ProxyMode | str,
        *,
        trusted: Sequence[Network | str] = (),
        header_timeout: float = HEADER_TIMEOUT,
    ) -> None:
        """Say which headers count.

        :param mode: ``optional`` or ``required``.
        :param trusted: networks of the balancers that are trusted; loopback if none
            is named. Clients of a UNIX socket are trusted too: its file mode says
            which users may connect.
        :param header_timeout: seconds that a header may take, more than 0.
        :raises ValueError: when there is no such mode or network, or the time is not
            more than 0. Without headers, give the factory no ``ProxyHeaders``.
        """
        if mode not in (ProxyMode.OPTIONAL, ProxyMode.REQUIRED):
            raise ValueError(f"mode={str(mode)!r}; allowed: optional, required")
        allowed = f"seconds, more than 0 and up to {MOST_SECONDS:.0f}"
        check_number("header_timeout", header_timeout, allowed, MOST_SECONDS, 1e-6, zero=False)
        if isinstance(trusted, str):
            raise ValueError(f"trusted={trusted!r}; allowed: a list of networks")
        self.required = mode == ProxyMode.REQUIRED
        self.header_timeout = header_timeout
        self._trusted = tuple(ipaddress.ip_network(each) for each in trusted) or LOOPBACK

    @classmethod
    def for_mode(
        cls, mode: ProxyMode, trusted: Sequence[Network | str] = ()
    ) -> ProxyHeaders | None:
        """Return what strips headers in a mode; ``None`` for ``OFF``.

        :param mode: the mode.
        :param trusted: as for the class itself.
        """
        return None if mode is ProxyMode.OFF else cls(mode, trusted=trusted)

    def as_dict(self) -> dict[str, Any]:
        """Return what the class has to be called with for another one, as JSON can hold it."""
        return {
            "mode": "required" if self.required else "optional",
            "trusted": [str(network) for network in self._trusted],
            "header_timeout": self.header_timeout,
        }

    def trusts(self, peer: IAddress | None) -> bool:
        """Tell whether a header counts.

        :param peer: the one that sends it.
        """
        if not isinstance(peer, (IPv4Address, IPv6Address)):
            return True
        host = ipaddress.ip_address(peer.host)
        host = getattr(host, "ipv4_mapped", None) or host
        return any(host in network for network in self._trusted)

    def make_gate(self, clock: Clock) -> GateMaker:
        """Return what makes the gate of a connection.

        :param clock: returns what counts the time.
        """

        def gate(connection: Connection) -> Gate | None:
            if self.trusts(connection.client):
                return _HeaderGate(self, connection, clock())
            if self.required:
                connection.refuse("proxy", "PROXY headers from this address are not trusted")
            return None

        return gate


class _HeaderGate:
    """Stands before one connection until its header is complete.

    Then the connection's ``client`` is the client that the header names, and its
    ``via`` the balancer.
    """

    def __init__(self, headers: ProxyHeaders, connection: Connection, clock: IReactorTime) -> None:
        self._headers = headers
        self._connection = connection
        self._clock = clock
        self._timer: IDelayedCall | None = None
        if headers.required:
            self._start_timer()

    def received(self) -> None:
        if self._timer is None:
            self._start_timer()
        connection = self._connection
        try:
            header = parse(connection.early)
        except HeaderError as error:
            if self._headers.required or not isinstance(error, NoHeaderError):
                connection.refuse("proxy", str(error))
            else:
                self._admit()
            return
        if header is not None:
            if header.client is not None:
                connection.identify(header.client)
            del connection.early[: header.length]
            self._admit()

    def input_ended(self) -> None:
        """Decide: no header will arrive any more."""
        if not self._headers.required or not self._connection.early:
            # Without a byte it is a health check that only connects.
            self._admit()
        else:
            self._connection.refuse("proxy", "incomplete PROXY header")

    def close(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _admit(self) -> None:
        self.close()
        self._connection.admit()

    def _start_timer(self) -> None:
        self._timer = self._clock.callLater(self._headers.header_timeout, self._timed_out)

    def _timed_out(self) -> None:
        if self._headers.required:
            why = f"no PROXY header within {self._headers.header_timeout:g} s"
            self._connection.refuse("proxy", why)
        else:
            self._admit()
