"""Every file under docs/examples/ does what it shows."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.server import BIN, PATIENCE, Server, running, say
from tests.system.test_connections import needs_ipv6

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@contextmanager
def tac(name: str, directory: Path) -> Iterator[Server]:
    """Run a .tac on a free port."""
    text = (EXAMPLES / name).read_text()
    assert "9999" in text
    (directory / name).write_text(text.replace("9999", "0"))
    command = [str(BIN / "twistd"), "--pidfile=", "-ny", name]
    with running(command, cwd=directory) as server:
        yield server


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_example_is_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".tac")}
    assert names == {
        "ask.py",
        "beside.tac",
        "echo.tac",
        "embedded.py",
        "from_asyncio.py",
        "shared.py",
        "shout.tac",
    }


def test_echo_tac(tmp_path: Path) -> None:
    with tac("echo.tac", tmp_path) as server, server.connect() as client:
        assert say(client, b"data") == b"data"


@needs_ipv6
def test_beside_tac(tmp_path: Path) -> None:
    with tac("beside.tac", tmp_path) as server:
        with server.connect("::1") as client:
            assert say(client, b"data") == b"data"
        server.wait_for(r"listening on unix:echo\.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(tmp_path / "echo.sock"))
            assert say(client, b"more") == b"more"
        # The other service tells its totals at the start, and every ten seconds.
        server.wait_for("0 of 0 connections open, 0 bytes echoed")
        server.wait_for("closed unix:: 4 bytes")


def test_shout_tac(tmp_path: Path) -> None:
    with tac("shout.tac", tmp_path) as server, server.connect() as client:
        assert say(client, b"data") == b"DATA"


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("embedded.py", "b'data'\n"),
        ("from_asyncio.py", "b'data'\n"),
        ("shared.py", "3 connections, 12 bytes echoed\n"),
    ],
)
def test_programs(name: str, printed: str) -> None:
    assert run(sys.executable, str(EXAMPLES / name)) == printed


def test_ask(shared_server: Server) -> None:
    where = f"tcp:127.0.0.1:{shared_server.port}"
    said = run(sys.executable, str(EXAMPLES / "ask.py"), where, "Hello, echo")
    assert said == "11 bytes came back, identical\n"
