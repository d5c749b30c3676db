"""What a relay did to which connection: as objects, as text, and as JSON lines."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from echoproto.probe.script.words import plural

__all__ = ["Event", "Log", "difference"]

#: So many bytes of a change are shown.
_SHOWN = 16


@dataclass(frozen=True)
class Event:
    """Something that happened to a connection.

    Attributes:
        seconds: the time since the relay has started.
        kind: ``opened``, ``fault``, ``failed``, ``closed`` or ``end``.
        connection: the number of the connection, from 1; 0 if it belongs to none.
        fault: the fault, as it was asked for, if this is what a fault did.
        text: what happened, in words.
        details: the same for programs; the keys depend on the event.
    """

    seconds: float
    kind: str
    connection: int
    fault: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_text(self) -> str:
        """Return one line for people."""
        where = f"connection {self.connection}: " if self.connection else ""
        return f"{where}{f'{self.fault}: ' if self.fault else ''}{self.text}"

    def as_json(self) -> str:
        """Return one line for programs."""
        values: dict[str, Any] = {"seconds": round(self.seconds, 6), "event": self.kind}
        if self.connection:
            values["connection"] = self.connection
        if self.fault:
            values["fault"] = self.fault
        return json.dumps({**values, "text": self.text, **self.details})


class Log:
    """Tells observers of each event, and counts.

    Args:
        observers: each is called with every event, in the thread of the relay.

    Attributes:
        opened: how many connections there were.
        acted: for each fault, on how many connections it did anything.
    """

    def __init__(self, *observers: Callable[[Event], None]) -> None:
        self._observers = observers
        self._began = time.monotonic()
        self.opened = 0
        self.acted: Counter[str] = Counter()

    @property
    def observed(self) -> bool:
        """Whether it is worth finding out what exactly a fault did."""
        return bool(self._observers)

    def tell(
        self, kind: str, text: str, *, connection: int = 0, fault: str = "", **details: Any
    ) -> None:
        """Report an event; for the arguments see :class:`Event`."""
        if self._observers:
            seconds = time.monotonic() - self._began
            event = Event(seconds, kind, connection, fault, text, details)
            for observer in self._observers:
                observer(event)

    def end(self) -> None:
        """Report the sums."""
        acted = "; ".join(f"{fault} acted on {count}" for fault, count in self.acted.items())
        text = plural(self.opened, "connection") + (f"; {acted}" if acted else "")
        self.tell("end", text, connections=self.opened, acted=dict(self.acted))


def difference(before: bytes, after: bytes, offset: int) -> tuple[str, dict[str, Any]]:
    """Return what was changed, in words and as details.

    Args:
        before: bytes as they came.
        after: the same as they went on; they differ.
        offset: how many bytes came earlier.
    """
    start = _common(before, after)
    rest, changed = before[start:], after[start:]
    tail = _common(rest[::-1], changed[::-1])
    removed, inserted = rest[: len(rest) - tail], changed[: len(changed) - tail]
    at = offset + start
    details = {
        "at": at,
        "removed_bytes": len(removed),
        "removed": removed[:_SHOWN].hex(" "),
        "inserted_bytes": len(inserted),
        "inserted": inserted[:_SHOWN].hex(" "),
    }
    if not inserted:
        text = f"removed {plural(len(removed), 'byte')} at {at}: {_shown(removed)}"
    elif not removed:
        text = f"inserted {plural(len(inserted), 'byte')} at {at}: {_shown(inserted)}"
    else:
        count = plural(len(removed), "byte")
        text = f"replaced {count} at {at}: {_shown(removed)} with {_shown(inserted)}"
    return text, {"action": "changed", **details}


def _shown(data: bytes) -> str:
    return data[:_SHOWN].hex(" ") + (" ..." if len(data) > _SHOWN else "")


def _common(one: bytes, other: bytes) -> int:
    """Return the length of the common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
