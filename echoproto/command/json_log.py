"""Log lines for machines: an event is a JSON object on a line of its own.

Twisted's own ``jsonFileLogObserver`` writes events to be loaded by Twisted
again: what a line says is not among its members. Here it is, with the members
that a log collector asks for, and an event's own ones beside them.
"""

from __future__ import annotations

import json
import signal
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
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from echoproto.workers.log_relay import fields


class LogFormat(str, Enum):
    """How a log line is written."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """An object a line, for programs."""

    def __str__(self) -> str:
        return self.value


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def event_as_json(event: LogEvent) -> str:
    """Write an event as one line.

    Its members are ``time`` (RFC 3339, UTC), ``level``, ``system``
    (the module, as a rule), ``message`` (the line as people see it),
    ``traceback`` if there is one, and the event's own, as ``client``.

    :param event: of ``twisted.logger``.
    :returns: the line, with its end.
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
    """Return an observer that writes each event to a file as a line of JSON."""
    return FileLogObserver(file, event_as_json)


def choose(
    log_format: LogFormat, application: Componentized, program: Mapping[str, Any] | None
) -> None:
    """Let an application that twistd or twist runs log in a format.

    :param log_format: the one to log in.
    :param application: where twistd looks for a log observer.
    :param program: the options of ``twistd`` or ``twist``; ``None`` where there are none.
    """
    if log_format is LogFormat.TEXT or program is None:
        return
    if "fileLogObserverFactory" in program:
        # twist reads it after the service was made, and looks for no observer.
        program["fileLogObserverFactory"] = json_observer  # type: ignore[index]
    else:
        application.setComponent(ILogObserver, json_observer(_open_log(program)))


def _open_log(twistd: Mapping[str, Any]) -> Any:
    """Open the log where twistd itself would."""
    path = twistd.get("logfile")
    if path == "-" or (twistd.get("nodaemon") and not path):
        return sys.stdout
    file = LogFile.fromFullPath(path or "twistd.log")
    _rotate_at_signal(file)
    return file


def _rotate_at_signal(file: LogFile) -> None:
    """Rotate a log at SIGUSR1, as twistd does; without a handler it ends the process."""

    def rotate(signum: int, frame: object) -> None:
        from twisted.internet import reactor

        running: Any = reactor
        running.callFromThread(file.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
