"""Addresses as log lines write them."""

from __future__ import annotations

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from echoproto.base.address import format_address, source


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv4Address("TCP", "192.0.2.1", 7), "192.0.2.1:7"),
        (IPv6Address("TCP", "2001:db8::1", 7), "[2001:db8::1]:7"),
        (IPv6Address("TCP", "fe80::1%eth0", 7), "[fe80::1%eth0]:7"),
        (UNIXAddress("/run/echo.sock"), "unix:/run/echo.sock"),
        (UNIXAddress("/run/é.sock"), "unix:/run/é.sock"),
        # A client chooses its name, so a name may be anything.
        (UNIXAddress(b"/run/\xff"), r"unix:/run/\xff"),
        (UNIXAddress(b"\0abstract"), "unix:@abstract"),
        (UNIXAddress(b"/run/x\nlistening on nothing"), r"unix:/run/x\nlistening on nothing"),
        (UNIXAddress(None), "unix:"),
        (HostnameAddress(b"example.com", 7), str(HostnameAddress(b"example.com", 7))),
    ],
)
def test_format(address: IAddress, text: str) -> None:
    assert format_address(address) == text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        # All of IPv4 would be one source otherwise.
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_source(host: str, expected: str) -> None:
    kind = IPv6Address if ":" in host else IPv4Address
    assert source(kind("TCP", host, 7)) == expected


def test_a_unix_client_has_no_source() -> None:
    assert source(UNIXAddress(b"/run/x")) is None
    assert source(None) is None
