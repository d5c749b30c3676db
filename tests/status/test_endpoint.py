"""Where the status is served."""

from __future__ import annotations

import pytest
from twisted.internet.testing import MemoryReactorClock

from echoproto.net.string_endpoint import ListenError
from echoproto.status.endpoint import on_loopback, status_endpoint
from tests.twisted_versions import binding


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("9998", "tcp:9998:interface=127.0.0.1"),
        ("tcp:9998", "tcp:9998:interface=127.0.0.1"),
        ("tcp:port=9998", "tcp:port=9998:interface=127.0.0.1"),
        ("tcp:9998:backlog=5", "tcp:9998:backlog=5:interface=127.0.0.1"),
        ("tcp:9998:interface=192.0.2.1", "tcp:9998:interface=192.0.2.1"),
        ("tcp:9998:192.0.2.1", "tcp:9998:192.0.2.1"),
        ("TCP6:9998", r"tcp6:9998:interface=\:\:1"),
        (":9998", "tcp:9998:interface=127.0.0.1"),
        ("*:9998", "tcp:9998:interface=*"),
        ("[::1]:9998", r"tcp:9998:interface=\:\:1"),
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
    bound: list[object] = [port for port, *_ in reactor.tcpServers]
    assert bound == [
        binding("127.0.0.1", 9998),
        binding("192.0.2.1", 9997),
    ]


@pytest.mark.parametrize("description", ["", "http:80", "tcp", "tcp:x", "stdio:"])
def test_what_is_no_endpoint(description: str) -> None:
    with pytest.raises(ListenError):
        status_endpoint(MemoryReactorClock(), description)
