"""Each log line of the server has a name that stays."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import echoproto
from echoproto.base.log_events import OTHER, event_name

PACKAGE = Path(echoproto.__file__).parent
LOGGERS = re.compile(r"(self\.)?_log|self\._warnings")
LEVELS = ("debug", "info", "warn", "error", "critical", "failure")

# Calls whose line is that of another call: they pass its name on.
PASS_ON = {("base/rate_limited_log.py", "self._log")}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a logger in the serve wing, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name.startswith("probe/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
            ):
                of_logger = ast.unparse(node.func.value)
                known = LOGGERS.fullmatch(of_logger) or "Logger(" in of_logger
                if known and (name, of_logger) not in PASS_ON:
                    yield f"{name}:{node.lineno}", node


def has_name(call: ast.Call) -> bool:
    if any(keyword.arg == "event" for keyword in call.keywords):
        return True
    # The kind of a warning that is counted comes before its line.
    first = call.args[1] if "_warnings" in ast.unparse(call.func) else call.args[0]
    text = next(
        node.value
        for node in ast.walk(first)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return event_name({"log_format": text, "log_namespace": "echoproto"}) != OTHER


def test_each_call_has_a_name() -> None:
    found = dict(calls())
    assert len(found) > 30
    unnamed = [place for place, call in found.items() if not has_name(call)]
    assert not unnamed, "add these lines to base/log_events.py"


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({}, OTHER),
        ({"log_format": None, "log_namespace": "echoproto"}, OTHER),
        ({"log_format": "opened {client}", "log_namespace": "echoproto"}, "connection_opened"),
        ({"log_format": "opened {client}", "log_namespace": "twisted"}, OTHER),
        ({"log_format": "closed {client}: x", "log_namespace": "echoproto"}, "connection_closed"),
        (
            {"log_format": "closed {clients} waiting", "log_namespace": "echoproto"},
            "waiting_clients_closed",
        ),
        ({"log_format": "[{worker}] {text}", "event": "drained"}, "drained"),
        ({"log_format": "x", "event": 5}, OTHER),
    ],
)
def test_the_name(event: dict[str, object], name: str) -> None:
    assert event_name(event) == name
