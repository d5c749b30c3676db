"""--log-format json, as a log collector reads it."""

from __future__ import annotations

import json
import signal

import pytest

from tests.system.conftest import Serve
from tests.system.server import say


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_line_is_an_object(serve: Serve, workers: str) -> None:
    server = serve("--log-format", "json", "--log", "connections", "--workers", workers)
    port = int(server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
    with server.connect(port=port) as client:
        assert say(client, b"data") == b"data"
    server.wait_for('"message": ".*closed ')
    server.signal(signal.SIGTERM)
    server.wait()
    lines = [json.loads(line) for line in server.lines]
    (closed,) = (line for line in lines if "closed 127.0.0.1" in line["message"])
    assert closed["level"] == "info"
    assert closed["system"] == "echoproto"
    assert closed["event"] == "connection_closed"
    assert closed["error"] is None
    assert all(line["event"] for line in lines)
    assert closed["bytes"] == 4
    assert closed["client"].startswith("127.0.0.1:")
    assert isinstance(closed["seconds"], float)
    assert (closed.get("worker") in ("worker 1", "worker 2")) == (workers == "2")
