"""What a fault is typical of: a table of devices, and which explanations fit each.

The table is data. A row says what has to be in an explanation, and nothing about how it was
found. That a device is listed means that it does this where it is configured so, not that it is
in the path.
"""

from __future__ import annotations

from dataclasses import dataclass

from echoproto.probe.search.explain.explanation import (
    Effect,
    Explanation,
    Need,
    Suspect,
    Unit,
    Where,
)

__all__ = ["CRASHES", "TABLE", "Row", "suspects_of"]

_LOST = (Effect.DELETED, Effect.TRUNCATED, Effect.WITHHELD)
_CUT = (Effect.TRUNCATED, Effect.RESET)
_MORE_THAN_FIN = (Need.SEVERAL_CONNECTIONS, Need.HOLD, Need.SLOW_READER)
_DEAD = (Effect.TRUNCATED, Effect.WITHHELD, Effect.RESET)
_HIGH = tuple(bytes((value,)) for value in range(0x80, 0x100))
_UTF_8 = "RFC 3629"
_TERMIOS = "termios(3)"


@dataclass(frozen=True)
class Row:
    """One device. What is empty is not asked.

    Attributes:
        suspect: the device, its remedy and its source.
        effects: one of these.
        bytes_: at least ``fewest`` of these trigger it ...
        only: ... and nothing else does.
        fewest: as above.
        prefix: one of the triggers begins so.
        becomes: a trigger and what it becomes, for one of its triggers.
        position: where.
        needs: all of these.
        without: none of these.
        unit: of the size.
        least: the range in which the least size is.
        most: the range in which the largest size is.
        every: whether it is on every Nth connection.
    """

    suspect: Suspect
    effects: tuple[Effect, ...] = ()
    bytes_: tuple[bytes, ...] = ()
    only: bool = False
    fewest: int = 1
    prefix: tuple[bytes, ...] = ()
    becomes: tuple[tuple[bytes, bytes], ...] = ()
    position: Where | None = None
    needs: tuple[Need, ...] = ()
    without: tuple[Need, ...] = ()
    unit: tuple[Unit, ...] = ()
    least: tuple[int, int] | None = None
    most: tuple[int, int] | None = None
    every: bool = False


TABLE: tuple[Row, ...] = (
    Row(Suspect("software flow control (XON/XOFF)", "stty -ixon -ixoff", _TERMIOS),
        _LOST, bytes_=(b"\x11", b"\x13")),
    Row(Suspect("a telnet layer (NVT), which reads FF as IAC",
                "connect without telnet, or negotiate binary mode (RFC 856)", "RFC 854"),
        (Effect.DELETED, Effect.DUPLICATED, Effect.REPLACED, Effect.INSERTED, Effect.WITHHELD),
        prefix=(b"\xff",)),
    Row(Suspect("a telnet layer (NVT), which pairs CR with NUL or LF", "the same", "RFC 854"),
        becomes=((b"\r\0", b"\r"), (b"\r", b"\r\0"))),
    Row(Suspect("a pty in cooked mode, which acts on control characters",
                "stty raw -echo", _TERMIOS),
        bytes_=(b"\x03", b"\x04", b"\x15", b"\x17", b"\x1c", b"\x7f", b"\b", b"\x12", b"\x16"),
        effects=(*_LOST, Effect.RESET, Effect.REPLACED)),
    Row(Suspect("a terminal or a text mode that ends lines with CR LF (onlcr)",
                "stty -opost, or binary mode", _TERMIOS), becomes=((b"\n", b"\r\n"),)),
    Row(Suspect("a terminal that reads CR as LF (icrnl)", "stty -icrnl", _TERMIOS),
        becomes=((b"\r", b"\n"),)),
    Row(Suspect("a text mode or a filter that normalises line ends", "binary mode"),
        becomes=((b"\r\n", b"\n"), (b"\r", b"\r\n"), (b"\r\n", b"\r"), (b"\n", b"\r"),
                 (b"\r\n", b"\r\r\n"))),
    Row(Suspect("a terminal that expands tabs (xtabs)", "stty -xtabs, or raw", _TERMIOS),
        (Effect.REPLACED,), bytes_=(b"\t",), only=True),
    Row(Suspect("a program that treats the stream as C strings"), _LOST, bytes_=(b"\0",),
        only=True),
    Row(Suspect("a text mode of DOS or Windows, where 1A ends a file", "binary mode"),
        _LOST, bytes_=(b"\x1a",), only=True),
    Row(Suspect("a gateway that decodes UTF-8 (text frames, JSON)", "binary frames", _UTF_8),
        bytes_=_HIGH, fewest=32, becomes=((b"\xff", b"\xef\xbf\xbd"),)),
    Row(Suspect("a gateway that decodes UTF-8 and ignores what is invalid", "binary frames",
                _UTF_8), (Effect.DELETED,), bytes_=_HIGH, fewest=64, only=True),
    Row(Suspect("a gateway that reads Latin-1 and writes UTF-8", "the same encoding, or binary",
                _UTF_8), becomes=((b"\xe9", b"\xc3\xa9"),)),
    Row(Suspect("a reader that strips a byte order mark", "binary mode", _UTF_8),
        bytes_=(b"\xef\xbb\xbf",)),
    Row(Suspect("a seven-bit line", "8 data bits, no parity (stty cs8 -istrip)", _TERMIOS),
        becomes=((b"\x80", b"\0"), (b"\xff", b"\x7f"))),
    Row(Suspect("a serial line with parity", "8 data bits, no parity (stty cs8 -parenb)",
                _TERMIOS), becomes=((b"\x01", b"\x81"), (b"\x03", b"\x83"))),
    Row(Suspect("a modem, which takes +++ for its escape", "ATS2=255", "ITU-T V.250"),
        prefix=(b"+++",)),
    Row(Suspect("an ssh client with a pty, whose escape is ~", "ssh -e none", "ssh(1)"),
        prefix=(b"\r~", b"\n~")),
    Row(Suspect("SLIP framing", "", "RFC 1055"), bytes_=(b"\xc0", b"\xdb"), only=True),
    Row(Suspect("PPP or HDLC framing", "", "RFC 1662"), bytes_=(b"\x7e", b"\x7d"), only=True),
    Row(Suspect("nginx stream without proxy_half_close", "proxy_half_close on",
                "nginx, ngx_stream_proxy_module"), _CUT, needs=(Need.FIN,),
        without=_MORE_THAN_FIN),
    Row(Suspect("a relay with a timeout after FIN (socat -t, HAProxy timeout client-fin)",
                "a longer timeout", "socat(1); haproxy, timeout client-fin"), _CUT,
        needs=(Need.FIN, Need.HOLD)),
    Row(Suspect("a proxy with a timeout for what its client does not take (HAProxy timeout client)",
                "a longer timeout", "haproxy, timeout client"), _CUT, needs=(Need.HOLD,),
        without=(Need.FIN,)),
    Row(Suspect("a relay that ends at the first EOF (ncat -e, redir, rinetd, sslh, 6tunnel)",
                "socat, with -t", "Findings, in the manual"),
        _CUT, needs=(Need.FIN,), without=_MORE_THAN_FIN),
    Row(Suspect("docker's userland proxy", '"userland-proxy": false', "dockerd(8)"),
        _CUT, needs=(Need.FIN,), without=_MORE_THAN_FIN),
    Row(Suspect("a proxy or a NAT that does not pass FIN on", ""), (Effect.NOT_CLOSED,),
        needs=(Need.FIN,), without=(Need.SEVERAL_CONNECTIONS,)),
    Row(Suspect("a listener that reads PROXY headers", "trust only the balancer's address",
                "haproxy.org, proxy-protocol.txt"), position=Where.START,
        prefix=(b"PROXY", b"\r\n\r\n\0\r\nQUIT\n")),
    Row(Suspect("a device that inspects TLS", "exempt this port"), position=Where.START,
        prefix=(b"\x16\x03",)),
    Row(Suspect("a device that inspects SSH", "exempt this port"), position=Where.START,
        prefix=(b"SSH-",)),
    Row(Suspect("a transparent HTTP proxy, or a device that inspects HTTP", "exempt this port"),
        position=Where.START, prefix=(b"GET ", b"POST", b"HEAD", b"PUT ", b"CONN", b"PRI ",
                                      b"OPTI", b"HTTP")),
    Row(Suspect("a mail gateway, which ends a message at a dot", "", "RFC 5321"),
        prefix=(b"\r\n.", b"\n.")),
    Row(Suspect("a protocol sniffer that waits for its first bytes (sslh, HAProxy)",
                "a shorter inspection delay", "haproxy, tcp-request inspect-delay"),
        (Effect.WITHHELD, Effect.DELAYED), most=(1, 16), without=(Need.FIN,)),
    Row(Suspect("a multiplexer that takes a silent client for one that waits (sslh)",
                "send first"), (Effect.INSERTED,), needs=(Need.PAUSE,), most=(0, 0)),
    Row(Suspect("an MTU hole: large segments are lost, and the ICMP message too",
                "clamp the MSS, or allow ICMP type 3 code 4", "RFC 2923, RFC 4821"),
        (Effect.WITHHELD,), unit=(Unit.WRITE, Unit.CONNECTION, Unit.IN_FLIGHT),
        least=(500, 1501), without=(Need.FIN,)),
    Row(Suspect("an idle timeout of a NAT or a balancer", "keepalives, or a longer timeout",
                "RFC 5382"), (*_DEAD, Effect.DELETED), needs=(Need.PAUSE,),
        without=(Need.SEVERAL_CONNECTIONS,)),
    Row(Suspect("WebSocket frames, whose length has another form here", "", "RFC 6455, 5.2"),
        unit=(Unit.WRITE, Unit.RUN, Unit.CONNECTION), least=(126, 126)),
    Row(Suspect("WebSocket frames, whose length has another form here", "", "RFC 6455, 5.2"),
        unit=(Unit.WRITE,), least=(65536, 65536)),
    Row(Suspect("a length or a counter of 16 bits", ""), least=(65536, 65536)),
    Row(Suspect("a length or a counter of 8 bits", ""), least=(256, 256)),
    Row(Suspect("a TLS server that drops what is pending when close_notify comes (stunnel)",
                "read to the end before closing", "RFC 5246, 7.2.1"), _CUT,
        needs=(Need.FIN, Need.SLOW_READER)),
    Row(Suspect("a relay that drops what its client does not take at once", ""),
        needs=(Need.SLOW_READER,), without=(Need.FIN,)),
    Row(Suspect("a limit on simultaneous connections", "raise the limit"),
        (Effect.RESET, Effect.REFUSED, Effect.WITHHELD), needs=(Need.SEVERAL_CONNECTIONS,),
        without=(Need.RESET, Need.FIN)),
    Row(Suspect("a short listen queue: behind SYN cookies, Linux loses a first write or resets",
                "a longer backlog, or net.ipv4.tcp_syncookies=0",
                "The listen queue, in the manual"),
        (Effect.RESET, Effect.DELETED, Effect.WITHHELD), needs=(Need.SEVERAL_CONNECTIONS,),
        without=(Need.RESET, Need.FIN)),
    Row(Suspect("a proxy that keeps connections to the server for the next client (a pool)",
                "let the proxy close them before the server does",
                "nginx, keepalive_timeout of an upstream; Envoy, idle_timeout"),
        (*_DEAD, Effect.REFUSED), needs=(Need.NO_CONNECTION,)),
    Row(Suspect("one buffer shared by all connections", ""), (Effect.MIXED,)),
    Row(Suspect("a balancer with one server that fails", "check its servers"), every=True),
)  # fmt: skip


CRASHES = Suspect(
    "a server that crashes, and is restarted",
    "read its log, and that of what restarts it",
    "systemd.service(5), Restart=",
)
"""Of a failure after which the path is away for a while."""


def suspects_of(explanation: Explanation) -> tuple[Suspect, ...]:
    """Return the devices whose row fits an explanation, each once."""
    return tuple(dict.fromkeys(row.suspect for row in TABLE if _fits(row, explanation)))


def _fits(row: Row, explanation: Explanation) -> bool:
    if row.effects and explanation.effect not in row.effects:
        return False
    if row.position is not None and explanation.position is not row.position:
        return False
    if row.every and explanation.every is None:
        return False
    needs = explanation.needs
    if not set(row.needs) <= set(needs) or set(row.without) & set(needs):
        return False
    return _fits_bytes(row, explanation) and _fits_size(row, explanation)


def _fits_bytes(row: Row, explanation: Explanation) -> bool:
    triggers = explanation.bytes_
    if row.bytes_:
        hit = [trigger for trigger in triggers if trigger in row.bytes_]
        # Where it is one of many, it is not what they have in common.
        few = len(hit) < row.fewest or 2 * len(hit) < len(triggers)
        if few or (row.only and len(hit) < len(triggers)):
            return False
    if row.prefix and not any(trigger.startswith(row.prefix) for trigger in triggers):
        return False
    if row.prefix == (b"\xff",) and len(triggers) > 1 and set(map(len, triggers)) == {1}:
        return False  # FF is one of many
    return not row.becomes or bool(set(row.becomes) & set(explanation.becomes))


def _fits_size(row: Row, explanation: Explanation) -> bool:
    size = explanation.size
    if row.unit and (size is None or size.unit not in row.unit):
        return False
    for range_, value in (
        (row.least, size.least if size else None),
        (row.most, size.most if size else None),
    ):
        if range_ is not None and (value is None or not range_[0] <= value <= range_[1]):
            return False
    # A size that only reaches up to here is no threshold.
    return row.least is None or size is None or size.most is None or size.most == size.least
