"""How a protocol of the user's becomes the protocol of a factory's connections."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from echoproto.core.connection import Connection
from echoproto.core.protocol import Echo


def connection_class(protocol: Any) -> type[Connection]:
    """Return the class of a factory's connections for a protocol of the user's.

    :param protocol: a subclass of :class:`echoproto.Echo`. Its methods are called
        as Twisted calls a protocol's, from the moment the connection is admitted.
    :raises TypeError: when it is not one, needs arguments, or defines a name of a connection.
    """
    if not (isinstance(protocol, type) and issubclass(protocol, Echo)):
        raise TypeError(
            f"protocol={protocol!r} cannot be composed; allowed: a subclass of echoproto.Echo"
        )
    return _compose(protocol)  # type: ignore[arg-type]  # mypy: a class is not hashable


@functools.cache  # making a class takes longer than making a connection
def _compose(protocol: type[Echo]) -> type[Connection]:
    if issubclass(protocol, Connection):
        return protocol
    try:
        inspect.signature(protocol).bind()
    except TypeError as error:
        raise TypeError(
            f"protocol={protocol.__name__} cannot be made without arguments ({error}); allowed: "
            "a subclass of echoproto.Echo that takes none"
        ) from None
    ours = {*vars(Connection), *Connection.__annotations__} - set(dir(Echo))
    for base in protocol.__mro__[: protocol.__mro__.index(Echo)]:
        taken = sorted(ours & set(vars(base)))
        if taken:
            raise TypeError(
                f"{base.__name__}.{taken[0]}: a connection has this name for itself; allowed: "
                "any other name, and overriding what echoproto.Echo has"
            )
    return type(protocol.__name__, (Connection, protocol), {"__module__": protocol.__module__})
