"""How the log of a worker becomes part of its parent's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
)
from zope.interface import provider

from echoproto.base.log_events import event_name

# What an event has twice, for readers of twisted.python.log.
_LEGACY = frozenset(("format", "isError", "message", "system", "time"))

# Numbers for which JSON has no word are written as text, as all other values are.
_PLAIN = (str, int, bool, type(None))


def fields(event: LogEvent) -> dict[str, Any]:
    """Return the members that the author of an event gave it, as JSON can hold them.

    :param event: of ``twisted.logger``.
    :returns: the members, and the name of the event as ``event``.
    """
    members = {
        name: value if isinstance(value, _PLAIN) else _as_json(value)
        for name, value in event.items()
        if not name.startswith("log_") and name not in _LEGACY
    }
    return {**members, "event": event_name(event)}


def _as_json(value: object) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def relaying_observer(send: Callable[..., None]) -> ILogObserver:
    """Return a worker's log observer, which has the parent log everything.

    :param send: sends a message to the parent.
    """

    @provider(ILogObserver)
    def relay(event: LogEvent) -> None:
        send(
            "log",
            level=event["log_level"].name,
            system=event["log_namespace"],
            text=eventAsText(event, includeTimestamp=False, includeSystem=False),
            fields=fields(event),
        )

    # The parent itself logs that a port is open or a loop has ended,
    levels = LogLevelFilterPredicate(LogLevel.warn)
    levels.setLogLevelForNamespace("echoproto", LogLevel.info)
    # and how far all workers are with a drain.
    levels.setLogLevelForNamespace("echoproto.progress", LogLevel.warn)
    return FilteringLogObserver(relay, [levels])


def log_relayed(worker: str, level: str, system: str, text: str, fields: dict[str, Any]) -> None:
    """Log in the parent what a worker has logged, under the worker's namespace.

    :param worker: its name.
    :param level: of the event, as are the others.
    """
    event = {**fields, "worker": worker, "text": text}
    # The names of emit()'s own arguments.
    for taken in ("self", "level", "format"):
        event.pop(taken, None)
    Logger(namespace=system).emit(LogLevel.lookupByName(level), "[{worker}] {text}", **event)
