"""Where the status is served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock

from echoproto.status.endpoint import on_loopback, status_endpoint


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("9998", "tcp:9998:interface=127.0.0.1"),
        ("tcp:9998", "tcp:9998:interface=127.0.0.1"),
        ("tcp:port=9998", "tcp:port=9998:interface=127.0.0.1"),
        ("tcp:9998:backlog=5", "tcp:9998:backlog=5:interface=127.0.0.1"),
        ("tcp:9998:interface=192.0.2.1", "tcp:9998:interface=192.0.2.1"),
        ("tcp:9998:192.0.2.1", "tcp:9998:192.0.2.1"),
        ("TCP6:9998", r"TCP6:9998:interface=\:\:1"),
        ("tcp6:9998:5", r"tcp6:9998:5:interface=\:\:1"),
        (r"tcp6:9998:interface=2001\:db8\:\:1", r"tcp6:9998:interface=2001\:db8\:\:1"),
        (r"tcp6:9998:5:2001\:db8\:\:1", r"tcp6:9998:5:2001\:db8\:\:1"),
        ("ssl:9998:privateKey=k.pem", "ssl:9998:privateKey=k.pem:interface=127.0.0.1"),
        (r"ssl:9998:privateKey=C\:/k", r"ssl:9998:privateKey=C\:/k:interface=127.0.0.1"),
        ("tls:/certs:9998", r"tls:/certs:9998:interface=\:\:1"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
    ],
)
def test_on_loopback_unless_it_names_an_address(given: str, meant: str) -> None:
    assert on_loopback(given) == meant


def test_it_listens_there() -> None:
    reactor = MemoryReactorClock()
    for description in ("9998", "tcp:9997:interface=192.0.2.1"):
        status_endpoint(reactor, description).listen(None)  # type: ignore[arg-type]
    assert [(port, interface) for port, _, _, interface in reactor.tcpServers] == [
        (9998, "127.0.0.1"),
        (9997, "192.0.2.1"),
    ]


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("", "not an endpoint (Unknown endpoint type: '')"),
        ("http:80", "not an endpoint (Unknown endpoint type: 'http')"),
        ("tcp:x", "not an endpoint (invalid literal for int() with base 10: 'x')"),
        ("tcp", "an argument is missing, unknown, or there twice"),
        ("tcp:1:colour=red", "an argument is missing, unknown, or there twice"),
        ("tcp:1\\", "an argument is missing, unknown, or there twice"),
        ("systemd:domain=INET:index=7", "no such socket was inherited"),
        ("systemd:domain=INET:name=x", "no such socket was inherited"),
        ("ssl:1:privateKey=/no/key", "cannot read /no/key (No such file or directory)"),
    ],
)
def test_what_is_no_endpoint(description: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        status_endpoint(MemoryReactorClock(), description)


def test_a_key_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("OpenSSL")
    key = tmp_path / "key.pem"
    key.write_text("no key")
    with pytest.raises(ValueError, match=r"not an endpoint \(Error: "):
        status_endpoint(MemoryReactorClock(), f"ssl:1:privateKey={key}")
