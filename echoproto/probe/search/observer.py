"""What a campaign reports while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from echoproto.probe.search.result import CaseRecord, Failure, Phase

__all__ = ["Observer", "Observers"]


class Observer:
    """Receives the events of a campaign. Override the methods of interest."""

    def phase(self, phase: Phase, total: int | None) -> None:
        """``phase`` begins, with ``total`` sessions to run (None: not known)."""

    def record(self, record: CaseRecord) -> None:
        """One session was run."""

    def failure(self, failure: Failure) -> None:
        """A fault was found and shrunk."""

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""


class Observers(Observer):
    """Passes each event to several observers, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def phase(self, phase: Phase, total: int | None) -> None:
        for observer in self._observers:
            observer.phase(phase, total)

    def record(self, record: CaseRecord) -> None:
        for observer in self._observers:
            observer.record(record)

    def failure(self, failure: Failure) -> None:
        for observer in self._observers:
            observer.failure(failure)

    def note(self, text: str) -> None:
        for observer in self._observers:
            observer.note(text)
