"""Whose connection it really is: headers of the PROXY protocol, versions 1 and 2.

A balancer that passes a connection on says in its first bytes who made it. Here
those bytes are taken off the front of a connection, however they are cut;
when they are gone the connection goes on as if they had never been, and at no
cost to what follows.

A header counts only if it comes from a balancer that is believed: whoever may
write it may call himself what he likes. From all others it is no header, but a
payload like any other.

Source: "The PROXY protocol", versions 1 & 2, of HAProxy (doc/proxy-protocol.txt).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from echoproto.core.connection import Connection

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Host = ipaddress.IPv4Address | ipaddress.IPv6Address

# Who is believed unless somebody is named.
LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)

# Seconds that a header may take. The document asks for at least 3, so that a
# lost segment can be sent again; a balancer sends the header in one piece as
# soon as it is connected.
HEADER_TIME = 5.0

_V1_BEGIN = b"PROXY "
# The longest line, its end included (section 2.1).
_V1_MOST = 107
_V1_FAMILIES: dict[bytes, Callable[[str], _Host]] = {
    b"TCP4": ipaddress.IPv4Address,
    b"TCP6": ipaddress.IPv6Address,
}

_V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
# Up to the length of what follows (section 2.2).
_V2_FIXED = 16
_LOCAL, _PROXY = range(2)
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = range(4)
_LAST_PROTOCOL = 2
# The two addresses, and the two ports if there are any.
_V2_ADDRESSES = {
    _IPV4: struct.Struct("!4s4sHH"),
    _IPV6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct("!108s108s"),
}


class ProxyMode(str, Enum):
    """Whether connections begin with a PROXY protocol header."""

    OFF = "off"
    """None does; what looks like one is echoed as all else."""
    OPTIONAL = "optional"
    """Some do."""
    REQUIRED = "required"
    """All do; a connection that does not is closed."""

    def __str__(self) -> str:
        return self.value


class HeaderError(ValueError):
    """What began as a header is none; the message says why."""


class NoHeaderError(HeaderError):
    """Not even the first bytes are those of a header."""


@dataclass(frozen=True)
class Header:
    """A header that is complete.

    :ivar length: its length, in bytes.
    :ivar client: who made the connection; ``None`` if the balancer itself did
        (``LOCAL``, as for a health check) or does not say (``UNKNOWN``).
    """

    length: int
    client: IAddress | None


def parse(data: bytes | bytearray) -> Header | None:
    """Read the header that a stream begins with.

    :param data: what has come so far.
    :returns: the header, or ``None`` if more has to come.
    :raises NoHeaderError: when the stream does not begin as a header does.
    :raises HeaderError: when it does, and goes on otherwise.
    """
    if data.startswith(_V1_BEGIN):
        return _parse_v1(bytes(data[:_V1_MOST]))
    if data.startswith(_V2_BEGIN):
        return _parse_v2(data)
    if _V1_BEGIN.startswith(data) or _V2_BEGIN.startswith(data):
        return None
    raise NoHeaderError("no PROXY header")


def _parse_v1(data: bytes) -> Header | None:
    line, end, _ = data.partition(b"\r\n")
    if not end:
        if len(data) == _V1_MOST:
            raise HeaderError(f"version 1: no end within {_V1_MOST} bytes")
        if b"\n" in data:
            raise HeaderError("version 1: the line ends in LF alone")
        return None
    length = len(line) + 2
    family, *words = line[len(_V1_BEGIN) :].split(b" ")
    if family == b"UNKNOWN":
        return Header(length, None)
    if family not in _V1_FAMILIES:
        raise HeaderError(f"version 1: {_shown(family)} is no family")
    if len(words) != 4:
        raise HeaderError(f"version 1: {len(words)} words follow the family, not 4")
    client, _ = (_v1_host(word, _V1_FAMILIES[family]) for word in words[:2])
    port, _ = (_v1_port(word) for word in words[2:])
    return Header(length, _tcp_address(client, port))


def _v1_host(word: bytes, kind: Callable[[str], _Host]) -> _Host:
    try:
        # A zone, as in fe80::1%eth0, means nothing on another machine.
        if b"%" in word:
            raise ValueError("it has a zone")
        return kind(word.decode("ascii"))
    except ValueError:
        raise HeaderError(f"version 1: {_shown(word)} is no address of its family") from None


def _v1_port(word: bytes) -> int:
    # int() takes more than digits.
    if not re.fullmatch(rb"0|[1-9][0-9]{0,4}", word) or int(word) > 65535:
        raise HeaderError(f"version 1: {_shown(word)} is no port")
    return int(word)


def _parse_v2(data: bytes | bytearray) -> Header | None:
    if len(data) < _V2_FIXED:
        return None
    command, family, size = struct.unpack_from("!BBH", data, len(_V2_BEGIN))
    if command >> 4 != 2:
        raise HeaderError(f"version 2: it says version {command >> 4}")
    if command & 15 not in (_LOCAL, _PROXY):
        raise HeaderError(f"version 2: {command & 15} is no command")
    reads = None
    if command & 15 == _PROXY:
        if family >> 4 > _UNIX or family & 15 > _LAST_PROTOCOL:
            raise HeaderError(f"version 2: {family:#04x} is no family")
        reads = _V2_ADDRESSES.get(family >> 4)
    if reads is not None and size < reads.size:
        raise HeaderError(f"version 2: {size} bytes of addresses, not {reads.size}")
    length = _V2_FIXED + size
    if len(data) < length:
        return None
    # What follows the addresses (type, length, value) is not for us.
    return Header(length, None if reads is None else _v2_client(reads, data))


def _v2_client(reads: struct.Struct, data: bytes | bytearray) -> IAddress:
    client, _, *ports = reads.unpack_from(data, _V2_FIXED)
    if not ports:
        return UNIXAddress(client.rstrip(b"\0"))
    return _tcp_address(ipaddress.ip_address(client), ports[0])


def _tcp_address(host: _Host, port: int) -> IPv4Address | IPv6Address:
    kind = IPv4Address if host.version == 4 else IPv6Address
    return kind("TCP", str(host), port)


def _shown(word: bytes) -> str:
    """Show what somebody sent, on one line and short."""
    return repr(word[:40])[1:] + ("..." if len(word) > 40 else "")


class ProxyHeaders:
    """Takes the headers off connections."""

    def __init__(
        self,
        mode: ProxyMode,
        believed: Sequence[Network] = (),
        header_time: float = HEADER_TIME,
    ) -> None:
        """Say which headers count.

        :param mode: ``OPTIONAL`` or ``REQUIRED``.
        :param believed: from whom; loopback if none is named. Who comes by a
            UNIX socket is believed too: the mode of the socket says who may.
        :param header_time: seconds that a header may take.
        """
        self.required = mode is ProxyMode.REQUIRED
        self.header_time = header_time
        self._believed = tuple(believed) or LOOPBACK

    @classmethod
    def of(cls, mode: ProxyMode, believed: Sequence[Network] = ()) -> ProxyHeaders | None:
        """Return what takes headers off in a mode, which is nothing if that is ``OFF``.

        :param mode: the mode.
        :param believed: from whom they count, as for the class itself.
        """
        return None if mode is ProxyMode.OFF else cls(mode, believed)

    def settings(self) -> dict[str, Any]:
        """Return what :meth:`from_settings` makes one of, as JSON takes it."""
        mode = ProxyMode.REQUIRED if self.required else ProxyMode.OPTIONAL
        return {"mode": mode.value, "believed": [str(network) for network in self._believed]}

    @classmethod
    def from_settings(cls, settings: dict[str, Any] | None) -> ProxyHeaders | None:
        """Return what another process has described, or nothing if it had none.

        :param settings: what :meth:`settings` gave there.
        """
        if settings is None:
            return None
        believed = [ipaddress.ip_network(network) for network in settings["believed"]]
        return cls(ProxyMode(settings["mode"]), believed)

    def believes(self, peer: IAddress | None) -> bool:
        """Tell whether a header counts.

        :param peer: from whom it comes.
        """
        if not isinstance(peer, (IPv4Address, IPv6Address)):
            return True
        host = ipaddress.ip_address(peer.host)
        host = getattr(host, "ipv4_mapped", None) or host
        return any(host in network for network in self._believed)

    def take(
        self,
        connection: Connection,
        clock: IReactorTime,
        go_on: Callable[[Connection, bytes], None],
        refuse: Callable[[Connection, str], None],
    ) -> None:
        """Take the header off a connection that has just begun.

        :param connection: whose ``client`` is the peer, and will be who made
            the connection, with the peer as its ``via``.
        :param clock: what counts the time.
        :param go_on: called with the connection, and what of its payload has
            come, when it is known whose it is.
        :param refuse: called with the connection, and why it may not go on.
        """
        if self.believes(connection.client):
            _HeaderReader(self, connection, clock, go_on, refuse)
        elif self.required:
            refuse(connection, "no PROXY header is believed from there")
        else:
            go_on(connection, b"")


class _HeaderReader:
    """Stands in front of one connection until its header is complete."""

    def __init__(
        self,
        headers: ProxyHeaders,
        connection: Connection,
        clock: IReactorTime,
        go_on: Callable[[Connection, bytes], None],
        refuse: Callable[[Connection, str], None],
    ) -> None:
        self._headers = headers
        self._connection: Any = connection
        self._clock = clock
        self._go_on = go_on
        self._refuse = refuse
        self._data = bytearray()
        self._timer: IDelayedCall | None = None
        # Somebody else may stand there already.
        self._behind = vars(connection).get("dataReceived")
        vars(connection).update(
            dataReceived=self._received,
            readConnectionLost=self._ended,
            connectionLost=self._lost,
        )
        if headers.required:
            self._start_timer()

    def _received(self, data: bytes) -> None:
        if self._timer is None:
            self._start_timer()
        self._data += data
        try:
            header = parse(self._data)
        except HeaderError as error:
            if isinstance(error, NoHeaderError) and not self._headers.required:
                self._pass_on(0)
            else:
                self._refuse_for(str(error))
        else:
            if header is not None:
                self._take(header)

    def _take(self, header: Header) -> None:
        connection = self._connection
        if header.client is not None:
            connection.via, connection.client = connection.client, header.client
        self._pass_on(header.length)

    def _pass_on(self, taken: int) -> None:
        if self._step_aside():
            self._go_on(self._connection, bytes(self._data[taken:]))

    def _refuse_for(self, why: str) -> None:
        if self._step_aside():
            self._refuse(self._connection, why)

    def _ended(self) -> None:
        """The end of input: no header will come any more."""
        if not self._headers.required:
            self._pass_on(0)
        elif self._data:
            self._refuse_for("it ended amid its PROXY header")
        else:
            # A health probe that only connects.
            self._step_aside()
        if self._connection.refused is None:
            self._connection.readConnectionLost()

    def _late(self) -> None:
        self._timer = None
        if self._headers.required:
            self._refuse_for(f"no PROXY header came within {self._headers.header_time:g} s")
        else:
            self._pass_on(0)

    def _lost(self, reason: Failure) -> None:
        self._step_aside()
        self._connection.connectionLost(reason)

    def _start_timer(self) -> None:
        self._timer = self._clock.callLater(self._headers.header_time, self._late)

    def _step_aside(self) -> bool:
        """Leave the connection to itself; return whether it still takes input."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connection = self._connection
        del connection.readConnectionLost, connection.connectionLost
        if vars(connection).get("dataReceived") != self._received:
            # It is finishing (see Echo.finish): what comes now is dropped.
            connection.bytes_discarded += len(self._data)
            return False
        if self._behind is None:
            del connection.dataReceived
        else:
            connection.dataReceived = self._behind
        return True
