"""Each dialog byte by byte, without a socket."""

from __future__ import annotations

import re

import pytest

from echoproto.probe.wire.channel import HandshakeError
from echoproto.probe.wire.proxy_dialog import dialog
from echoproto.probe.wire.via import Proxy


def hold(
    url: str, answers: bytes, host: str = "echo.example", port: int = 7
) -> tuple[bytes, bytes]:
    """Return what was sent, and what of ``answers`` is not part of the dialog.

    Each read gets one byte only, of CONNECT as many as it asks for.
    """
    words = dialog(Proxy.parse(url), host, 7)
    sent, size = next(words)
    while True:
        count = min(size, 1) if "socks" in url else size
        data, answers = answers[:count], answers[count:]
        assert data, "it waits for more"
        try:
            more, size = words.send(data)
        except StopIteration as end:
            return sent, end.value + answers
        sent += more


NAME = b"\x05\x01\0\x03\x0cecho.example\0\x07"
OK = b"\x05\0\0\x01\0\0\0\0\0\0"
CONNECT = b"CONNECT echo.example:7 HTTP/1.1\r\nhost: echo.example:7\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "host", "answers", "sent"),
    [
        ("socks5://a:1", "echo.example", b"\x05\0" + OK, b"\x05\x01\0" + NAME),
        ("socks5://a:1", "127.0.0.1", b"\x05\0" + OK,
         b"\x05\x01\0\x05\x01\0\x01\x7f\0\0\1\0\x07"),
        ("socks5://a:1", "::1", b"\x05\0\x05\0\0\x04" + bytes(18),
         b"\x05\x01\0\x05\x01\0\x04" + bytes(15) + b"\1\0\x07"),
        ("socks5://a:1", "bücher.example", b"\x05\0\x05\0\0\x03\x02ab\0\0",
         b"\x05\x01\0\x05\x01\0\x03\x15xn--bcher-kva.example\0\x07"),
        ("socks5://bob:pw@a:1", "echo.example", b"\x05\x02\x01\0" + OK,
         b"\x05\x02\0\x02\x01\x03bob\x02pw" + NAME),
        ("socks5://bob@a:1", "echo.example", b"\x05\0" + OK, b"\x05\x02\0\x02" + NAME),
        ("socks4://a:1", "127.0.0.1", b"\0\x5a" + bytes(6), b"\x04\x01\0\x07\x7f\0\0\1\0"),
        ("socks4://bob@a:1", "echo.example", b"\0\x5a" + bytes(6),
         b"\x04\x01\0\x07\0\0\0\xffbob\0echo.example\0"),
        ("http://a:1", "echo.example", b"HTTP/1.1 200 OK\r\n\r\n", CONNECT),
        ("http://a:1", "echo.example",
         b"HTTP/1.0 100 Wait\r\n\r\nHTTP/1.0 299\r\nA: b\r\n\r\n", CONNECT),
        ("https://bob:p%20w@a:1", "::1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
         b"CONNECT [::1]:7 HTTP/1.1\r\nhost: [::1]:7\r\n"
         b"proxy-authorization: Basic Ym9iOnAgdw==\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_is_sent(url: str, host: str, answers: bytes, sent: bytes) -> None:
    said, rest = hold(url, answers + b"early", host)
    assert said.lower() == sent.lower()  # h11 changed how it writes the names of headers
    assert rest == b"early"


@pytest.mark.parametrize(
    ("url", "answers", "complaint"),
    [
        ("socks5://a:1", b"\x05\xff", "it demands a user name and a password"),
        ("socks5://bob@a:1", b"\x05\xff", "it demands another way to log in"),
        ("socks5://a:1", b"\x05\x02", "it chose method 2, which was not offered"),
        ("socks5://a:1", b"HT", "it does not speak SOCKS5, it answered 48 54"),
        ("socks5://a:1", b"\x05\0\x04\0\0\x01\0", "it does not speak SOCKS5, it answered 04 00"),
        ("socks5://a:1", b"\x05\0\x05\0\0\x02\0", "it does not speak SOCKS5, it answered 05 00"),
        ("socks5://b:c@a:1", b"\x05\x02\x01\x01", "it does not accept the user name and password"),
        ("socks5://a:1", b"\x05\0\x05\x05\0\x01\0",
         "it cannot connect to echo.example:7: connection refused"),
        ("socks5://a:1", b"\x05\0\x05\x63\0\x01\0", "it cannot connect to echo.example:7: code 99"),
        ("socks4://a:1", b"\0\x5b" + bytes(6),
         "it cannot connect to echo.example:7: rejected or failed"),
        ("socks4://a:1", b"\x05\x5b" + bytes(6), "it does not speak SOCKS4, it answered 05 5b"),
        ("http://a:1", b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
         "it cannot connect to echo.example:7: 502 Bad Gateway"),
        ("http://a:1", b"HTTP/1.1 407 Log in\r\n\r\n",
         "it demands a user name and a password (407 Log in)"),
        ("http://b:c@a:1", b"HTTP/1.1 407 No\r\n\r\n",
         "it does not accept the user name and password (407 No)"),
        ("http://b:c@a:1", b"HTTP/1.0 401\r\n\r\n",
         "it does not accept the user name and password (401)"),
        ("http://a:1", b"SSH-2.0-x\r\n\r\n", "illegal status line: b'SSH-2.0-x'"),
        ("http://a:1", b"A" * 70_000, "it does not speak HTTP: "),
    ],
)  # fmt: skip
def test_what_a_proxy_refuses(url: str, answers: bytes, complaint: str) -> None:
    with pytest.raises(HandshakeError, match=re.escape(complaint)) as caught:
        hold(url, answers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["a" * 256, "a..é"])
def test_a_name_that_cannot_be_sent(host: str) -> None:
    with pytest.raises(HandshakeError, match="cannot be sent"):
        next(dialog(Proxy.parse("socks5://a:1"), host, 7))
