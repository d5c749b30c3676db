"""The log as JSON."""

from __future__ import annotations

import io
import json
import math
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from echoproto.command.json_log import LogFormat, choose, event_as_json, json_observer
from echoproto.workers.log_relay import fields


def event(*arguments: Any, **members: Any) -> Any:
    """Return the event that a logger passes to its observer."""
    seen: list[Any] = []

    def observe(event: Any) -> None:
        seen.append(event)

    Logger(namespace="echoproto.test", observer=observe).info(*arguments, **members)  # type: ignore[arg-type]
    return seen[0]


def test_a_line_has_the_message_and_the_members_of_the_event() -> None:
    line = event_as_json(event("closed {client}: {bytes} bytes", client="192.0.2.1:5", bytes=4))
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("time"))
    assert told == {
        "level": "info",
        "system": "echoproto.test",
        "message": "closed 192.0.2.1:5: 4 bytes",
        "client": "192.0.2.1:5",
        "bytes": 4,
    }


def test_values_that_json_cannot_hold() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("no")

    told = json.loads(
        event_as_json(
            event("x", nan=math.nan, half=0.5, data=b"\xff", broken=Broken(), text="a\nb\ud800")
        )
    )
    assert told["nan"] == "nan"
    assert told["half"] == 0.5
    assert told["data"] == r"b'\xff'"
    assert told["broken"] == "<Broken: ValueError>"
    assert told["text"] == "a\nb\ud800"


def test_a_failure_has_its_traceback() -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError:
        told = json.loads(event_as_json(event("failed", log_failure=Failure())))
    assert told["message"] == "failed"
    assert "what went wrong" in told["traceback"]


def test_an_empty_event_is_a_line_too() -> None:
    assert json.loads(event_as_json({}))["message"] == ""
    assert fields({"log_level": None, "time": 1.0, "isError": 0, "mine": 1}) == {"mine": 1}


def test_the_observer_writes_to_its_file() -> None:
    file = io.StringIO()
    json_observer(file)(event("hello"))
    assert json.loads(file.getvalue())["message"] == "hello"


def test_twistd_finds_the_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    application: Any = Application("echo")
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    choose(LogFormat.JSON, application, {"nodaemon": True, "logfile": None, "logger": None})
    ILogObserver(application)(event("hello"))
    assert json.loads(terminal.getvalue())["message"] == "hello"


def test_a_daemon_logs_to_a_file_and_rotates_it_on_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twisted.internet.testing import MemoryReactorClock

    class Reactor(MemoryReactorClock):
        def callFromThread(self, what: Any, *args: object, **named: object) -> None:
            what(*args, **named)

    monkeypatch.setattr("twisted.internet.reactor", Reactor(), raising=False)
    opened: list[LogFile] = []

    def open_log(path: str) -> LogFile:
        opened.append(LogFile(path, "."))
        return opened[0]

    monkeypatch.setattr("echoproto.command.json_log.LogFile.fromFullPath", open_log)
    monkeypatch.chdir(tmp_path)
    application: Any = Application("echo")
    before = signal.getsignal(signal.SIGUSR1)
    try:
        choose(LogFormat.JSON, application, {"nodaemon": False, "logfile": None, "logger": None})
        observer: Any = ILogObserver(application)
        observer(event("hello"))
        signal.raise_signal(signal.SIGUSR1)
        observer(event("again"))
    finally:
        signal.signal(signal.SIGUSR1, before)
        opened[0].close()
    old, new = (tmp_path / name for name in ("twistd.log.1", "twistd.log"))
    assert json.loads(old.read_text())["message"] == "hello"
    assert json.loads(new.read_text())["message"] == "again"


def test_twist_gets_the_observer_too() -> None:
    program: dict[str, Any] = {"fileLogObserverFactory": None}
    application: Any = Application("echo")
    choose(LogFormat.JSON, application, program)
    assert program["fileLogObserverFactory"] is json_observer


def test_the_text_format_is_that_of_the_program() -> None:
    application: Any = Application("echo")
    choose(LogFormat.TEXT, application, {"logger": None})
    choose(LogFormat.JSON, application, None)
    assert application.getComponent(ILogObserver, None) is None
