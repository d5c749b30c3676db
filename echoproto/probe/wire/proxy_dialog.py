"""What is said with a proxy until it forwards: SOCKS 4, SOCKS 5 and CONNECT, without I/O.

A dialog is a generator. It yields what to send and how many bytes to read at most, is sent what was
read, and returns what was read beyond its end. The bytes of the protocols are those of socksio and
h11.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Generator

from echoproto.probe.wire.channel import HandshakeError
from echoproto.probe.wire.via import Proxy

__all__ = ["Dialog", "dialog"]

Dialog = Generator[tuple[bytes, int], bytes, bytes]

_READ = 4096

_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "it does not know CONNECT",
    8: "it does not know this kind of address",
}
"""RFC 1928, section 6."""

_REPLIES_4 = {
    0x5B: "rejected or failed",
    0x5C: "it cannot reach identd here",
    0x5D: "identd reports another user",
}
"""https://www.openssh.com/txt/socks4.protocol"""


def dialog(proxy: Proxy, host: str, port: int) -> Dialog:
    """Return the dialog that asks ``proxy`` for a connection.

    Args:
        proxy: where it is sent.
        host: of what to connect to: a name, which the proxy resolves, or an address.
        port: of what to connect to.

    Raises:
        HandshakeError: while it runs, with the reason.
    """
    begin = {"socks5": _socks5, "socks4": _socks4}.get(proxy.scheme, _connect)
    return (yield from begin(proxy, _ascii(host), port))


def _ascii(host: str) -> str:
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not 0 < len(name) < 256:
        raise HandshakeError(f"the name {host!r} cannot be sent")
    return name


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True


def _exactly(data: bytes, size: int) -> Generator[tuple[bytes, int], bytes, bytes]:
    """Send ``data`` and return the next ``size`` bytes."""
    got = b""
    while len(got) < size:
        got += yield data, size - len(got)
        data = b""
    return got


def _socks5(proxy: Proxy, host: str, port: int) -> Dialog:
    """RFC 1928; with a user name, RFC 1929."""
    import socksio

    connection = socksio.SOCKS5Connection()
    methods = [socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    if proxy.user is not None:
        methods.append(socksio.SOCKS5AuthMethod.USERNAME_PASSWORD)
    connection.send(socksio.SOCKS5AuthMethodsRequest(methods))
    answer = yield from _exactly(connection.data_to_send(), 2)
    if answer[0] != 5:
        raise HandshakeError(f"it does not speak SOCKS5, it answered {answer.hex(' ')}")
    if answer[1] == 0xFF:
        needs = "another way to log in" if proxy.user else "a user name and a password"
        raise HandshakeError(f"it demands {needs}")
    if answer[1:] not in methods:
        raise HandshakeError(f"it chose method {answer[1]}, which was not offered")
    connection.receive_data(answer)
    if answer[1:] == socksio.SOCKS5AuthMethod.USERNAME_PASSWORD:
        names = [(word or "").encode("utf-8", "surrogateescape")
                 for word in (proxy.user, proxy.password)]  # fmt: skip
        connection.send(socksio.SOCKS5UsernamePasswordRequest(*names))
        answer = yield from _exactly(connection.data_to_send(), 2)
        if answer[1] != 0:
            raise HandshakeError("it does not accept the user name and password")
        connection.receive_data(b"\x01\0")  # some proxies give another version here
    connection.send(
        socksio.SOCKS5CommandRequest.from_address(socksio.SOCKS5Command.CONNECT, (host, port))
    )
    answer = yield from _exactly(connection.data_to_send(), 5)
    if answer[0] != 5 or answer[3] not in (1, 3, 4):
        raise HandshakeError(f"it does not speak SOCKS5, it answered {answer.hex(' ')}")
    if answer[1] != 0:
        raise HandshakeError(_cannot(host, port, _REPLIES.get(answer[1], f"code {answer[1]}")))
    # The rest of an address that is not needed, and a port (section 6).
    yield from _exactly(b"", {1: 3, 3: answer[4], 4: 15}[answer[3]] + 2)
    return b""


def _socks4(proxy: Proxy, host: str, port: int) -> Dialog:
    """SOCKS 4 for an address, SOCKS 4a for a name."""
    import socksio

    user = (proxy.user or "").encode("utf-8", "surrogateescape")
    connection = socksio.SOCKS4Connection(user)
    make = socksio.SOCKS4Request if _is_ipv4(host) else socksio.SOCKS4ARequest
    connection.send(make.from_address(socksio.SOCKS4Command.CONNECT, (host, port), user))
    answer = yield from _exactly(connection.data_to_send(), 8)
    if answer[0] != 0:
        raise HandshakeError(f"it does not speak SOCKS4, it answered {answer.hex(' ')}")
    if answer[1] != 0x5A:
        raise HandshakeError(_cannot(host, port, _REPLIES_4.get(answer[1], f"code {answer[1]}")))
    return b""


def _connect(proxy: Proxy, host: str, port: int) -> Dialog:
    """RFC 9110, section 9.3.6."""
    import h11

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("Host", place)]
    if proxy.user is not None:
        names = f"{proxy.user}:{proxy.password or ''}".encode("utf-8", "surrogateescape")
        headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(names).decode()}"))
    connection = h11.Connection(h11.CLIENT)
    data = connection.send(h11.Request(method="CONNECT", target=place, headers=headers)) or b""
    while True:
        try:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data((yield data, _READ))
                data = b""
        except h11.RemoteProtocolError as error:
            # h11 quotes what it has received as a bytearray.
            why = re.sub(r"bytearray\((b.*)\)", r"\1", str(error))
            raise HandshakeError(f"it does not speak HTTP: {why}") from None
        if isinstance(event, h11.Response):
            if 200 <= event.status_code < 300:
                return connection.trailing_data[0]
            reason = event.reason.decode("latin-1").strip()
            why = f"{event.status_code} {reason}".strip()
            if event.status_code in (401, 407):  # tinyproxy has 401 for a wrong password
                refused = "does not accept the user name and password"
                needs = "demands a user name and a password" if proxy.user is None else refused
                raise HandshakeError(f"it {needs} ({why})")
            raise HandshakeError(_cannot(host, port, why))


def _cannot(host: str, port: int, why: str) -> str:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"it cannot connect to {place}: {why}"
