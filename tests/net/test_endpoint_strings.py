"""The parts of an endpoint string, as Twisted splits it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints

from echoproto.net.endpoint_strings import EndpointString, full_form, parse_endpoint


@pytest.mark.parametrize(
    ("description", "kind", "unnamed", "named"),
    [
        ("", "", (), {}),
        ("tcp", "tcp", (), {}),
        ("tcp:", "tcp", ("",), {}),
        ("TCP6:7", "tcp6", ("7",), {}),
        ("tcp:7:interface=192.0.2.1", "tcp", ("7",), {"interface": "192.0.2.1"}),
        ("tcp:7:192.0.2.1:50", "tcp", ("7", "192.0.2.1", "50"), {}),
        ("tcp:port=7:backlog=", "tcp", (), {"port": "7", "backlog": ""}),
        ("tcp:7::5", "tcp", ("7", "", "5"), {}),
        (r"tcp6:7:interface=\:\:1", "tcp6", ("7",), {"interface": "::1"}),
        (r"tcp:7:x\:backlog=5", "tcp", ("7",), {"x:backlog": "5"}),
        (r"tcp:7:backlog\=5", "tcp", ("7", "backlog=5"), {}),
        (r"unix:C\\:660", "unix", ("C\\", "660"), {}),
        (r"unix:C\\\:660", "unix", ("C\\:660",), {}),
        ("ssl:k=a=b", "ssl", (), {"k": "a=b"}),
        ("tcp:7:backlog=1:backlog=2", "tcp", ("7",), {"backlog": "2"}),
        ("unix:a\nb", "unix", ("a\nb",), {}),
        ("tcp:7\\", "tcp", ("7",), {}),
    ],
)
def test_the_parts(
    description: str, kind: str, unnamed: tuple[str, ...], named: dict[str, str]
) -> None:
    assert parse_endpoint(description) == EndpointString(kind, unnamed, named)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("9999", "tcp:9999"),
        (":9999", "tcp:9999"),
        ("*:9999", "tcp:9999:interface=*"),
        ("127.0.0.1:9999", "tcp:9999:interface=127.0.0.1"),
        ("[::1]:9999", r"tcp:9999:interface=\:\:1"),
        ("[::]:9999", r"tcp:9999:interface=\:\:"),
        ("[::ffff:192.0.2.1]:9", r"tcp:9:interface=\:\:ffff\:192.0.2.1"),
        ("[fe80::1%eth0]:7", r"tcp:7:interface=fe80\:\:1%eth0"),
        ("TCP:7", "tcp:7"),
        ("TLS:/Certs:7", "tls:/Certs:7"),
        ("Unix:/A", "unix:/A"),
        ("SYSTEMD:domain=INET", "systemd:domain=INET"),
        ("", ""),
        (":", ":"),
        ("::1", "::1"),
        ("\u0663", "\u0663"),
        (r"t\CP:7", r"t\CP:7"),
        ("tcp:7\n", "tcp:7\n"),
    ],
)
def test_the_full_form(given: str, meant: str) -> None:
    assert full_form(given) == meant
    assert full_form(meant) == meant


class Plugin:
    """The parser of a plug-in, to which Twisted passes the parts of the string."""

    prefix = "plugin"
    parts: Any = None

    def parseStreamServer(self, reactor: Any, *unnamed: str, **named: str) -> None:
        self.parts = EndpointString(self.prefix, unnamed, named)


@given(st.text(alphabet="ab:=\\\n", max_size=30))
def test_the_parts_are_those_of_twisted(arguments: str) -> None:
    description = f"plugin:{arguments}"
    plugin = Plugin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoints, "getPlugins", lambda _: [plugin])
        try:
            endpoints.serverFromString(None, description)
        except RuntimeError:
            # It ends in a backslash.
            return
    assert parse_endpoint(description) == plugin.parts
