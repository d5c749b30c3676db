"""The log as JSON: each event is one object on one line.

Twisted has an observer of its own, ``jsonFileLogObserver``. Its output is meant
to be loaded by Twisted again and does not contain the formatted message. The
observer here writes the message and the members that a log collector needs,
together with the members of the event.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    eventAsText,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.components import Componentized

from echoproto.command.log_file import LogFile
from echoproto.workers.log_relay import fields


class LogFormat(str, Enum):
    """The format of the log."""

    TEXT = "text"
    """Lines of text."""
    JSON = "json"
    """One JSON object per line."""

    def __str__(self) -> str:
        return self.value


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def event_as_json(event: LogEvent) -> str:
    """Format an event as a JSON object on one line.

    The members of the object are ``time`` (RFC 3339, UTC), ``level``, ``system``
    (the namespace of the logger), ``message`` (the text of the line), ``event`` (what
    happened, as one stable word; ``other`` for lines of other packages),
    ``traceback`` if the event has one, and the members of the event, such as
    ``client``.

    :param event: an event of ``twisted.logger``.
    :returns: the line, including the newline.
    """
    level = event.get("log_level")
    line = {
        "time": _time(event.get("log_time")),
        "level": "info" if level is None else level.name,
        "system": event.get("log_namespace") or str(event.get("system", "-")),
        "message": formatEvent(event),
    }
    for name, value in fields(event).items():
        line.setdefault(name, value)
    if event.get("log_failure") is not None:
        line["traceback"] = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return json.dumps(line) + "\n"


def json_observer(file: IO[Any]) -> ILogObserver:
    """Return an observer that writes each event as one line of JSON.

    :param file: an open text file.
    """
    return FileLogObserver(file, event_as_json)


def choose(
    log_format: LogFormat,
    application: Componentized,
    program: Mapping[str, Any] | None,
    file: LogFile | None,
) -> None:
    """Set the log format of an application that twistd or twist runs.

    :param log_format: the format.
    :param application: the component in which twistd looks for a log observer.
    :param program: the options of ``twistd`` or ``twist``; ``None`` if neither runs
        the application. The program's own format is kept in this case.
    :param file: the file that twistd logs to, if it is one.
    """
    if program is None:
        return
    if file is not None:
        # In either format: twistd's own log file cannot be opened again.
        opened: Any = file
        as_json = log_format is LogFormat.JSON
        observer = json_observer(opened) if as_json else textFileLogObserver(opened)
        application.setComponent(ILogObserver, observer)
    elif log_format is LogFormat.TEXT:
        return
    elif "fileLogObserverFactory" in program:
        # twist reads this option after it has made the service. It does not look for an
        # observer in the application.
        program["fileLogObserverFactory"] = json_observer  # type: ignore[index]
    else:
        application.setComponent(ILogObserver, json_observer(sys.stdout))
