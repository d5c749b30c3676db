"""Collects log events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import (
    ILogObserver,
    LogEvent,
    eventAsText,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer


@implementer(ILogObserver)
class Log:
    """The log events of a namespace, in order."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith(self._namespace):
            self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    @property
    def text(self) -> str:
        """Return all events as text, with tracebacks."""
        return "\n".join(eventAsText(event, includeSystem=False) for event in self.events)

    def lines_of(self, level: str) -> list[str]:
        return [formatEvent(each) for each in self.events if each["log_level"].name == level]


@contextmanager
def logged(namespace: str = "echoproto") -> Iterator[Log]:
    """Collect the log events of a namespace, by default those of the package."""
    log = Log(namespace)
    globalLogPublisher.addObserver(log)
    try:
        yield log
    finally:
        globalLogPublisher.removeObserver(log)
