"""Where ``--status`` is served: an endpoint, on loopback unless it names an address."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from echoproto.net.endpoint_strings import full_form, parse_endpoint
from echoproto.net.string_endpoint import StringEndpoint

# For each kind of endpoint that listens on an address: the loopback address, and the
# number of values without a name up to the address.
_LOOPBACK = {
    "tcp": ("127.0.0.1", 2),
    "ssl": ("127.0.0.1", 5),
    "tcp6": ("::1", 3),
    "tls": ("::1", 4),
}


def on_loopback(description: str) -> str:
    """Add a loopback address to an endpoint that names none.

    :param description: as ``twisted.internet.endpoints.serverFromString``
        takes it, or a short form; see :func:`echoproto.net.endpoint_strings.full_form`.
    """
    description = full_form(description)
    parsed = parse_endpoint(description)
    if parsed.kind not in _LOOPBACK:
        return description
    address, place = _LOOPBACK[parsed.kind]
    if "interface" in parsed.named or len(parsed.unnamed) >= place:
        return description
    return f"{description}:interface={quoteStringArgument(address)}"


def status_endpoint(reactor: Any, description: str) -> StringEndpoint:
    """Return the endpoint that a description names; nothing is opened yet.

    :param reactor: to listen with.
    :param description: as for :func:`on_loopback`.
    :raises echoproto.net.string_endpoint.ListenError: when it names none.
    """
    return StringEndpoint(reactor, on_loopback(description))
