"""What a lane has of the reactor above it: everything that it does not do itself."""

from __future__ import annotations

from twisted.internet import interfaces
from zope.interface.interface import InterfaceClass


def pass_on_reactor(lane: type) -> type:
    """Give a class a property for each name of a reactor's interfaces that it does not have.

    Not by ``__getattr__``: CPython looks up every attribute of such a class in the slow way.

    :param lane: its instances have the reactor as ``above``.
    :returns: the class.
    """
    for interface in vars(interfaces).values():
        if isinstance(interface, InterfaceClass) and interface.__name__.startswith("IReactor"):
            for name in interface.names():
                if not hasattr(lane, name):
                    setattr(lane, name, _passed_on(name))
    return lane


def _passed_on(name: str) -> property:
    return property(lambda lane: getattr(lane.above, name))
