from __future__ import annotations

import socket
import ssl
from pathlib import Path as File

import pytest

from echoproto.probe.wire.target import Target, TargetError, is_loopback
from tests.probe.conftest import Certificates


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("balancer:7", Target("tcp", "balancer", 7)),
        ("tcp:balancer:7", Target("tcp", "balancer", 7)),
        ("tcp:7", Target("tcp", "tcp", 7)),
        ("tls:balancer:7", Target("tls", "balancer", 7)),
        ("[::1]:7", Target("tcp", "::1", 7)),
        ("tls:[2001:db8::1]:65535", Target("tls", "2001:db8::1", 65535)),
        ("unix:/run/echo.sock", Target("unix", path="/run/echo.sock")),
    ],
)
def test_every_form(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("balancer", "must be host:port"),
        ("", "must be host:port"),
        ("::1:7", "must be host:port"),
        ("http://a:7", "port '//a:7'; must be"),
        ("a:0", "port '0'; must be 1 to 65535"),
        ("a:70000", "port '70000'; must be 1 to 65535"),
        ("a:echo", "port 'echo'"),
        ("[zz]:7", "'zz' is not an IPv6 address"),
        ("unix:", "has 1 to 107 bytes"),
        ("unix:/" + "a" * 107, "has 1 to 107 bytes"),
    ],
)
def test_invalid_targets(text: str, complaint: str) -> None:
    with pytest.raises(TargetError, match="target") as caught:
        Target.parse(text)
    assert complaint in str(caught.value)
    assert repr(text) in str(caught.value)


def test_options_of_tls_need_tls() -> None:
    with pytest.raises(TargetError, match="--ca needs a tls: target"):
        Target.parse("a:7", ca="x")
    with pytest.raises(TargetError, match="--insecure needs a tls: target"):
        Target.parse("unix:/x", insecure=True)
    with pytest.raises(TargetError, match="--key needs --cert"):
        Target.parse("tls:a:7", key="x")
    with pytest.raises(TargetError, match="must be v1 or v2"):
        Target.parse("a:7", send_proxy="v3")


def test_the_words_are_the_command_line() -> None:
    target = Target.parse("tls:a:7", ca="c", server_name="b", insecure=True, send_proxy="v2")
    assert target.words == (
        "tls:a:7", "--ca", "c", "--server-name", "b", "--send-proxy", "v2", "--insecure",
    )  # fmt: skip


def test_addresses() -> None:
    assert Target.parse("127.0.0.1:7").addresses() == [(socket.AF_INET, ("127.0.0.1", 7))]
    assert Target.parse("unix:/x").addresses() == [(socket.AF_UNIX, "/x")]
    with pytest.raises(TargetError, match=r"cannot resolve 'no\.invalid'"):
        Target.parse("no.invalid:7").addresses()
    with pytest.raises(TargetError, match="cannot resolve"):
        Target.parse(f"{'a' * 64}.b:7").addresses()


def test_loopback_addresses() -> None:
    assert is_loopback((socket.AF_INET, ("127.9.9.9", 7)))
    assert is_loopback((socket.AF_INET6, ("::1", 7, 0, 0)))
    assert is_loopback((socket.AF_UNIX, "/x"))
    assert not is_loopback((socket.AF_INET, ("192.0.2.1", 7)))
    assert not is_loopback((socket.AF_INET6, ("fe80::1%eth0", 7, 0, 2)))


def test_tls_contexts(certificates: Certificates, tmp_path: File) -> None:
    assert Target.parse("a:7").tls_context is None
    trusting = Target.parse("tls:a:7", insecure=True).tls_context
    assert trusting is not None
    assert trusting.verify_mode is ssl.CERT_NONE
    strict = Target.parse("tls:a:7").tls_context
    assert strict is not None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert Target.parse(
        "tls:a:7", ca=certificates.cert, cert=certificates.cert, key=certificates.key
    ).tls_context
    garbled = tmp_path / "garbled"
    garbled.write_text("no certificate")
    for options, complaint in (
        ({"ca": "/no/such"}, "--ca /no/such: No such file"),
        ({"ca": str(garbled)}, "--ca .*: no usable certificate"),
        ({"cert": str(garbled)}, "--cert .*: no usable certificate"),
        ({"cert": certificates.cert}, "--cert .*: no usable certificate or key"),
    ):
        with pytest.raises(TargetError, match=complaint):
            _ = Target.parse("tls:a:7", **options).tls_context  # type: ignore[arg-type]


def test_proxy_headers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sock:
            own = sock.getsockname()[1]
            assert Target.parse("a:7").proxy_header(sock) == b""
            v1 = Target.parse("a:7", send_proxy="v1").proxy_header(sock)
            assert v1 == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (own, port)
            v2 = Target.parse("a:7", send_proxy="v2").proxy_header(sock)
            assert v2[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
            addresses = b"\x7f\0\0\1" * 2 + own.to_bytes(2, "big") + port.to_bytes(2, "big")
            assert v2[16:] == addresses
    one, other = socket.socketpair()
    with one, other:
        assert Target.parse("unix:/x", send_proxy="v1").proxy_header(one) == b"PROXY UNKNOWN\r\n"
        assert len(Target.parse("unix:/x", send_proxy="v2").proxy_header(one)) == 16
