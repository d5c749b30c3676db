"""A fault by its name, and one that was asked for: ``[back:]NAME[=ARGUMENT][@RATE]``."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from echoproto.probe.relay.arguments import ArgumentError, Kind, T, rate
from echoproto.probe.relay.back import on_the_way_back
from echoproto.probe.relay.stage import MakeStage, Stage

__all__ = ["ChosenFault", "Fault", "FaultError", "choose", "plain", "taking"]


BACK = "back:"
"""Before the name of a fault: it does to the server what it does to the client otherwise."""


class FaultError(ValueError):
    """There is no such fault, or not with this argument; the message is one line."""


@dataclass(frozen=True)
class Fault:
    """Something that a path does wrong.

    Attributes:
        name: how it is asked for.
        what: what it does, in one sentence.
        seen: which real device does it.
        build: makes the stage of an argument.
        argument: the form of the argument; empty without one.
        default: the argument if none is given; None if there has to be one.
    """

    name: str
    what: str
    seen: str
    build: Callable[[str], MakeStage]
    argument: str = ""
    default: str | None = None

    @property
    def usage(self) -> str:
        """Return how it is written: ``flip-at=OFFSET``, ``trailer[=HEX]``."""
        if not self.argument:
            return self.name
        value = f"={self.argument}"
        return self.name + (value if self.default is None else f"[{value}]")


@dataclass(frozen=True)
class ChosenFault:
    """A fault that was asked for.

    Attributes:
        text: how it was asked for.
        make: makes its stage for a connection.
        rate: the share of connections that it acts on, drawn for each.
    """

    text: str
    make: MakeStage
    rate: float = 1.0

    def acts_on(self, chance: random.Random) -> bool:
        """Return whether it acts on a connection."""
        return self.rate >= 1 or chance.random() < self.rate


def plain(stage: Callable[..., Stage]) -> Callable[[str], MakeStage]:
    """Return how to build a fault that takes no argument."""
    return lambda _: stage


def taking(kind: Kind[T], make: Callable[[T], MakeStage]) -> Callable[[str], MakeStage]:
    """Return how to build a fault from an argument of some kind."""
    return lambda text: make(kind.parse(text))


def choose(text: str, faults: Iterable[Fault], usual: float = 1.0) -> ChosenFault:
    """Read ``[back:]NAME[=ARGUMENT][@RATE]``.

    Args:
        text: what was asked for.
        faults: those that there are.
        usual: the rate if it names none.

    Raises:
        FaultError: naming what is wrong and what is allowed.
    """
    asked, at, share = text.removeprefix(BACK).partition("@")
    name, equals, argument = asked.partition("=")
    known = {fault.name: fault for fault in faults}
    if name not in known:
        close = get_close_matches(name, known)
        hint = f"did you mean {close[0]}?" if close else "--list shows all"
        raise FaultError(f"{text!r}: no fault is named {name!r}; {hint}")
    fault = known[name]
    if equals and not fault.argument:
        raise FaultError(f"{text!r}: {name} takes no argument")
    if not equals and fault.argument and fault.default is None:
        raise FaultError(f"{text!r}: {name} needs an argument: {fault.usage}")
    try:
        make = fault.build(argument if equals else fault.default or "")
        if text.startswith(BACK):
            make = on_the_way_back(make)
        chosen = ChosenFault(text, make, usual)
        return replace(chosen, rate=rate(share)) if at else chosen
    except ArgumentError as error:
        raise FaultError(f"{text!r}: {error}") from None
