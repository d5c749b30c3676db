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
        ("[0:0::0001]:7", Target("tcp", "::1", 7)),
        ("[fe80::1%eth0]:9", Target("tcp", "fe80::1%eth0", 9)),
        ("balancer", Target("tcp", "balancer", 7)),
        ("[::1]", Target("tcp", "::1", 7)),
        ("tls:balancer", Target("tls", "balancer", 7)),
        ("tcp:127.0.0.1", Target("tcp", "127.0.0.1", 7)),
        ("tls:[::1]", Target("tls", "::1", 7)),
        ("balancer:echo", Target("tcp", "balancer", 7)),
        ("tls:balancer:echo", Target("tls", "balancer", 7)),
        (" a:00007\n", Target("tcp", "a", 7)),
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
        ("", "must be host:port"),
        ("::1:7", "is an IPv6 address without brackets; must be host:port"),
        ("::1", "is an IPv6 address without brackets"),
        ("tls:2001:db8::1", "is an IPv6 address without brackets"),
        ("[::1]7", "must be host:port"),
        ("[::1", "must be host:port"),
        ("http://a:9", "is a URL; try a:9; must be host:port"),
        ("http://a/", "is a URL; try a:80;"),
        ("https://[::1]/x?y", "is a URL; try tls:[::1]:443;"),
        ("tcp://a", "is a URL; try a:7;"),
        ("ftp://a:b", "is a URL; must be host:port"),
        ("//a", "must be host:port"),
        ("9999", "is a number; try 127.0.0.1:9999;"),
        ("/run/echo.sock", "is a path; try unix:/run/echo.sock;"),
        ("a b:7", "must be host:port"),
        ("a:0", "port '0'; must be 1 to 65535, or a service's name"),
        ("a:", "port ''; must be"),
        ("a:-7", "port '-7'; must be"),
        ("a:\u0667", "port '\u0667'; must be"),
        ("a:70000", "port '70000'; must be 1 to 65535"),
        ("a:ecko", "port 'ecko'; must be 1 to 65535, or a service's name"),
        ("a:\udcff", "must be 1 to 65535"),
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
    with pytest.raises(TargetError, match=r"-4 needs a host, not 'unix:/x'$"):
        Target.parse("unix:/x", family="4")
    with pytest.raises(TargetError, match="-5 is no family; must be -4 or -6"):
        Target.parse("a:7", family="5")


def test_the_words_are_the_command_line() -> None:
    target = Target.parse(
        "tls:a:7", ca="c", server_name="b", insecure=True, send_proxy="v2", family="6"
    )
    assert target.words == (
        "tls:a:7", "--ca", "c", "--server-name", "b", "--send-proxy", "v2", "--insecure", "-6",
    )  # fmt: skip
    assert Target.from_words(target.words) == target
    assert Target.from_words(["unix:/x"]) == Target.parse("unix:/x")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "no target"),
        ("a:7 --ca", "'--ca' is not an option"),
        ("a:7 b:7", "'b:7' is not an option"),
        ("a:7 --retries 3", "'--retries' is not an option"),
        ("a:7 --insecure", "--insecure needs a tls: target"),
        ("a:0", "port '0'"),
    ],
)
def test_words_that_are_not_a_target(words: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint):
        Target.from_words(words.split())


def test_a_service_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getservbyname", lambda name, protocol: {"http": 80}[name])
    assert Target.parse("a:http").port == 80


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a:7", "tcp:A:echo", True),
        ("a", "a:7", True),
        ("[::1]:7", "[0::1]", True),
        ("tls:a:7 --ca x", "tls:a:7 --insecure", True),
        ("a:7", "a:8", False),
        ("a:7", "b:7", False),
        ("a:7", "tls:a:7", False),
        ("a:7", "a:7 --send-proxy v1", False),
        ("a:7", "a:7 -4", False),
        ("tls:a:7", "tls:a:7 --server-name b", False),
        ("tls:a:7", "tls:a:7 --cert b", False),
        ("unix:/a", "unix:/A", False),
    ],
)
def test_which_targets_are_the_same_path(one: str, other: str, same: bool) -> None:
    paths = [Target.from_words(words.split()).path_of_bytes for words in (one, other)]
    assert (paths[0] == paths[1]) is same


def test_addresses() -> None:
    assert Target.parse("127.0.0.1:7").addresses() == [(socket.AF_INET, ("127.0.0.1", 7))]
    assert Target.parse("unix:/x").addresses() == [(socket.AF_UNIX, "/x")]
    assert Target.parse("127.0.0.1:7", family="4").addresses() == [
        (socket.AF_INET, ("127.0.0.1", 7))
    ]
    with pytest.raises(TargetError, match=r"cannot resolve '127.0.0.1' to an IPv6 address: "):
        Target.parse("127.0.0.1:7", family="6").addresses()
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
