"""What an explanation says: plain data. What is not known is None or empty."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Effect", "Explanation", "Need", "Size", "Suspect", "Unit", "Where"]


class Effect(str, enum.Enum):
    """What the path does to the bytes or to the connection."""

    DELETED = "deleted"
    REPLACED = "replaced"
    INSERTED = "inserted"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    WITHHELD = "withheld"
    RESET = "reset"
    REFUSED = "refused"
    MIXED = "mixed"
    NOT_CLOSED = "not-closed"
    DELAYED = "delayed"

    def __str__(self) -> str:
        return self.value


class Unit(str, enum.Enum):
    """What a size is the size of."""

    WRITE = "write"
    CONNECTION = "connection"
    RUN = "run"
    IN_FLIGHT = "in-flight"

    def __str__(self) -> str:
        return self.value


class Where(str, enum.Enum):
    """Where in the stream it happens, unless at a fixed offset."""

    ANYWHERE = "anywhere"
    START = "start"
    END = "end"
    BORDER = "border"

    def __str__(self) -> str:
        return self.value


class Need(str, enum.Enum):
    """What a conversation must have to show it."""

    FIN = "fin"
    RESET = "reset"
    AWAIT = "await"
    PAUSE = "pause"
    SLOW_READER = "slow-reader"
    HOLD = "hold"
    SEVERAL_WRITES = "several-writes"
    SEVERAL_CONNECTIONS = "several-connections"
    NO_CONNECTION = "no-connection"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Size:
    """Which sizes fail, in bytes.

    Attributes:
        unit: what is measured.
        least: the smallest that fails.
        most: the largest that fails; None if every larger one that was tried fails too.
        multiple_of: only multiples of this fail.
    """

    unit: Unit
    least: int | None = None
    most: int | None = None
    multiple_of: int | None = None


@dataclass(frozen=True)
class Suspect:
    """A device that typically does this.

    Attributes:
        what: the device.
        remedy: what to change; empty if nothing is known.
        source: where this is documented.
    """

    what: str
    remedy: str = ""
    source: str = ""


@dataclass(frozen=True)
class Explanation:
    """What the experiments showed of a failure.

    Attributes:
        text: one line of plain English.
        effect: what the path does.
        bytes_: the byte sequences that trigger it; empty if any byte does.
        becomes: what came back for each of them, as pairs.
        size: which sizes trigger it.
        position: where in the stream: a word, or an offset in bytes.
        needs: what else a conversation must have.
        pause_ms: the shortest pause that triggers it, or time without a connection, in
            milliseconds.
        hold_ms: the shortest time without reading that triggers it, in milliseconds.
        connections: the smallest number of connections at once that triggers it.
        every: it happens on every Nth connection.
        after_connections: it happens on every connection after so many, counted from the first.
        rate: how often it failed, in how many runs.
        delay_ms: how late the bytes came, in milliseconds.
        suspects: what it is typical of.
        conversations: how many were run to find this out.
        sizes_tried: each size that was tried, and whether it failed; for the plot only.
    """

    text: str
    effect: Effect
    bytes_: tuple[bytes, ...] = ()
    becomes: tuple[tuple[bytes, bytes], ...] = ()
    size: Size | None = None
    position: Where | int | None = None
    needs: tuple[Need, ...] = ()
    pause_ms: int | None = None
    hold_ms: int | None = None
    connections: int | None = None
    every: int | None = None
    after_connections: int | None = None
    rate: tuple[int, int] | None = None
    delay_ms: int | None = None
    suspects: tuple[Suspect, ...] = ()
    conversations: int = 0
    sizes_tried: tuple[tuple[int, bool], ...] = ()
