"""What is known of a failure so far; each experiment adds to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from echoproto.probe.search.explain.explanation import Effect, Need, Size, Where

__all__ = ["Findings"]


@dataclass
class Findings:
    """The fields of an explanation, while they are being found out.

    Attributes:
        effect: and the following as in :class:`Explanation`.
        stops: the triggers after which nothing of the same write comes back.
        goes_with: whether a trigger takes other bytes with it.
        each_write: whether ``position`` counts in each write instead of in the connection.
        answer: what the path sends of its own accord, as far as it was kept.
        passes: sizes beside the failing ones that pass.
        part: whether some of the bytes came back.
        dead: whether nothing comes back any more, whatever is sent after it.
        takes_next: whether a trigger acts only with another byte after it.
        second: whether the second of two writes shows it, whatever is in the first.
        whole: whether nothing at all of a write comes back.
        length: how many bytes at ``position`` change.
        unclear: whether some bytes matter, of which it is not known which.
        in_turn: whether the connections follow one another.
    """

    effect: Effect | None = None
    bytes_: list[bytes] = field(default_factory=list)
    becomes: dict[bytes, bytes] = field(default_factory=dict)
    size: Size | None = None
    position: Where | int | None = None
    needs: list[Need] = field(default_factory=list)
    pause_ms: int | None = None
    hold_ms: int | None = None
    connections: int | None = None
    every: int | None = None
    delay_ms: int | None = None
    sizes_tried: dict[int, bool] = field(default_factory=dict)
    stops: set[bytes] = field(default_factory=set)
    goes_with: set[bytes] = field(default_factory=set)
    each_write: bool = False
    answer: bytes = b""
    passes: list[int] = field(default_factory=list)
    part: bool = False
    dead: bool = False
    takes_next: bool = False
    second: bool = False
    in_turn: bool = False
    whole: bool = False
    length: int = 1
    unclear: bool = False

    def says_when(self) -> bool:
        """Return whether anything is known of when it happens."""
        return bool(self.bytes_ or self.needs or self.size or self.every) or (
            self.position is not None
        )

    def need(self, need: Need) -> None:
        """Add what a conversation must have."""
        if need not in self.needs:
            self.needs.append(need)
