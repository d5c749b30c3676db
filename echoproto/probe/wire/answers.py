"""Which connections of a run were answered. Pure logic."""

from __future__ import annotations

__all__ = ["Answers"]


class Answers:
    """The connections to a target by number, from 1 on, and whether anything came back.

    Attributes:
        last: the highest number of one that was answered; 0 for none.
    """

    def __init__(self) -> None:
        self.last = 0
        self._unanswered: set[int] = set()

    def note(self, number: int, answered: bool) -> None:
        """Note that a connection has ended.

        Args:
            number: of the connection.
            answered: whether anything came back.
        """
        if answered and number > self.last:
            self.last = number
            self._unanswered = {other for other in self._unanswered if other > number}
        elif number > self.last:
            self._unanswered.add(number)

    @property
    def stopped_after(self) -> int | None:
        """After how many connections nothing came back any more; None if something did.

        Connections that show neither, because they reset before anything could come back, count
        as those before them.
        """
        return min(self._unanswered) - 1 if self._unanswered else None
