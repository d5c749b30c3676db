"""The log as JSON."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from echoproto.command.json_log import LogFormat, choose, event_as_json, json_observer
from echoproto.command.log_file import LogFile
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
        "event": "connection_closed",
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
    assert fields({"log_level": None, "time": 1.0, "isError": 0, "mine": 1}) == {
        "mine": 1,
        "event": "other",
    }


def test_the_observer_writes_to_its_file() -> None:
    file = io.StringIO()
    json_observer(file)(event("hello"))
    assert json.loads(file.getvalue())["message"] == "hello"


TWISTD = {"nodaemon": True, "logfile": None, "logger": None}


def test_twistd_finds_the_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    application: Any = Application("echo")
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    choose(LogFormat.JSON, application, TWISTD, None)
    ILogObserver(application)(event("hello"))
    assert json.loads(terminal.getvalue())["message"] == "hello"


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_a_file_is_written_in_either_format(log_format: LogFormat, tmp_path: Path) -> None:
    application: Any = Application("echo")
    file = LogFile(str(tmp_path / "echo.log"))
    choose(log_format, application, TWISTD, file)
    observer: Any = ILogObserver(application)
    observer(event("hello"))
    (tmp_path / "echo.log").rename(tmp_path / "moved.log")
    observer(event("still there"))
    file.reopen()
    observer(event("again"))
    file.close()
    moved, new = ((tmp_path / name).read_text() for name in ("moved.log", "echo.log"))
    if log_format is LogFormat.JSON:
        assert [json.loads(line)["message"] for line in moved.splitlines()] == [
            "hello",
            "still there",
        ]
        assert json.loads(new)["message"] == "again"
    else:
        assert re.fullmatch(r"\S+ \[echoproto.test#info\] hello\n\S+ .*still there\n", moved)
        assert new.endswith("again\n")


def test_twist_gets_the_observer_too() -> None:
    program: dict[str, Any] = {"fileLogObserverFactory": None}
    application: Any = Application("echo")
    choose(LogFormat.JSON, application, program, None)
    assert program["fileLogObserverFactory"] is json_observer


def test_the_text_format_is_that_of_the_program() -> None:
    application: Any = Application("echo")
    choose(LogFormat.TEXT, application, {"logger": None}, None)
    choose(LogFormat.JSON, application, None, None)
    assert application.getComponent(ILogObserver, None) is None
