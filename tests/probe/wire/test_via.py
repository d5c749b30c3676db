from __future__ import annotations

import pytest

from echoproto.probe.wire.chain import check_chain
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.via import Proxy


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("socks5://a:1080", Proxy("socks5", "a", 1080)),
        ("socks5h://a:1080/", Proxy("socks5", "a", 1080)),
        ("SOCKS4a://A:1", Proxy("socks4", "a", 1)),
        ("socks4://bob@[::1]:1", Proxy("socks4", "::1", 1, "bob")),
        ("http://a:3128", Proxy("http", "a", 3128)),
        ("https://bob:p@a:443", Proxy("https", "a", 443, "bob", "p")),
        ("socks5://bob:@a:1", Proxy("socks5", "a", 1, "bob", "")),
        ("socks5://b%40b:%3a%2F%20%2a@a:1", Proxy("socks5", "a", 1, "b@b", ":/ *")),
        ("socks5://bob:***@a:1", Proxy("socks5", "a", 1, "bob", None, withheld=True)),
        ("socks5://bob:%2a%2a%2a@a:1", Proxy("socks5", "a", 1, "bob", "***")),
    ],
)
def test_every_form(text: str, proxy: Proxy) -> None:
    assert Proxy.parse(text) == proxy
    assert Proxy.parse(str(proxy)).path_of_bytes == proxy.path_of_bytes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "''"),
        ("a:1080", "'a:1080'"),
        ("socks5://a", "'socks5://a'"),
        ("socks5://a:0", "'socks5://a:0'"),
        ("socks5://:1080", "'socks5://:1080'"),
        ("ftp://bob:secret@a:1", "'ftp://bob:***@a:1'"),
        ("bob:secret@a:1", "'bob:***@a:1'"),
        ("socks5://bob:sec/ret@a:1", "'socks5://bob:***@a:1'"),
        ("socks5://bob:secret@x@a", "'socks5://bob:***@a'"),
        ("socks5://a:1080/x", "'socks5://a:1080/x'"),
        ("socks5://a:1080?x", "'socks5://a:1080?x'"),
        ("socks5://a b:1080", "'socks5://a b:1080'"),
        ("socks5://[::1:1080", "'socks5://[::1:1080'"),
    ],
)
def test_what_is_not_a_proxy(text: str, shown: str) -> None:
    with pytest.raises(TargetError) as caught:
        Proxy.parse(text)
    assert str(caught.value).startswith(f"--via {shown}; must be socks5://[USER:PASSWORD@]HOST:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("socks5://:p@a:1", "--via 'socks5://:***@a:1': the user name is empty"),
        ("socks4://bob:p@a:1", "--via 'socks4://bob:***@a:1': SOCKS4 has no passwords"),
        (f"socks5://{'é' * 128}@a:1", "has at most 255 bytes"),
        (f"socks5://a:{'p' * 256}@a:1", "--via 'socks5://a:***@a:1': a user name or password has"),
    ],
)
def test_names_that_cannot_be_sent(text: str, complaint: str) -> None:
    with pytest.raises(TargetError) as caught:
        Proxy.parse(text)
    assert complaint in str(caught.value)


def test_a_password_is_in_nothing_that_is_shown() -> None:
    target = Target.parse("a:7", via=["socks5://bob:sesame@b:1", "http://c:2"])
    assert str(target) == "a:7 via socks5://bob:***@b:1, http://c:2"
    assert target.words == ("a:7", "--via", "socks5://bob:***@b:1", "--via", "http://c:2")
    assert "sesame" not in repr(target)
    saved = Target.from_words(target.words)
    assert saved.path_of_bytes == target.path_of_bytes
    assert saved != target
    check_chain(target)
    with pytest.raises(TargetError, match="passwords are left out of files and reports; give"):
        check_chain(saved)


def test_what_a_chain_cannot_do() -> None:
    with pytest.raises(TargetError, match="--via needs a host, not 'unix:/x'"):
        Target.parse("unix:/x", via=["socks5://b:1"])
    with pytest.raises(TargetError, match="SOCKS4 has no IPv6 addresses such as ::1"):
        check_chain(Target.parse("[::1]:7", via=["socks5://b:1", "socks4://b:1"]))
    with pytest.raises(TargetError, match="SOCKS4 has no IPv6 addresses such as ::2"):
        check_chain(Target.parse("a:7", via=["socks4://b:1", "http://[::2]:1"]))
    check_chain(Target.parse("[::1]:7", via=["socks4://b:1", "socks5://b:1"]))
    with pytest.raises(TargetError, match="--insecure needs a tls: target"):
        Target.parse("a:7", via=["http://b:1"], insecure=True)
    assert Target.parse("a:7", via=["https://b:1"], insecure=True).tls_context is None


def test_the_first_proxy_is_what_is_connected_to() -> None:
    target = Target.parse("no.such.name.invalid:7", via=["socks5://127.0.0.1:9", "http://a:1"])
    assert Target.parse("a:7", via="http://b:1") == Target.parse("a:7", via=["http://b:1"])
    assert target.addresses()[0][1] == ("127.0.0.1", 9)
    with pytest.raises(
        TargetError, match=r"cannot resolve '127.0.0.1' to .* of proxy socks5://127"
    ):
        Target.parse("a:7", via=["socks5://127.0.0.1:9"], family="6").addresses()
