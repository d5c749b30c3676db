"""What one server gives at most."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any

from echoproto.base.bounds import (
    LEAST_IDLE_TIMEOUT,
    MOST_BYTES_PER_SECOND,
    MOST_CONNECTIONS,
    MOST_SECONDS,
    check_number,
)
from echoproto.core.connection import Connection
from echoproto.core.factory import Clock, GateMaker
from echoproto.limits.idle import IdleSweep
from echoproto.limits.per_source import PerSourceLimit
from echoproto.limits.rate import RateLimit
from echoproto.limits.slots import ConnectionSlots

_COUNT = (1, MOST_CONNECTIONS, (int,), "connections, a whole number")
# For each limit its bounds, its type and its unit.
_BOUNDS: dict[str, tuple[float, float, Any, str]] = {
    "max_connections": _COUNT,
    "max_per_source": _COUNT,
    "idle_timeout": (LEAST_IDLE_TIMEOUT, MOST_SECONDS, (int, float), "seconds"),
    "max_bytes_per_second": (1, MOST_BYTES_PER_SECOND, (int,), "bytes, a whole number"),
}


@dataclass(frozen=True)
class Limits:
    """What one server gives at most; 0 means without a limit.

    :ivar max_connections: connections at once, in total.
    :ivar max_per_source: connections at once from one source.
    :ivar idle_timeout: seconds without a byte in either direction after which a
        connection is closed; 0.1 or more.
    :ivar max_bytes_per_second: maximum read rate per connection, in bytes per second.
    :raises ValueError: when a limit is out of range.
    :raises TypeError: when a limit is not a number, or a fraction where a whole
        number is needed.
    """

    max_connections: int = 0
    max_per_source: int = 0
    idle_timeout: float = 0.0
    max_bytes_per_second: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            value: Any = getattr(self, each.name)
            least, most, kinds, unit = _BOUNDS[each.name]
            allowed = f"{least:g} to {most:.0f} {unit}; 0 for no limit"
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise TypeError(f"{each.name}={value!r}; allowed: {allowed}")
            check_number(each.name, value, allowed, most, least)

    # What a factory asks: see Limits in core/factory.py.

    def make_slots(self, live: Callable[[], int]) -> ConnectionSlots | None:
        """Return the slots for a factory's connections; ``None`` without a limit."""
        return ConnectionSlots(self.max_connections, live) if self.max_connections else None

    def make_source_gate(self) -> GateMaker | None:
        """Return what admits connections by their source; ``None`` without a limit."""
        return PerSourceLimit(self.max_per_source).gate if self.max_per_source else None

    def make_pacers(self, clock: Clock) -> Callable[[Connection], RateLimit] | None:
        """Return what limits the rate of each connection; ``None`` without a limit."""
        rate = self.max_bytes_per_second
        return (lambda connection: RateLimit(connection, rate, clock())) if rate else None

    def make_sweep(
        self, live: Callable[[], Collection[Connection]], clock: Clock
    ) -> IdleSweep | None:
        """Return what closes idle connections; ``None`` without a limit."""
        return IdleSweep(live, clock, self.idle_timeout) if self.idle_timeout else None
