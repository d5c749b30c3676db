"""Where ``--status`` is served: an endpoint, on loopback unless it names an address."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from echoproto.net.string_endpoint import StringEndpoint

# For each kind of endpoint that listens on an address: the loopback one, and
# after how many others (its kind among them) the address may stand unnamed.
_LOOPBACK = {
    "tcp": ("127.0.0.1", 2),
    "ssl": ("127.0.0.1", 5),
    "tcp6": ("::1", 3),
    "tls": ("::1", 4),
}
# A colon that no backslash quotes.
_COLON = re.compile(r"(?<!\\)(?:\\\\)*:")


def on_loopback(description: str) -> str:
    """Add a loopback address to an endpoint that names none.

    :param description: as ``twisted.internet.endpoints.serverFromString``
        takes it, or a TCP port alone.
    """
    if re.fullmatch("[0-9]+", description, re.ASCII):
        description = f"tcp:{description}"
    kind, *arguments = _COLON.split(description)
    if kind.lower() not in _LOOPBACK:
        return description
    address, place = _LOOPBACK[kind.lower()]
    unnamed = [each for each in arguments if "=" not in each]
    named = any(each.startswith("interface=") for each in arguments)
    if named or len(unnamed) >= place:
        return description
    return f"{description}:interface={quoteStringArgument(address)}"


def status_endpoint(reactor: Any, description: str) -> StringEndpoint:
    """Return the endpoint that a description names; nothing is opened yet.

    :param reactor: to listen with.
    :param description: as for :func:`on_loopback`.
    :raises echoproto.net.string_endpoint.ListenError: when it names none.
    """
    return StringEndpoint(reactor, on_loopback(description))
