r"""The parts of an endpoint string: its kind, and its arguments with and without a name.

Twisted's parser (``twisted.internet.endpoints``) returns an endpoint, but does not tell
what the string says: whether it names a backlog, or an interface. Here the string is
split as there: arguments are separated by colons, a name and its value by ``=``, and a
backslash takes the meaning from the character after it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from twisted.internet.endpoints import quoteStringArgument

_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^:\\])*)", re.DOTALL)
_NAMED = re.compile(r"((?:\\.|[^=\\])*)=(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class EndpointString:
    """What an endpoint string says.

    :ivar kind: what it begins with, in lower case, as ``tcp``.
    :ivar unnamed: the values without a name, in order.
    :ivar named: the other values, by name.
    """

    kind: str
    unnamed: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)


_KIND = re.compile("[A-Za-z0-9]+(?=:|$)")
_SHORTHAND = re.compile(r"(?:(\*|[0-9.]+|\[[0-9A-Fa-f:.]+(?:%[^\]\\]+)?\])?:)?([0-9]+)", re.ASCII)


def full_form(description: str) -> str:
    """Return an endpoint string in the form that Twisted takes.

    :param description: an endpoint string, whose kind may be in capitals; or a TCP port,
        with or without an address, as ``9999``, ``:9999``, ``127.0.0.1:9999`` and
        ``[::1]:9999``. Without an address, all of IPv4.
    """
    shorthand = _SHORTHAND.fullmatch(description)
    if shorthand is None:
        kind = _KIND.match(description)
        return description if kind is None else kind[0].lower() + description[kind.end() :]
    address, port = shorthand.groups()
    if address is None:
        return f"tcp:{port}"
    return f"tcp:{port}:interface={quoteStringArgument(address.strip('[]'))}"


def parse_endpoint(description: str) -> EndpointString:
    """Split an endpoint string.

    :param description: as ``twisted.internet.endpoints.serverFromString`` takes it. One
        that Twisted would refuse is split all the same.
    """
    kind, *arguments = _ARGUMENT.findall(description)
    unnamed, named = [], {}
    for argument in arguments:
        match = _NAMED.fullmatch(argument)
        if match is None:
            unnamed.append(_unescaped(argument))
        else:
            named[_unescaped(match[1])] = _unescaped(match[2])
    return EndpointString(_unescaped(kind).lower(), tuple(unnamed), named)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
